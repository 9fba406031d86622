"""Configures what cpt, sft and rl have in common."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from pathoflow.contract.config import ImageKind, OutputKind, StageConfig
from pathoflow.errors import ConfigError


class TrainingConfig(StageConfig):
    """Settings of every training, whatever it learns from."""

    output: ClassVar[OutputKind] = "model"
    image: ClassVar[ImageKind] = "train"
    can_use_gpus: ClassVar[bool] = True
    can_span_nodes: ClassVar[bool] = True
    keeps_checkpoints: ClassVar[bool] = True
    indifferent: ClassVar[frozenset[str]] = frozenset(
        {
            "background_checkpoints",
            "cached_samples",
            "checkpoint_grace_s",
            "collective_timeout_s",
            "data_workers",
            "fewer_gpus",
            "kept_checkpoints",
            "log_every_steps",
            "max_initial_loss_share",
            "max_quarantine_share",
            "needs_gpus",
            "peak_tflops",
            "resume_from",
            "save_every_steps",
        }
    )
    """Keys that a resumed run may change: they do not touch what is learned."""

    seed: int = Field(default=0, ge=0, description="Decides initial weights, order and sampling.")
    freeze_vision_tower: bool = Field(
        default=True,
        description="Keep the vision tower's weights; its merger into the language model is not part of it.",
    )
    freeze_merger: bool = Field(
        default=False, description="Keep the weights of the merger, which turns patches into image tokens."
    )
    freeze_language_model: bool = Field(default=False, description="Keep the language model's weights.")
    lora_rank: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Train low-rank adapters of this rank in the language model's layers instead of its weights; they "
        "are merged in what is written. In rl the model without them is the KL term's reference. Null trains the "
        "weights.",
    )
    lora_alpha: int = Field(default=32, ge=1, description="Adapters' outputs are scaled by lora_alpha / lora_rank.")
    lora_dropout: float = Field(default=0.0, ge=0.0, lt=1.0, description="Dropout of the adapters' inputs.")
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
    offload: Literal["none", "optimizer", "all"] = Field(
        default="none",
        description="What DeepSpeed keeps in the CPU's memory: nothing, the optimiser with its states, or (stage 3) "
        "the weights, too. Fits a larger model and is slower.",
    )
    num_processes: int = Field(
        default=1, ge=1, le=1024, description="Processes on all nodes together; on GPU machines one per GPU."
    )
    needs_gpus: bool = Field(
        default=False, description="Refuse to start on a machine without GPUs, where the CPU would be used instead."
    )
    fewer_gpus: Literal["refuse", "accumulate"] = Field(
        default="refuse",
        description="With fewer GPUs than `num_processes`: refuse to start, or start fewer processes that accumulate "
        "more forward passes each, so that a step learns from as many samples.",
    )
    threads_per_process: int = Field(
        default=1, ge=1, le=256, description="CPU threads per process; tiny models are fastest with 1."
    )
    data_workers: int = Field(
        default=0, ge=0, le=128, description="Processes that prepare batches, per training process; 0 prepares in it."
    )
    cached_samples: int = Field(
        default=0,
        ge=0,
        description="Prepared samples kept in memory per process, and as many dev questions; for data that fits "
        "and repeats.",
    )
    max_length_tokens: int = Field(
        default=4096, ge=16, description="Longer samples are quarantined: cutting one would cut its answer."
    )
    max_initial_loss_share: float | None = Field(
        default=0.75,
        gt=0.0,
        description="Refuse a pretrained model whose loss before the first step is this share or more of "
        "ln(vocabulary size), the loss of guessing: its weights were not loaded. null refuses none.",
    )
    save_every_steps: int = Field(default=500, ge=1, description="Optimiser steps between checkpoints.")
    log_every_steps: int = Field(default=10, ge=1, description="Optimiser steps between points of the curves.")
    kept_checkpoints: int = Field(
        default=2, ge=1, le=100, description="Complete checkpoints that are kept; while one is written, one more."
    )
    background_checkpoints: bool = Field(
        default=False,
        description="Copy what a checkpoint holds into the CPU's memory and write it while training goes on: the pause "
        "is that of the copy, and the memory must hold it.",
    )
    resume_from: str | None = Field(
        default=None,
        description="Absolute path of a complete checkpoint of a run with this configuration and these inputs, from "
        "which to go on where this run has none of its own; null starts from the beginning.",
    )
    peak_tflops: float | None = Field(
        default=None,
        gt=0.0,
        description="Peak of one device in 10^12 operations per second, which the MFU is a share of; null for that "
        "of a known GPU, and for no MFU elsewhere.",
    )
    checkpoint_grace_s: int = Field(
        default=600, ge=1, le=86_400, description="Time to write a checkpoint after SIGTERM, in seconds."
    )
    collective_timeout_s: int = Field(
        default=1800,
        ge=1,
        le=604_800,
        description="One of several processes that stands still for so long, in seconds, waits for another in vain: "
        "the training is ended with words on who was where, and the same command goes on from the last checkpoint. "
        "Loading, dev measurements and checkpoints, during which processes wait for one of them, must take less.",
    )

    @model_validator(mode="after")
    def _something_learns(self) -> TrainingConfig:
        if self.freeze_vision_tower and self.freeze_merger and self.freeze_language_model:
            raise ValueError("freeze_vision_tower, freeze_merger and freeze_language_model leave nothing to learn")
        return self

    @model_validator(mode="after")
    def _adapters_replace_weights(self) -> TrainingConfig:
        if self.lora_rank is None:
            return self
        if self.freeze_language_model or not (self.freeze_vision_tower and self.freeze_merger):
            raise ValueError(
                "lora_rank trains adapters of the language model alone: set freeze_vision_tower and freeze_merger to "
                "true and freeze_language_model to false"
            )
        if self.deepspeed_stage == 3:
            raise ValueError(
                "lora_rank and deepspeed_stage 3 exclude each other: set deepspeed_stage to 2 or 0, as weights that do "
                "not learn have no gradients and no optimiser's states to spread"
            )
        return self

    @model_validator(mode="after")
    def _one_cache_per_process(self) -> TrainingConfig:
        if self.cached_samples and self.data_workers:
            raise ValueError("cached_samples needs data_workers = 0: each worker would fill a cache of its own")
        return self

    @model_validator(mode="after")
    def _offloading_takes_deepspeed(self) -> TrainingConfig:
        needed = {"none": 0, "optimizer": 2, "all": 3}[self.offload]
        if self.deepspeed_stage < needed:
            raise ValueError(f"offload {self.offload} needs deepspeed_stage {needed}{' or 3' if needed == 2 else ''}")
        return self

    def processes_per_node(self, nodes: int) -> int:
        """Returns the number of processes on each node.

        Raises:
            ConfigError: They cannot share the processes evenly.
        """
        if self.num_processes % nodes:
            raise ConfigError(
                f"{self.stage}.num_processes is {self.num_processes}, which {nodes} nodes cannot share evenly. It "
                "counts the processes on all nodes: set it to a multiple of compute.nodes."
            )
        return self.num_processes // nodes

    def check_nodes(self, nodes: int) -> None:
        """Refuses a number of nodes that cannot share the processes evenly.

        Raises:
            ConfigError: Says which numbers of processes can be shared.
        """
        self.processes_per_node(nodes)

    def bound_to_processes(self) -> str | None:
        """Returns why another number of processes cannot resume from a checkpoint; None if it can."""
        if self.deepspeed_stage:
            return "ZeRO spreads the optimiser's states over as many processes as there were"
        if self.lora_rank is not None and self.lora_dropout:
            return "each process drops out with random numbers of its own"
        return None

    def external_files(self) -> list[Path]:
        """Returns the marker, with all files' hashes, of the checkpoint to resume from."""
        if self.resume_from is None:
            return []
        marker = Path(self.resume_from) / "complete.json"
        if not marker.is_file():
            raise ConfigError(
                f"{self.stage}.resume_from: {self.resume_from} is not a complete checkpoint, it has no complete.json. "
                "Name a folder like …/checkpoints/checkpoint-500."
            )
        return [marker]


