"""`pathoflow reproduce`: repeats a version's run and shows what came out the same."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pathoflow.contract.code import REPOSITORY
from pathoflow.errors import InputError
from pathoflow.governance.audit import Places, Verdict, audit
from pathoflow.governance.audit.reproduce import Sameness, check_recorded, reproduce

_LOOKS = {
    Sameness.IDENTICAL: "green",
    Sameness.WITHIN: "cyan",
    Sameness.DIFFERENT: "bold red",
    Sameness.MISSING: "bold red",
}


def repeat(asked: str, workdir: Path, origin: Path | None, sources: Path | None, code: Path | None) -> int:
    """Repeats a version's run and returns 0 if every output is identical or within tolerance, else 1.

    Raises:
        InputError: The work directory is in use, or the records do not suffice.
    """
    workdir = workdir.resolve()
    if workdir.exists() and any(workdir.iterdir()):
        raise InputError(f"{workdir} is not empty. Name a new folder, so that nothing old is taken for the repetition.")
    repository = (code or REPOSITORY).resolve()
    if origin:
        places = Places.of_workdir(origin, sources=sources, repository=repository)
    else:
        places = Places.from_environment(sources=sources, repository=repository)
    console = Console()
    report = audit(asked, places)
    if report.verdict is not Verdict.PASS:
        console.print(
            f"[yellow]The audit of {escape(asked)} says {report.verdict}[/]: {len(report.problems)} problems. The "
            "repetition is compared with what is recorded.",
            highlight=False,
        )
    commit = check_recorded(report, repository)
    log = workdir.with_name(f"{workdir.name}.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    console.print(f"Running commit {commit[:12]} in {workdir}; the log: {log}", highlight=False)
    comparisons = reproduce(report, commit, places, workdir, log)
    table = Table("output", "files", "result", "what differs", title=f"{asked} repeated", title_justify="left")
    for item in comparisons:
        look = _LOOKS[item.sameness]
        files = f"{item.num_same_files} of {item.num_files}"
        table.add_row(item.stage, files, f"[{look}]{item.sameness}[/]", escape(item.detail))
    console.print(table)
    good = all(item.sameness in (Sameness.IDENTICAL, Sameness.WITHIN) for item in comparisons)
    return 0 if good else 1
