"""A tiny model with random weights, built by its stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from components.training.base_model.config import BaseModelConfig
from components.training.base_model.stage import run
from tests.support.conversations import TINY_SHAPE
from tests.support.pairs import new_output


def build_base_model(where: Path, corpus: Path, reasoning_data: Path, **values: Any) -> Path:
    """Builds the model of the texts in a corpus and in reasoning data, and returns the stage's output."""
    out = new_output(where / "base_model")
    run(BaseModelConfig(shape=TINY_SHAPE, **values), corpus=corpus, reasoning_data=reasoning_data, out=out)
    return out.path
