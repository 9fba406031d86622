"""Quarantines a stage's input rows that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pathoflow.contract.output import StageOutput
from pathoflow.data.trainable.text_checks import Fault

Row = Mapping[str, Any]


def quarantine_faulty(
    rows: Iterable[Row], fault_of: Callable[[Row], Fault | None], name_of: Callable[[Row], str], out: StageOutput
) -> list[int]:
    """Quarantines the rows that have a fault; `num_in` counts all of them, and `num_out` the others.

    Args:
        rows: What the stage is given.
        fault_of: What keeps a row from being used, None if nothing does.
        name_of: What its user would call it.
        out: Where rows are set aside and counted.

    Returns:
        The numbers of the rows that were set aside, from 0.
    """
    skipped = []
    for number, row in enumerate(rows):
        out.num_in += 1
        if fault := fault_of(row):
            out.quarantine(name_of(row), *fault)
            skipped.append(number)
        else:
            out.num_out += 1
    return skipped
