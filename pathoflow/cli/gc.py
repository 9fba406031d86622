"""`pathoflow gc`: shows what no registered version needs, and removes it when told to."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pathoflow.errors import InputError
from pathoflow.governance.audit import Places
from pathoflow.governance.audit.gc import Cluster, Item, clean, plan
from pathoflow.governance.audit.stores import UnreachableError

_SHOWN = 8


def collect_garbage(
    workdir: Path | None,
    older_than_days: float,
    backend_store_uri: str | None,
    cluster: Cluster,
    *,
    delete: bool,
    every: bool,
) -> int:
    """Prints the plan and, with `delete`, carries it out.

    Raises:
        InputError: The registry does not answer, what some version needs is not known, or there is no such folder.
    """
    if cluster.checkpoints and not cluster.checkpoints.is_dir():
        raise InputError(f"{cluster.checkpoints} is no folder. Name where the volume with the checkpoints is mounted.")
    places = Places.of_workdir(workdir) if workdir else Places.from_environment()
    try:
        wanted = plan(places, older_than_days, cluster)
    except UnreachableError as error:
        raise InputError(
            f"The registry at {places.tracking_uri} does not answer, so that nothing is known to be safe: {error}"
        ) from error
    console = Console()
    by_kind: dict[str, list[Item]] = defaultdict(list)
    for item in wanted.items:
        by_kind[item.kind].append(item)
    table = Table(
        "what", "name", "bytes", "why it may go", title="Needed by no registered version", title_justify="left"
    )
    for kind, items in by_kind.items():
        for item in items if every else items[:_SHOWN]:
            table.add_row(kind, escape(item.name), f"{item.num_bytes:,}" if item.num_bytes else "", escape(item.why))
        if len(items) > _SHOWN and not every:
            table.add_row(kind, f"… and {len(items) - _SHOWN} more (--all lists them)", "", "")
    if wanted.items:
        console.print(table)
    console.print(
        f"{len(wanted.items)} things, {wanted.num_bytes:,} bytes in files, may go; {wanted.num_kept_runs} runs and "
        f"{wanted.num_kept_objects} objects are needed. Younger than {older_than_days:g} days stays.",
        highlight=False,
    )
    for obstacle in wanted.obstacles:
        console.print(f"[bold red]refused[/] {escape(obstacle)}", highlight=False)
    if not delete:
        console.print("Nothing was removed. `--delete` removes it.")
        return 0
    for line in clean(places, wanted, older_than_days, backend_store_uri, cluster):
        console.print(line, highlight=False)
    return 0
