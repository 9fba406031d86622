"""One package per stage, grouped by what the stages do."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

from pathoflow.contract.config import StageConfig


@cache
def catalogue() -> dict[str, type[StageConfig]]:
    """Every stage's configuration class by stage name, each stage after those whose output it takes.

    Found by looking for `<group>/<stage>/config.py`; nothing heavy is imported.
    """
    found: dict[str, type[StageConfig]] = {}
    for path in sorted(Path(__file__).parent.glob("*/*/config.py")):
        module = importlib.import_module(".".join(("components", *path.parts[-3:-1], "config")))
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, StageConfig) and value.__module__ == module.__name__:
                found[value.stage] = value
    ordered: dict[str, type[StageConfig]] = {}

    def place(stage: str) -> None:
        for source in found[stage].inputs:
            place(source)
        ordered.setdefault(stage, found[stage])

    for stage in found:
        place(stage)
    return ordered
