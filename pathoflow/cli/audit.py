"""`pathoflow audit`: the walk on a terminal, and the files that it leaves."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.tree import Tree

from pathoflow.contract.code import REPOSITORY
from pathoflow.errors import ConfigError
from pathoflow.governance.audit import AuditReport, Link, Places, Verdict, audit
from pathoflow.governance.registry.access import Registry
from pathoflow.governance.registry.trust import check_trust
from pathoflow.system.files import write_atomically

_WIDE = 400
_LOOKS = {
    Verdict.PASS: "[green]PASS[/]",
    Verdict.FAIL: "[bold red]FAIL[/]",
    Verdict.UNKNOWN: "[bold yellow]UNKNOWN[/]",
}


@dataclass(frozen=True)
class AuditOptions:
    """Options of `pathoflow audit`.

    Attributes:
        asked: The version.
        workdir: A local run; None for the configured services.
        sources: Where to look for files from outside.
        code: The clone that has the recorded commits; None for this one.
        with_md5: Whether DVC's digests are checked, too.
        json: Where the report goes as JSON; `-` for standard output.
        html: Where the dossier goes.
        bom: Where the bill of materials goes.
        attest: Where the signed statement goes.
        key: The key that signs it.
    """

    asked: str
    workdir: Path | None = None
    sources: Path | None = None
    code: Path | None = None
    with_md5: bool = False
    json: Path | None = None
    html: Path | None = None
    bom: Path | None = None
    attest: Path | None = None
    key: Path | None = None


def run_audit(options: AuditOptions) -> int:
    """Audits, prints the verdicts, writes the files asked for and returns 0, 1 or 2 for PASS, FAIL or UNKNOWN.

    Raises:
        ConfigError: A statement is wanted and no key given.
        InputError: There is no such version or work directory.
        SignatureError: The key cannot be used.
    """
    # A server that is away is a verdict; waiting minutes for it helps nobody.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    if options.attest is not None and options.key is None:
        raise ConfigError("--attest needs --key FILE, the private key that signs the statement.")
    repository = options.code or REPOSITORY
    if options.workdir:
        places = Places.of_workdir(options.workdir, sources=options.sources, repository=repository)
    else:
        places = Places.from_environment(sources=options.sources, repository=repository)
    report = _audit_visibly(options, places)
    to_terminal = options.json is None or str(options.json) != "-"
    if to_terminal:
        print_report(report)
    _write(report, options)
    return report.verdict.exit_code


def print_report(report: AuditReport) -> None:
    """Prints a tree of the subjects; what is not well is told line by line."""
    console = Console()
    if not console.is_terminal:
        # In a file or a pipe, a line is not to be cut.
        console = Console(width=_WIDE)
    aliases = f" ({', '.join(report.aliases)})" if report.aliases else ""
    title = f"[bold]{escape(report.model)}/{escape(report.version)}[/]{escape(aliases)}"
    tree = Tree(f"{title}  {_LOOKS[report.verdict]}")
    for subject in report.subjects():
        links = report.of(subject)
        problems = [link for link in links if link.verdict is not Verdict.PASS]
        size = sum(link.num_bytes for link in links)
        amount = f", {size:,} bytes" if size else ""
        good = f"[dim]{len(links) - len(problems)} of {len(links)} checks{amount}[/]"
        branch = tree.add(f"{escape(subject)}  {_LOOKS[_worst(links)]}  {good}")
        for link in problems:
            branch.add(f"{_LOOKS[link.verdict]} {_sentence(link)}")
    console.print(tree, highlight=False)
    speed = report.num_bytes / 1e6 / max(report.took_s, 1e-9)
    console.print(
        f"{report.num_bytes:,} bytes hashed in {report.took_s:.1f} s ({speed:,.0f} MB/s). "
        f"Verdict: {_LOOKS[report.verdict]}",
        highlight=False,
    )


def _audit_visibly(options: AuditOptions, places: Places) -> AuditReport:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(pulse_style="cyan"), DownloadColumn(), TransferSpeedColumn())
    lock = threading.Lock()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("hashing", total=None)

        def advance(num_bytes: int) -> None:
            with lock:
                progress.advance(task, num_bytes)

        watched = advance if console.is_terminal else None
        check = partial(check_trust, partial(_open_registry, options.workdir))
        return audit(options.asked, places, with_md5=options.with_md5, check_trust=check, progress=watched)


def _open_registry(workdir: Path | None) -> Registry:
    return Registry.of_workdir(workdir) if workdir else Registry.from_environment()


def _write(report: AuditReport, options: AuditOptions) -> None:
    if options.json is not None:
        text = report.model_dump_json(indent=2)
        if str(options.json) == "-":
            print(text)
        else:
            write_atomically(options.json, text + "\n")
    if options.html is not None:
        from pathoflow.governance.audit.dossier import render

        write_atomically(options.html, render(report))
    if options.bom is not None:
        from pathoflow.governance.audit.bom import bill_of_materials

        write_atomically(options.bom, bill_of_materials(report))
    if options.attest is not None and options.key is not None:
        from pathoflow.governance.audit.attestation import attest
        from pathoflow.governance.signing import KeyFile

        write_atomically(options.attest, attest(report, KeyFile.load(options.key)) + b"\n")


def _sentence(link: Link) -> str:
    return f"{escape(link.check)}: {escape(link.detail)} [dim]({escape(link.where)})[/]"


def _worst(links: list[Link]) -> Verdict:
    from pathoflow.governance.audit.report import worst

    return worst([link.verdict for link in links])
