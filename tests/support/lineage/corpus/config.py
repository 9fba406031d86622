"""Configuration of the stand-in for `corpus`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pathoflow.contract.config import StageConfig


class CorpusConfig(StageConfig):
    stage: ClassVar[str] = "corpus"
    inputs: ClassVar[tuple[str, ...]] = ("textbook_pairs",)

    heldout_every: int = Field(default=4, ge=2, description="Each n-th pair is held out.")
