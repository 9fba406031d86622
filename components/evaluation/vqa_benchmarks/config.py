"""Configuration of the `vqa_benchmarks` stage."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from pathoflow.contract.config import ImageKind, StageConfig

Protocol = Literal["generation", "letter_likelihood"]
"""How an answer is had: read from what the model writes, or taken as its most likely option letter."""

Precision = Literal["float32", "bfloat16"]


class Protocols(BaseModel):
    """The protocol by which each model's accuracy is measured.

    A model that was never taught the format writes captions or gibberish: its letter likelihood shows what it knows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base: Protocol = Field(default="generation", description="Of the model before any training here.")
    cpt: Protocol = Field(default="generation", description="Of the model after continued pretraining.")
    sft: Protocol = Field(default="generation", description="Of the model after fine-tuning.")
    rl: Protocol = Field(default="generation", description="Of the model after reinforcement learning.")


class VqaBenchmarksConfig(StageConfig):
    """Settings of the questions, the protocols and the batches."""

    stage: ClassVar[str] = "vqa_benchmarks"
    inputs: ClassVar[tuple[str, ...]] = ("diagnosis_mcqs", "cpt", "sft", "rl")
    image: ClassVar[ImageKind] = "train"
    can_use_gpus: ClassVar[bool] = True
    key_metric: ClassVar[str | None] = "accuracy_rl"

    protocols: Protocols = Field(default=Protocols(), description="How each model's accuracy is measured.")
    generate_for_all: bool = Field(
        default=True,
        description="Let models that are scored by letter likelihood generate, too, for `generation_accuracy_*`.",
    )
    prompt_style: Literal["cot", "cod", "short"] = Field(
        default="cot", description="Which system prompt stands before the question; see `pathoflow.qa.prompts`."
    )
    max_items: int = Field(default=10_000, ge=1, description="Questions asked, at most; a random part of more.")
    seed: int = Field(default=0, ge=0, description="Decides which questions are asked if there are more.")
    max_new_tokens: int = Field(default=1024, ge=1, le=32_768, description="Longest response, in tokens.")
    batch_size: int = Field(default=16, ge=1, le=4096, description="Questions that are answered at once.")
    precision: Precision = Field(default="bfloat16", description="Number format of the models' weights.")
    max_image_pixels: int = Field(
        default=100_000_000, ge=1, description="Larger images are quarantined, in pixels of the file."
    )
    num_processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that share the questions; each takes its own GPU if there are any.",
    )
    num_threads: int | None = Field(
        default=None, ge=1, le=256, description="CPU threads of torch per process; null leaves torch's choice."
    )
