"""Shows the findings of `pathoflow doctor`."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pathoflow.cluster.findings import Finding
from pathoflow.errors import ClusterError

_MARKS = {"ok": ("✔", "green"), "warning": ("!", "yellow"), "failed": ("✘", "bold red"), "unknown": ("?", "cyan")}


def show(findings: Sequence[Finding], *, as_json: bool) -> int:
    """Prints one line per finding, and the remedy beneath; returns the exit code."""
    failed = [finding for finding in findings if finding.level == "failed"]
    if as_json:
        print(json.dumps([finding._asdict() for finding in findings], indent=2))
        return ClusterError.exit_code if failed else 0
    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for finding in findings:
        mark, style = _MARKS[finding.level]
        table.add_row(Text(mark, style=style), Text(finding.what), Text(finding.detail))
        if finding.remedy:
            table.add_row("", "", Text(f"→ {finding.remedy}", style=style))
    console = Console()
    console.print(table)
    counts = {level: sum(finding.level == level for finding in findings) for level in _MARKS}
    console.print(", ".join(f"{count} {level}" for level, count in counts.items() if count))
    return ClusterError.exit_code if failed else 0
