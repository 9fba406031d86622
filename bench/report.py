"""Prints a benchmark's results: a table for people and, last, one line of JSON for machines."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """Measured figure.

    Attributes:
        name: Name of the measurement.
        value: The figure.
        unit: Its unit.
        against: The peer or the bar that it stands against.
        goal: The bar in the figure's own unit; lower is better unless `higher_is_better`.
        higher_is_better: Whether a higher figure is better.
    """

    name: str
    value: float
    unit: str
    against: str
    goal: float
    higher_is_better: bool = False

    @property
    def holds(self) -> bool:
        """True if the goal is met."""
        return self.value >= self.goal if self.higher_is_better else self.value <= self.goal


def conclude(title: str, figures: list[Figure]) -> None:
    """Prints the figures and exits 1 if a goal does not hold."""
    table = Table("figure", "value", "goal", "against", "holds", title=title, title_justify="left")
    for figure in figures:
        sign = "≥" if figure.higher_is_better else "≤"
        verdict = "[green]yes[/]" if figure.holds else "[bold red]no[/]"
        table.add_row(
            figure.name,
            f"{figure.value:.3g} {figure.unit}",
            f"{sign} {figure.goal:g}",
            figure.against,
            verdict,
        )
    Console().print(table)
    print(json.dumps([asdict(figure) | {"holds": figure.holds} for figure in figures]))
    sys.exit(0 if all(figure.holds for figure in figures) else 1)
