"""What cpt, sft and rl have in common in a recipe."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from pathoflow.config import OutputKind, StageConfig


class TrainingConfig(StageConfig):
    """How a model is trained, whatever it learns from."""

    output: ClassVar[OutputKind] = "model"

    seed: int = Field(default=0, ge=0, description="Decides initial weights, order and sampling.")
    freeze_vision_tower: bool = Field(
        default=True, description="Keep the vision tower's weights; the merger into the language model still learns."
    )
    learning_rate: float = Field(default=1e-5, gt=0.0, le=0.1, description="Highest learning rate of AdamW.")
    scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = Field(
        default="cosine", description="How the learning rate falls after the warm-up."
    )
    warmup_ratio: float = Field(
        default=0.1, ge=0.0, lt=1.0, description="Share of the steps in which the learning rate rises from 0."
    )
    weight_decay: float = Field(default=0.0, ge=0.0, le=1.0, description="AdamW's weight decay.")
    adam_beta2: float = Field(default=0.999, ge=0.5, lt=1.0, description="AdamW's decay of squared gradients.")
    max_gradient_norm: float = Field(default=1.0, gt=0.0, description="Gradients longer than this are scaled to it.")
    batch_size_per_process: int = Field(default=4, ge=1, le=4096, description="Samples per process and forward pass.")
    gradient_accumulation_steps: int = Field(default=1, ge=1, le=4096, description="Forward passes per optimiser step.")
    max_steps: int | None = Field(default=None, ge=1, description="Optimiser steps; null trains for `epochs` instead.")
    epochs: float = Field(default=1.0, gt=0.0, le=1000.0, description="Passes over the data if `max_steps` is null.")
    bf16: bool = Field(default=True, description="Compute in bfloat16; weights stay in float32.")
    gradient_checkpointing: bool = Field(
        default=True, description="Recompute activations in the backward pass: less memory, a third more time."
    )
    deepspeed_stage: Literal[0, 2, 3] = Field(
        default=0, description="DeepSpeed ZeRO stage: 0 is plain data parallelism and needs no DeepSpeed."
    )
    num_processes: int = Field(
        default=1, ge=1, le=64, description="Processes on this machine; on a GPU machine one per GPU."
    )
    threads_per_process: int = Field(
        default=1, ge=1, le=256, description="CPU threads per process; tiny models are fastest with 1."
    )
    data_workers: int = Field(
        default=0, ge=0, le=128, description="Processes that prepare batches, per training process; 0 prepares in it."
    )
    cached_samples: int = Field(
        default=0, ge=0, description="Prepared samples kept in memory per process; for data that fits and repeats."
    )
    max_length_tokens: int = Field(
        default=4096, ge=16, description="Longer samples are quarantined: cutting one would cut its answer."
    )
    save_every_steps: int = Field(default=500, ge=1, description="Optimiser steps between checkpoints.")
    log_every_steps: int = Field(default=10, ge=1, description="Optimiser steps between points of the curves.")
    checkpoint_grace_s: int = Field(
        default=600, ge=1, le=86_400, description="Time to write a checkpoint after SIGTERM, in seconds."
    )

    @model_validator(mode="after")
    def _one_cache_per_process(self) -> TrainingConfig:
        if self.cached_samples and self.data_workers:
            raise ValueError("cached_samples needs data_workers = 0: each worker would fill a cache of its own")
        return self
