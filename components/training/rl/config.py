"""Configuration of the `rl` stage."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from pathoflow.qa.prompts import PromptStyle
from pathoflow.training.config import TrainingConfig

Algorithm = Literal["grpo", "dapo"]
Gating = Literal["paper", "additive"]


class RlConfig(TrainingConfig):
    """Settings of reinforcement learning: objective, rewards, rollouts and dev measurement.

    `dapo` is DAPO's objective (mean over tokens, asymmetric clipping, no KL) and reward without its dynamic sampling:
    a group whose completions are all right or all wrong gives no gradient, as in DAPO, but no other question takes
    its place. The stage notes that beside its figures.
    """

    stage: ClassVar[str] = "rl"
    inputs: ClassVar[tuple[str, ...]] = ("diagnosis_mcqs", "sft")
    key_metric: ClassVar[str | None] = "dev_accuracy"

    algorithm: Algorithm = Field(
        default="grpo", description="Objective and reward: `grpo` (equations 1 and 3) or `dapo` (equations 2 and 4)."
    )
    shuffle_options: bool = Field(
        default=False,
        description="Put a question's options in a new order each time it is asked: in many passes over few questions "
        "a model may otherwise learn which letter goes with which image.",
    )
    gating: Gating = Field(
        default="paper",
        description="`paper`: the weighted sum of the two rewards counts only if both are 1; `additive`: always.",
    )
    epsilon_low: float = Field(default=0.2, gt=0.0, lt=1.0, description="Probability ratios are clipped at 1 - this.")
    epsilon_high: float | None = Field(
        default=None, gt=0.0, le=10.0, description="Probability ratios are clipped at 1 + this; null: epsilon_low."
    )
    beta: float = Field(
        default=0.01, ge=0.0, le=1.0, description="Weight of the KL divergence from the SFT model; 0 for none."
    )
    num_generations: int = Field(default=5, ge=2, le=1024, description="Completions sampled for each question (G).")
    prompts_per_step: int = Field(
        default=128,
        ge=1,
        le=65_536,
        description="Questions in an optimiser step. Times num_generations it must be num_processes x "
        "batch_size_per_process x gradient_accumulation_steps.",
    )
    steps_per_generation: int = Field(
        default=1, ge=1, le=64, description="Optimiser steps that one round of sampling serves, with as many questions."
    )
    batch_size_per_process: int = Field(
        default=8, ge=1, le=4096, description="Completions per process and forward pass of training."
    )
    gradient_accumulation_steps: int = Field(
        default=80, ge=1, le=4096, description="Forward passes of training per optimiser step."
    )
    learning_rate: float = Field(default=1e-6, gt=0.0, le=0.1, description="Highest learning rate of AdamW.")
    scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = Field(
        default="constant", description="How the learning rate falls after the warm-up."
    )
    warmup_ratio: float = Field(
        default=0.0, ge=0.0, lt=1.0, description="Share of the steps in which the learning rate rises from 0."
    )
    temperature: float = Field(default=1.0, gt=0.0, le=10.0, description="Temperature of sampling.")
    prompt_style: PromptStyle = Field(
        default="cot", description="The system prompt put before each question; see `pathoflow.qa.prompts`."
    )
    max_completion_tokens: int = Field(
        default=2048, ge=2, le=65_536, description="A completion is cut off at this length (L_max)."
    )
    overlong_cache_tokens: int = Field(
        default=512, ge=1, le=65_536, description="The length penalty grows over the last so many tokens (L_cache)."
    )
    max_length_tokens: int = Field(
        default=4096,
        ge=16,
        description="Questions whose prompts are longer, system prompt and images included, are quarantined, of the "
        "dev questions, too.",
    )
    max_pixels: int = Field(
        default=262_144, ge=28 * 28, le=16_777_216, description="Larger images are scaled down to this many pixels."
    )
    save_every_steps: int = Field(default=20, ge=1, description="Optimiser steps between checkpoints.")
    log_every_steps: int = Field(default=1, ge=1, description="Optimiser steps between points of the curves.")
    eval_every_steps: int = Field(
        default=20, ge=1, description="Optimiser steps between measurements on the dev questions."
    )
    eval_batch_size: int = Field(
        default=32, ge=1, le=4096, description="Dev questions that a process answers at a time."
    )

    @property
    def completions_per_step(self) -> int:
        """Completions that an optimiser step learns from."""
        return self.prompts_per_step * self.num_generations

    def bound_to_processes(self) -> str | None:
        """Why other processes cannot go on from a checkpoint: see `TrainingConfig`, and they would sample otherwise."""
        return super().bound_to_processes() or "each process samples completions with random numbers of its own"

    @model_validator(mode="after")
    def _check_objective(self) -> RlConfig:
        if self.algorithm == "grpo" and self.epsilon_high not in (None, self.epsilon_low):
            raise ValueError("grpo clips symmetrically (equation 1): set epsilon_high to null, or algorithm to dapo")
        if self.algorithm == "dapo" and self.beta != 0.0:
            raise ValueError("dapo has no KL term (equation 2): set beta to 0")
        return self

    @model_validator(mode="after")
    def _check_sizes(self) -> RlConfig:
        places = self.num_processes * self.batch_size_per_process * self.gradient_accumulation_steps
        if self.completions_per_step != places:
            raise ValueError(
                f"a step has prompts_per_step x num_generations = {self.completions_per_step} completions, but "
                f"num_processes x batch_size_per_process x gradient_accumulation_steps = {places} places for them"
            )
        if self.overlong_cache_tokens > self.max_completion_tokens:
            raise ValueError("overlong_cache_tokens must not exceed max_completion_tokens")
        if self.save_every_steps % self.steps_per_generation:
            raise ValueError("save_every_steps must be a multiple of steps_per_generation: a resumed run samples anew")
        return self
