"""`pathoflow lineage`: forward to what stands on something, and back to what it was made from."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from pathoflow.errors import InputError
from pathoflow.governance.audit import Places
from pathoflow.governance.audit.forward import Forward, Use, forward
from pathoflow.governance.audit.index import LineageIndex, update
from pathoflow.governance.audit.stores import UnreachableError

_LOOKS = {Use.TRAINED: "bold red", Use.TUNED: "red", Use.EVALUATED: "yellow", Use.HELD: "dim", Use.DROPPED: "dim"}


def show_lineage(asked: str, workdir: Path | None, index_folder: Path | None, *, ahead: bool, as_json: bool) -> int:
    """Brings the index up to date and prints the answer.

    Raises:
        InputError: Nothing of this name is known, or the registry does not answer and there is no index.
    """
    places = Places.of_workdir(workdir) if workdir else Places.from_environment()
    folder = index_folder or _default_folder(places)
    console = Console(stderr=True)
    with console.status("reading manifests…") as status:
        try:
            index = update(folder, places, lambda what: status.update(f"reading {escape(what)}…"))
        except UnreachableError as error:
            index = LineageIndex.load(folder)
            if not index.versions:
                raise InputError(f"The registry at {places.tracking_uri} does not answer: {error}") from error
            console.print("[yellow]The registry does not answer; the index may lack its latest versions.[/]")
    if ahead:
        answer = forward(index, asked)
        _print_json(_as_json(answer, index)) if as_json else _print_forward(answer, index)
    else:
        found = _ancestry(index, asked)
        _print_json(found) if as_json else _print_back(found)
    return 0


def _print_forward(answer: Forward, index: LineageIndex) -> None:
    console = Console()
    pairs = f", {answer.num_pairs} pairs" if answer.num_pairs else ""
    console.print(f"[bold]{escape(answer.asked)}[/]: {escape('; '.join(answer.matches[:5]))}{pairs}", highlight=False)
    table = Table("output", "identity", "use", title="Where it went", title_justify="left")
    table.add_column("shards", overflow="fold")
    for identity, trace in answer.traces.items():
        uses = ", ".join(f"[{_LOOKS[use]}]{use}[/]" for use in Use if use in trace.uses)
        files = ", ".join(trace.files[:3]) + (f" and {len(trace.files) - 3} more" if len(trace.files) > 3 else "")
        table.add_row(index.outputs[identity].stage, identity[7:19], uses, escape(files))
    console.print(table)
    table = Table("version", "aliases", "use", title="Versions that stand on it", title_justify="left")
    for version, use in answer.versions:
        table.add_row(escape(version.label), escape(", ".join(version.aliases)), f"[{_LOOKS[use]}]{use}[/]")
    console.print(table)
    for problem in answer.problems:
        console.print(f"[yellow]not known[/] {escape(problem)}", highlight=False)


def _as_json(answer: Forward, index: LineageIndex) -> dict[str, Any]:
    return {
        "asked": answer.asked,
        "matches": answer.matches,
        "num_pairs": answer.num_pairs,
        "outputs": [
            {
                "stage": index.outputs[identity].stage,
                "identity": identity,
                "uses": sorted(trace.uses),
                "files": trace.files,
                "through": trace.through,
            }
            for identity, trace in answer.traces.items()
        ],
        "versions": [asdict(version) | {"use": use} for version, use in answer.versions],
        "problems": answer.problems,
    }


def _ancestry(index: LineageIndex, asked: str) -> dict[str, Any]:
    """Returns the outputs that something was made from, as a tree of stage, identity and inputs.

    Raises:
        InputError: Nothing of this name is known.
    """
    start = {
        version.label: version.model
        for version in index.versions
        if asked in (version.name, version.label, *(f"{version.name}@{alias}" for alias in version.aliases))
    }
    start |= {
        f"{output.stage} {identity[7:19]}": identity
        for identity, output in index.outputs.items()
        if asked in (output.stage, identity, identity[7:19])
    }
    if not start:
        known = ", ".join(version.label for version in index.versions[:10]) or "none"
        raise InputError(f"{asked!r} is no version, stage or identity that is known. Versions: {known}.")

    def branch(identity: str, above: tuple[str, ...]) -> dict[str, Any]:
        output = index.outputs.get(identity)
        if output is None or identity in above:
            return {"identity": identity}
        inputs = [branch(source, (*above, identity)) for source in output.inputs.values()]
        sources = [name for name, _ in output.external]
        return {"stage": output.stage, "identity": identity, "inputs": inputs, "sources": sources}

    return {label: branch(identity, ()) for label, identity in start.items()}


def _print_back(found: dict[str, Any]) -> None:
    def grow(tree: Tree, node: dict[str, Any]) -> None:
        made = tree.add(f"{escape(node.get('stage', 'not known'))} [dim]{escape(node['identity'][7:19])}[/]")
        for source in node.get("sources", []):
            made.add(f"[dim]from outside:[/] {escape(source)}")
        for below in node.get("inputs", []):
            grow(made, below)

    for label, node in found.items():
        tree = Tree(f"[bold]{escape(label)}[/]")
        grow(tree, node)
        Console().print(tree, highlight=False)


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2, ensure_ascii=False))


def _default_folder(places: Places) -> Path:
    if places.workdir:
        return places.workdir.state / "lineage"
    name = hashlib.sha256(places.tracking_uri.encode()).hexdigest()[:16]
    return Path.home() / ".cache" / "pathoflow" / "lineage" / name
