"""Configuration of the stand-in for `textbook_pairs`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from pathoflow.contract.config import StageConfig


class TextbookPairsConfig(StageConfig):
    stage: ClassVar[str] = "textbook_pairs"

    books: tuple[Path, ...] = Field(default=(), description="Text files.")

    def external_files(self) -> list[Path]:
        return list(self.books)
