"""Output of the registry's commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pathoflow.errors import RegistryError, SignatureError
from pathoflow.governance.audit import Verdict
from pathoflow.governance.audit.versions import model_stage
from pathoflow.governance.registry import approvals
from pathoflow.governance.registry.access import Registry, answering
from pathoflow.governance.registry.aliases import EnvironmentState
from pathoflow.governance.registry.entries import Entry, LogReport
from pathoflow.governance.registry.gates import Judgement
from pathoflow.governance.registry.intents import check_drift, name_filter, unfinished
from pathoflow.governance.registry.names import ENVIRONMENTS, Environment, registered, split
from pathoflow.governance.registry.policy import load_gates
from pathoflow.governance.registry.promotion import Outcome, Refusal, judge, mend_log, promote, repair_all

_LOOKS = {
    Verdict.PASS: "[green]PASS[/]",
    Verdict.FAIL: "[bold red]FAIL[/]",
    Verdict.UNKNOWN: "[bold yellow]UNKNOWN[/]",
}
_WIDE = 200
_MOVES = ("register", "promote", "rollback", "repair")


def promote_version(
    registry: Registry, asked: str, environment: Environment, recipe: str, *, dry_run: bool, as_json: bool
) -> int:
    """Promotes, or asks the gates only, and prints their verdicts; returns 0, or 9 for a refusal.

    Raises:
        PathoflowError: There is no such version, or the registry cannot be used.
    """
    gates = load_gates(recipe)
    if dry_run:
        registry.require_key()
        judgement = judge(registry, asked, environment, gates)
        _print_judgement(judgement, as_json=as_json, moved=None)
        return 0 if judgement.verdict is Verdict.PASS else Refusal.exit_code
    try:
        outcome = promote(registry, asked, environment, gates)
    except Refusal as refusal:
        _tell(refusal.repaired)
        _print_judgement(refusal.judgement, as_json=as_json, moved=None)
        if not as_json:
            _console().print("[bold red]Refused.[/] The refusal is in the log.")
        return Refusal.exit_code
    _tell(outcome.repaired)
    assert outcome.judgement is not None
    _print_judgement(outcome.judgement, as_json=as_json, moved=outcome)
    if not as_json:
        print_outcome(Outcome(outcome.name, outcome.state))
    return 0


def print_outcome(outcome: Outcome) -> None:
    """Prints where an environment stands after a command."""
    _tell(outcome.repaired)
    champion = outcome.state.champion
    served = f"[bold]{escape(outcome.name)}/{champion}[/] is served" if champion else "nothing is served"
    back = f"; a rollback goes to version {outcome.state.previous}" if outcome.state.previous else ""
    _console().print(f"{escape(outcome.name)}: {served}{back}.", highlight=False)


def approve_version(registry: Registry, asked: str, environment: Environment, days: float, comment: str) -> None:
    """Approves and prints what was signed."""
    given = approvals.approve(registry, asked, environment, days, comment)
    _console().print(
        f"Approval [bold]{given.id}[/] by {escape(given.approver)}: {escape(given.model)} may enter "
        f"{given.environment} with weights {given.weights[:16]}… until {given.expires_at}.",
        highlight=False,
    )


def revoke_approval(registry: Registry, approval_id: str, reason: str) -> None:
    """Revokes and says so."""
    approvals.revoke(registry, approval_id, reason)
    _console().print(f"Approval {escape(approval_id)} counts no more.", highlight=False)


def show_registry(registry: Registry, model: str, *, repair: bool, as_json: bool) -> int:
    """Prints the environments of every model, or of one; returns 0, or 10 if aliases are not where the log says."""
    model, _ = split(model)
    if repair:
        registry.require_key()
        # Nothing can be read of a log whose head is gone.
        _tell(mend_log(registry))
    entries, states = registry.log.entries(), registry.log.head().states
    models = sorted({split(name)[0] for name in states} | ({model} if model else set()))
    models = [name for name in models if not model or name == model]
    if repair:
        _tell([line for name in models for line in repair_all(registry, name)])
        entries, states = registry.log.entries(), registry.log.head().states
    problems = _problems(registry, models, states)
    rows = [row for name in models for row in _rows(registry, name, states, entries)]
    if as_json:
        print(json.dumps({"versions": rows, "problems": problems}, indent=2, ensure_ascii=False))
    else:
        _print_rows(rows, entries, models)
        for problem in problems:
            _console().print(f"[bold red]FAIL[/] {escape(problem)}", highlight=False)
    return RegistryError.exit_code if problems else 0


def verify_log(registry: Registry, head: str | None, *, as_json: bool) -> int:
    """Checks the log and prints what was found; returns 0, or 8 if it was changed."""
    report = registry.log.verify()
    if head is not None:
        number, _, digest = head.partition(":")
        noted = {str(entry.seq): entry.digest for entry in report.entries}
        if noted.get(number) != digest:
            report.problems.append(f"The log does not hold entry {number} with digest {digest} that was noted earlier.")
    last = report.entries[-1] if report.entries else None
    now = f"{last.seq}:{last.digest}" if last else ""
    if as_json:
        said = {"num_entries": len(report.entries), "head": now, "problems": report.problems, "notes": report.notes}
        print(json.dumps(said, indent=2, ensure_ascii=False))
    else:
        _print_log_report(registry, report, now)
    return SignatureError.exit_code if report.problems else 0


def show_log(registry: Registry, model: str, *, as_json: bool) -> None:
    """Prints the decisions."""
    model, _ = split(model)
    entries = [entry for entry in registry.log.entries() if not model or entry.model == model]
    if as_json:
        print(json.dumps([_plain(entry) for entry in entries], indent=2, ensure_ascii=False))
        return
    table = Table("#", "when (UTC)", "who", "key", "what", "model", "", box=None, padding=(0, 1))
    for entry in entries:
        cells = (str(entry.seq), entry.at[:19], entry.actor, entry.signer.name, entry.action, entry.model)
        table.add_row(*map(escape, cells), escape(_about(entry)))
    _console().print(table)


def _print_log_report(registry: Registry, report: LogReport, head: str) -> None:
    console = _console()
    for note in report.notes:
        console.print(f"[yellow]note[/] {escape(note)}", highlight=False)
    for problem in report.problems:
        console.print(f"[bold red]FAIL[/] {escape(problem)}", highlight=False)
    verdict = Verdict.FAIL if report.problems else Verdict.PASS
    console.print(
        f"{_LOOKS[verdict]} {len(report.entries)} entries in {escape(registry.objects.url)}.", highlight=False
    )
    if head and not report.problems:
        console.print(f"Head {head}. Note it elsewhere, and give it to --head next time.", highlight=False)
    console.print(f"Writers are kept apart by {registry.objects.guarantee}.", highlight=False)
    console.print(f"Entries are kept by {registry.objects.retention}.", highlight=False)


def _print_judgement(judgement: Judgement, *, as_json: bool, moved: Outcome | None) -> None:
    if as_json:
        said = {
            "version": judgement.version.label,
            "to": judgement.environment,
            "verdict": judgement.verdict.value,
            "gates": [gate.plain() for gate in judgement.gates],
            "promoted": f"{moved.name}/{moved.state.champion}" if moved else None,
        }
        print(json.dumps(said, indent=2, ensure_ascii=False))
        return
    title = f"{judgement.version.label} to {judgement.environment}"
    table = Table("gate", "verdict", "", title=escape(title), title_justify="left")
    for gate in judgement.gates:
        table.add_row(escape(gate.name), _LOOKS[gate.verdict], escape(gate.detail))
    console = _console()
    console.print(table, highlight=False)
    console.print(f"Verdict: {_LOOKS[judgement.verdict]}", highlight=False)


def _rows(registry: Registry, model: str, states: Mapping[str, Any], entries: Sequence[Entry]) -> list[dict[str, Any]]:
    rows = []
    for environment in ENVIRONMENTS:
        name = registered(model, environment)
        state = EnvironmentState.read(states.get(name))
        with answering(registry.tracking_uri):
            found = registry.client.search_model_versions(name_filter(name), max_results=1000)
        for version in sorted(found, key=lambda version: int(version.version)):
            label = f"{name}/{version.version}"
            told = [entry for entry in entries if entry.details.get("version") == label and entry.action in _MOVES]
            number = int(version.version)
            metrics = {tag.removeprefix("metric."): value for tag, value in version.tags.items() if "metric." in tag}
            rows.append(
                {
                    "model": model,
                    "environment": environment,
                    "version": number,
                    "stage": model_stage(version.tags),
                    "alias": "champion" if number == state.champion else "previous" if number == state.previous else "",
                    "identity": version.tags.get("pathoflow.identity"),
                    "metrics": metrics,
                    "in_log": bool(told),
                    "by": told[-1].actor if told else None,
                    "at": told[-1].at if told else None,
                    "entry": told[-1].seq if told else None,
                }
            )
    return rows


def _print_rows(rows: Sequence[Mapping[str, Any]], entries: Sequence[Entry], models: Sequence[str]) -> None:
    console = _console()
    if not rows:
        console.print("No model is registered.")
        return
    table = Table("model", "version", "", "accuracy", "identity", "by", "when (UTC)", "entry")
    for row in rows:
        accuracy = row["metrics"].get(f"accuracy_{row['stage']}", "")
        style = "bold green" if row["alias"] == "champion" else ""
        table.add_row(
            escape(registered(row["model"], row["environment"])),
            str(row["version"]),
            row["alias"],
            escape(str(accuracy)),
            escape((row["identity"] or "none")[:19]),
            escape(row["by"] or "[not in the log]"),
            (row["at"] or "")[:19],
            str(row["entry"] or ""),
            style=style,
        )
    console.print(table)
    moves = [entry for entry in entries if entry.model in models][-10:]
    console.print("[bold]Latest decisions[/]")
    for entry in moves:
        line = f"{entry.seq:>4}  {entry.at[:19]}  {entry.actor}  {entry.action}  {_about(entry)}"
        console.print(escape(line), highlight=False)


def _problems(registry: Registry, models: Sequence[str], states: Mapping[str, Any]) -> list[str]:
    problems = []
    for model in models:
        if intent := unfinished(registry, model):
            problems.append(
                f"A {intent.action} of {intent.name} is at work, or was killed half-way: the next command about "
                f"{model} finishes it or takes it back; so does `pathoflow registry --repair`."
            )
            continue
        problems += [
            problem
            for environment in ENVIRONMENTS
            if (problem := check_drift(registry, registered(model, environment), states))
        ]
    return problems


def _about(entry: Entry) -> str:
    details = entry.details
    words = [str(details[key]) for key in ("from", "version") if details.get(key)]
    if entry.action == "demote":
        words.append("nothing")
    text = " → ".join(words)
    if entry.action == "refuse":
        failed = [gate["gate"] for gate in details.get("gates", []) if gate["verdict"] != "PASS"]
        text = f"{details.get('from')} to {details.get('to')}: {', '.join(failed)}"
    for key in ("id", "reason", "repaired"):
        if details.get(key):
            text += f" ({details[key]})"
    return text


def _plain(entry: Entry) -> dict[str, Any]:
    return {**entry.__dict__, "signer": entry.signer.name, "details": dict(entry.details)}


def _tell(lines: Sequence[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)


def _console() -> Console:
    console = Console()
    # In a file or a pipe, a line is not to be cut.
    return console if console.is_terminal else Console(width=_WIDE)
