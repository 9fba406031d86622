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
        rows: Input rows of the stage.
        fault_of: Returns why a row cannot be used, None if it can.
        name_of: Returns a row's name for its user.
        out: Counts and quarantines the rows.

    Returns:
        The numbers of the quarantined rows, from 0.
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
