"""The Trainer of cpt and sft, with its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from torch.utils.data import Dataset, Sampler, SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments

from pathoflow.modeling.checkpoint import save_model
from pathoflow.training.callbacks import barrier
from pathoflow.training.config import TrainingConfig
from pathoflow.training.job import Job
from pathoflow.training.parallelism import deepspeed_configuration
from pathoflow.training.restart import train_safely
from pathoflow.training.samples import IGNORED, Encoder
from pathoflow.training.snapshots import RestartableTrainer

CURVES = {"loss": "loss", "learning_rate": "learning_rate", "grad_norm": "grad_norm"}


class WeightedTrainer(RestartableTrainer):
    """A Trainer whose batches say how much each token counts, and whose samples may come in a given order.

    Args:
        in_order: Take the samples as they come instead of shuffling them in each epoch.
    """

    def __init__(self, *, in_order: bool, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._in_order = in_order

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        if self._in_order:
            return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)
        sampler: Sampler[int] | None = super()._get_train_sampler(train_dataset)
        return sampler

    def compute_loss(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> torch.Tensor:
        """The weighted mean of the learned tokens' negative log-likelihoods in this process's batch."""
        labels, weights = inputs.pop("labels")[:, 1:], inputs.pop("weights")[:, 1:]
        logits = model(**inputs).logits[:, :-1]
        return weighted_loss(logits, labels, weights) / self.args.gradient_accumulation_steps


def weighted_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The mean negative log-likelihood of `labels` `[B, L]` under `logits` `[B, L, V]`, weighted by `weights` `[B, L]`.

    Tokens labelled -100 do not count.
    """
    losses = functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="none"
    )
    counted = (weights * (labels != IGNORED)).flatten()
    return (losses * counted).sum() / counted.sum().clamp(min=torch.finfo(torch.float32).tiny)


def trainer_arguments(config: TrainingConfig, checkpoints: Path) -> dict[str, Any]:
    """The keyword arguments of `TrainingArguments` (and of TRL's configurations) that a recipe decides."""
    return {
        "output_dir": str(checkpoints),
        "seed": config.seed,
        "data_seed": config.seed,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.scheduler,
        # Below 1 it is a share of the steps.
        "warmup_steps": config.warmup_ratio,
        "weight_decay": config.weight_decay,
        "adam_beta2": config.adam_beta2,
        "optim": "adamw_torch_fused",
        "max_grad_norm": config.max_gradient_norm,
        "per_device_train_batch_size": config.batch_size_per_process,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "max_steps": config.max_steps or -1,
        "num_train_epochs": config.epochs,
        "bf16": config.bf16,
        "activation_checkpointing": config.gradient_checkpointing,
        "deepspeed": deepspeed_configuration(config),
        "dataloader_num_workers": config.data_workers,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "use_cpu": not torch.cuda.is_available(),
        "save_strategy": "steps",
        "save_steps": config.save_every_steps,
        "logging_steps": config.log_every_steps,
        "logging_first_step": True,
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "log_level": "error",
    }


def fine_tune(
    config: TrainingConfig,
    job: Job,
    model: Any,
    encoder: Encoder,
    samples: Dataset[dict[str, torch.Tensor]],
    *,
    mixes_text_and_images: bool,
    in_order: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> Trainer:
    """Trains `model` on `samples` from the last complete checkpoint on, in every process of the run.

    Exits with code 75 after a checkpoint if the run was asked to stop.

    Args:
        config: How to train.
        job: Where checkpoints and reports go.
        model: Changed in place.
        encoder: Makes batches.
        samples: What to learn.
        mixes_text_and_images: A batch without images leaves the vision tower without gradients, which data
            parallelism must be told.
        in_order: Take the samples once, as they come, instead of shuffling them in each of `config.epochs` passes.
        callbacks: What else looks on, or stops.
    """
    freeze(model, config)
    values = trainer_arguments(config, job.checkpoints) | ({"num_train_epochs": 1} if in_order else {})
    arguments = TrainingArguments(
        **values,
        include_num_input_tokens_seen="non_padding",
        ddp_find_unused_parameters=mixes_text_and_images,
    )
    trainer = WeightedTrainer(
        in_order=in_order,
        model=model,
        args=arguments,
        train_dataset=samples,
        data_collator=encoder.batch,
        callbacks=list(callbacks),
    )
    train_safely(trainer, config, job, CURVES)
    return trainer


def save_trained(trainer: Any, processor: Any, directory: Path) -> None:
    """Writes the trained model with its processor, whole even where its weights are spread over processes (ZeRO-3)."""
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped) if trainer.is_deepspeed_enabled else None
    if trainer.is_world_process_zero():
        save_model(trainer.accelerator.unwrap_model(trainer.model), processor, directory, state)
    barrier()


def final_loss(trainer: Any) -> float:
    """The training loss that was logged last, a mean over up to `log_every_steps` steps."""
    return float(next(entry["loss"] for entry in reversed(trainer.state.log_history) if "loss" in entry))


def freeze(model: Any, config: TrainingConfig) -> None:
    """Keeps the vision tower's weights as they are, except those of its merger, if the recipe says so."""
    if config.freeze_vision_tower:
        for name, weight in model.model.visual.named_parameters():
            weight.requires_grad_(name.startswith("merger"))
