"""Configuration of the `sft` stage."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from pathoflow.training.config import FineTuningConfig


class SftConfig(FineTuningConfig):
    """Settings of fine-tuning, and of the dev accuracy at which it stops."""

    stage: ClassVar[str] = "sft"
    inputs: ClassVar[tuple[str, ...]] = ("reasoning_data", "cpt")
    key_metric: ClassVar[str | None] = "dev_accuracy"

    answer_weight: float = Field(
        default=1.0,
        gt=0.0,
        le=1000.0,
        description="Weight in the loss of what stands between `<answer>` and `</answer>`; other tokens count 1.",
    )
    dev_questions: int = Field(
        default=256,
        ge=0,
        description="Multiple-choice questions of reasoning_data/dev answered now and then; 0 for none.",
    )
    dev_every_steps: int = Field(default=500, ge=1, description="Optimiser steps between such examinations.")
    dev_batch_size: int = Field(default=64, ge=1, le=4096, description="Questions that a process answers at a time.")
    max_response_tokens: int = Field(default=512, ge=1, le=8192, description="Longest response to a dev question.")
    stop_at_dev_accuracy: float | None = Field(
        default=None,
        gt=0.0,
        le=1.0,
        description="Stop once this share of the dev questions is answered correctly; null trains to the end. "
        "Stopping early leaves reinforcement learning something to gain.",
    )
