"""Configuration of the `corpus` stage."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pathoflow.config import StageConfig


class CorpusConfig(StageConfig):
    """What counts as a duplicate, and which pairs are held out."""

    stage: ClassVar[str] = "corpus"
    inputs: ClassVar[tuple[str, ...]] = ("textbook_pairs", "public_pairs")
    key_metric: ClassVar[str | None] = "num_train"

    heldout: tuple[str, ...] = Field(
        min_length=1,
        description="Glob patterns over `<source>/<source_id>`; what matches is held out for evaluation.",
    )
    dev_share: float = Field(
        default=0.02,
        ge=0.0,
        le=0.5,
        description="Share of the other pages and images that goes to dev, chosen by a hash of their names.",
    )
    near_duplicate_bits: int = Field(
        default=4,
        ge=0,
        le=10,
        description="Two images with the same caption are duplicates if at most this many of the 64 bits of "
        "their perceptual hashes differ.",
    )
    isolation_bits: int = Field(
        default=4,
        ge=0,
        le=10,
        description="A train image at most this many bits from a held-out or dev image is dropped, whatever "
        "its caption.",
    )
    max_captions_per_image: int = Field(
        default=1, ge=1, le=100, description="Different captions of the very same image that are kept."
    )
    shard_mib: int = Field(default=512, ge=1, le=1024, description="Size of a Parquet shard, in MiB.")
    row_group_mib: int = Field(default=64, ge=1, le=100, description="Size of a row group, in MiB.")