class FineTuningConfig(TrainingConfig):
    """Settings of cpt and sft, which learn from packs of samples."""

    indifferent: ClassVar[frozenset[str]] = TrainingConfig.indifferent | {"pack_tokens", "samples_shown_every_steps"}

    gradient_accumulation_steps: int = Field(
        default=1,
        ge=1,
        le=4096,
        description="Forward passes per process and optimiser step, at least; `pack_tokens` may ask for more. A step "
        "learns from batch_size_per_process x gradient_accumulation_steps x processes samples in any case.",
    )
    pack_tokens: int = Field(
        default=16_384,
        ge=64,
        le=1_048_576,
        description="Longest sequence of one forward pass, in tokens: samples lie in it one after another without "
        "seeing each other. It decides memory and speed, not what is learned.",
    )
    shuffled_row_groups: int = Field(
        default=8,
        ge=1,
        le=100_000,
        description="Row groups of the shards (64 MB of images and texts each) whose samples are shuffled together. "
        "Each process that prepares data keeps so many in memory; a larger data set is read group by group, in a new "
        "order in each pass.",
    )
    liger_kernels: bool = Field(
        default=False, description="Use Liger's fused GPU kernels for norms, rotary positions and feed-forward layers."
    )
    torch_compile: bool = Field(default=False, description="Compile the language model's layers; worth trying on GPUs.")
    samples_shown_every_steps: int | None = Field(
        default=None,
        ge=1,
        description="Optimiser steps between tables of what is learned (image, text, mask); null for the first step's.",
    )

    @model_validator(mode="after")
    def _a_sample_fits_a_pack(self) -> FineTuningConfig:
        if self.max_length_tokens > self.pack_tokens:
            raise ValueError(
                f"max_length_tokens ({self.max_length_tokens}) must not exceed pack_tokens ({self.pack_tokens})"
            )
        return self

    def samples_per_step(self, num_processes: int) -> int:
        """Returns the samples of one optimiser step, in all processes together."""
        return self.batch_size_per_process * self.gradient_accumulation_steps * num_processes
