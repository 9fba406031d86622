"""Configuration of the `diagnosis_mcqs` stage."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from pathoflow.contract.config import StageConfig
from pathoflow.errors import ConfigError


class DiagnosisMcqsConfig(StageConfig):
    """Settings of the sampling of questions, its strata and their wording."""

    stage: ClassVar[str] = "diagnosis_mcqs"
    inputs: ClassVar[tuple[str, ...]] = ("corpus", "reasoning_data")
    key_metric: ClassVar[str | None] = "num_heldout"

    lexicon: Path = Field(description="YAML file of the diagnoses that captions may name.")
    seed: int = Field(default=0, ge=0, description="Decides which pairs are sampled, and the options.")
    num_train: int = Field(default=10_000, ge=1, description="Questions to train on, at most.")
    num_dev: int = Field(default=500, ge=0, description="Questions to choose a checkpoint by, at most.")
    num_heldout: int = Field(default=1000, ge=0, description="Questions to score models on, at most.")
    tissue_strata: tuple[str, ...] = Field(
        default=("histopathology", "gross examination"),
        description="Subfields that are sampled in proportion to their tissue systems too.",
    )
    num_options: int = Field(default=4, ge=2, le=6, description="Options of a question.")
    language: Literal["en", "zh"] = Field(
        default="en", description="Language of the questions; the images' captions may be in any."
    )
    prompt_style: Literal["cot", "cod", "short"] = Field(
        default="cot", description="How the question is worded; see `pathoflow.qa.prompts`."
    )
    shard_mib: int = Field(default=512, ge=1, le=1024, description="Size of a Parquet shard, in MiB.")

    def external_files(self) -> list[Path]:
        """The lexicon."""
        if not self.lexicon.is_file():
            raise ConfigError(f"diagnosis_mcqs.lexicon: there is no file {self.lexicon}. Correct the path.")
        return [self.lexicon]
