"""Configuration of the `reasoning_data` stage."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, get_args

from pydantic import Field, field_validator

from pathoflow.contract.config import StageConfig
from pathoflow.errors import ConfigError

Task = Literal["mcq", "detailed_description", "complex_reasoning", "multi_turn_conversation"]


class ReasoningDataConfig(StageConfig):
    """Settings of the selection of pairs, of tasks and of their wording."""

    stage: ClassVar[str] = "reasoning_data"
    inputs: ClassVar[tuple[str, ...]] = ("corpus",)
    key_metric: ClassVar[str | None] = "num_train"

    lexicon: Path = Field(description="YAML file of the diagnoses that captions may name.")
    seed: int = Field(default=0, ge=0, description="Decides which pairs are used, for which task, and the options.")
    train_share: float = Field(
        default=0.8,
        gt=0.0,
        le=1.0,
        description="Share of corpus/train that becomes samples; the rest is left for reinforcement learning.",
    )
    dev_share: float = Field(default=0.5, gt=0.0, le=1.0, description="The same for corpus/dev.")
    languages: tuple[Literal["en", "zh"], ...] = Field(
        default=("en", "zh"), min_length=1, description="Languages of the captions used; others are passed by."
    )
    teacher: Literal["template"] = Field(
        default="template",
        description="Who writes: `template` fills fixed sentences from the caption and the in-line references.",
    )
    task_weights: dict[Task, float] = Field(
        default={"mcq": 1.0, "detailed_description": 1.0, "complex_reasoning": 1.0, "multi_turn_conversation": 1.0},
        description="How often each task is drawn, relative to the others.",
    )
    num_options: int = Field(default=4, ge=2, le=6, description="Options of a multiple-choice question.")
    prompt_style: Literal["cot", "short"] = Field(
        default="cot",
        description="`cot` has the paper's system prompt and full sentences; `short` is for models too small for them.",
    )
    max_findings: int | None = Field(
        default=None, ge=1, description="Findings that the thinking of a question quotes, from the first; null for all."
    )
    repeated_words: int = Field(
        default=6, ge=2, le=50, description="Quality check: length of the word sequences looked for, in words."
    )
    max_repeats: int = Field(
        default=2, ge=1, le=50, description="Quality check: how often the same word sequence may occur in a turn."
    )
    shard_mib: int = Field(default=512, ge=1, le=1024, description="Size of a Parquet shard, in MiB.")

    @field_validator("task_weights")
    @classmethod
    def _check_weights(cls, weights: dict[Task, float]) -> dict[Task, float]:
        if min(weights.values(), default=0.0) < 0 or sum(weights.values()) <= 0:
            raise ValueError("weights must be 0 or more, and one above 0")
        # Samples are drawn in this order, and a recipe's order is no part of its digest.
        return {task: weights[task] for task in get_args(Task) if task in weights}

    def external_files(self) -> list[Path]:
        """The lexicon."""
        if not self.lexicon.is_file():
            raise ConfigError(f"reasoning_data.lexicon: there is no file {self.lexicon}. Correct the path.")
        return [self.lexicon]
