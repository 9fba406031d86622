"""Trains cpt and sft: a Trainer that learns from packs, and its configuration."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Sampler, SequentialSampler
from transformers import TrainerCallback, TrainingArguments

from pathoflow.contract.output import Reporter
from pathoflow.modeling.flops import forward_flops, training_flops
from pathoflow.modeling.pretrained import save_model
from pathoflow.training.callbacks import barrier
from pathoflow.training.config import FineTuningConfig, TrainingConfig
from pathoflow.training.initial_loss_check import InitialLossCheck
from pathoflow.training.job import Job
from pathoflow.training.lengths import SampleLengths
from pathoflow.training.parallelism import deepspeed_configuration
from pathoflow.training.plan import Plan, num_steps
from pathoflow.training.preemptible import train_preemptibly
from pathoflow.training.restartable_trainer import RestartableTrainer
from pathoflow.training.steps import Share, StepShares, the_only
from pathoflow.training.trainable_weights import merge_adapters, trainable_parts

CURVES = {"loss": "loss", "learning_rate": "learning_rate", "grad_norm": "grad_norm"}


@dataclass
class Meter:
    """Counts of this process since the training (re)started.

    Attributes:
        data_wait_s: Time in which the next step's data was waited for.
        num_tokens: Tokens of the samples learned.
        num_computed: Tokens that went through the model, fillers included.
        flops: Operations that this needed, see `modeling.flops`.
    """

    data_wait_s: float = 0.0
    num_tokens: int = 0
    num_computed: int = 0
    flops: float = 0.0


class PackTrainer(RestartableTrainer):
    """Trainer whose batches are `Share`s: any number of packs, whose loss is a mean over the whole step's targets.

    The stock Trainer wants as many forward passes in each step, and batches that one call of the model takes.

    Args:
        shares: The parts of all processes in all steps.
        arguments: Arguments of the stock Trainer.

    Attributes:
        meter: Counts of this process.
    """

    def __init__(self, shares: StepShares, **arguments: Any) -> None:
        super().__init__(train_dataset=shares, data_collator=the_only, **arguments)
        self.plan = shares.plan
        self.meter = Meter()
        self._learns = trainable_parts(self.model)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        return SequentialSampler(self.train_dataset if train_dataset is None else train_dataset)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Share], num_batches: int, device: torch.device
    ) -> tuple[list[Share], torch.Tensor]:
        """Returns the next share, and the weight of all processes' targets in this step."""
        started = time.perf_counter()
        shares = list(islice(epoch_iterator, num_batches))
        self.meter.data_wait_s += time.perf_counter() - started
        weight = torch.stack([share["weight"] for share in shares]).sum().to(device)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(weight)
        return shares, weight

    def training_step(
        self, model: Any, inputs: Share, num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Runs forward and backward passes of all packs; gradients are reduced over processes in the last one.

        Returns:
            This process's loss, of which the mean over processes is the step's.
        """
        model.train()
        assert isinstance(num_items_in_batch, torch.Tensor)
        tiny = torch.finfo(torch.float32).tiny
        # Gradients are averaged over processes, and the sum is wanted.
        scale = (self.args.world_size / num_items_in_batch.clamp(min=tiny)).float()
        with_deepspeed = self.is_deepspeed_enabled
        losses = []
        for number, pack in enumerate(inputs["packs"], start=1):
            is_last = number == len(inputs["packs"])
            self.accelerator.gradient_state._set_sync_gradients(is_last)
            alone = not is_last and not with_deepspeed
            with self.accelerator.no_sync(model) if alone else nullcontext():
                with self.compute_loss_context_manager():
                    loss = model(**self._prepare_inputs(pack)) * scale
                # DeepSpeed would divide by a number of accumulated passes that it was never told.
                self.accelerator.backward(loss, **({"scale_wrt_gas": False} if with_deepspeed else {}))
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def floating_point_ops(self, inputs: Share) -> float:
        """Returns the operations of this process's share, which the stock Trainer guesses from a model's size."""
        flops = sum(
            training_flops(
                forward_flops(
                    self.model.config,
                    pack["cu_seq_lens_q"].diff().tolist(),
                    pack["image_grid_thw"].tolist(),
                    len(pack["targets"]),
                ),
                **self._learns,
            ).total
            for pack in inputs["packs"]
        )
        self.meter.flops += flops
        self.meter.num_tokens += inputs["num_tokens"]
        self.meter.num_computed += inputs["num_computed"]
        return flops

    def _track_num_input_tokens(self, inputs: Share) -> None:
        self.state.num_input_tokens_seen += self.plan.num_tokens(self.state.global_step)


def trainer_arguments(config: TrainingConfig, checkpoints: Path) -> dict[str, Any]:
    """Returns the arguments of `TrainingArguments` (and of TRL's configurations) that a recipe sets."""
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


def weights_dtype(config: TrainingConfig) -> torch.dtype:
    """Returns the dtype in which a model's weights are loaded.

    DeepSpeed computes on bfloat16 weights and keeps float32 ones beside its optimiser; without it, weights are float32
    and are rounded where they are used.
    """
    return torch.bfloat16 if config.bf16 and config.deepspeed_stage else torch.float32


def plan_steps(
    config: FineTuningConfig, order: npt.NDArray[np.int64], measures: SampleLengths, num_processes: int
) -> Plan:
    """Plans the steps of a training that takes the samples in `order`."""
    samples_per_step = config.samples_per_step(num_processes)
    return Plan(
        order=order,
        lengths=measures.tokens,
        costs=measures.costs,
        samples_per_step=samples_per_step,
        num_steps=num_steps(len(order), samples_per_step, config.max_steps),
        num_processes=num_processes,
        pack_tokens=config.pack_tokens,
        min_rounds=config.gradient_accumulation_steps,
    )


def pack_arguments(config: FineTuningConfig, checkpoints: Path, plan: Plan) -> TrainingArguments:
    """Builds the Trainer's configuration. With ZeRO-3 a model that is loaded while it lives is partitioned."""
    return TrainingArguments(
        **trainer_arguments(config, checkpoints)
        | {
            # One share a step; the packs within are the Trainer's affair no more.
            "per_device_train_batch_size": 1,
            "gradient_accumulation_steps": 1,
            "num_train_epochs": 1,
            "max_steps": plan.num_steps,
        },
        include_num_input_tokens_seen="non_padding",
        # Every pack has an image, so each weight that learns gets a gradient in each step.
        ddp_find_unused_parameters=False,
    )


def fine_tune(
    config: FineTuningConfig,
    job: Job,
    arguments: TrainingArguments,
    model: Any,
    shares: StepShares,
    callbacks: Sequence[TrainerCallback] = (),
    *,
    is_pretrained: bool = True,
) -> PackTrainer:
    """Trains `model` on `shares` from the last complete checkpoint, in every process of the run.

    Exits with code 75 after a checkpoint if the run was asked to stop.

    Args:
        config: Settings of the training.
        job: Where checkpoints and reports go.
        arguments: From `pack_arguments`, made before the model was loaded.
        model: Model from `prepare_model`; changed in place.
        shares: Samples to learn, step by step.
        callbacks: Further callbacks.
        is_pretrained: Whether a model that only guesses is refused, see `initial_loss_check`.

    Raises:
        InputError: The model should know something, and only guesses.
    """
    check = InitialLossCheck(
        lambda: shares[arguments.process_index]["packs"][0],
        Reporter(job.report),
        config.max_initial_loss_share if is_pretrained else None,
    )
    trainer = PackTrainer(shares, model=model, args=arguments, callbacks=[check, *callbacks])
    check.trainer = trainer
    train_preemptibly(trainer, config, job, CURVES)
    return trainer


def save_trained(trainer: Any, processor: Any, directory: Path) -> None:
    """Saves the trained model with its processor, gathered where its weights are partitioned (ZeRO-3).

    Adapters are merged in what is written; the model itself stays as it is, so that training can go on.
    """
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped) if trainer.is_deepspeed_enabled else None
    if trainer.is_world_process_zero():
        model, state = merge_adapters(trainer.accelerator.unwrap_model(trainer.model), state)
        save_model(model, processor, directory, state)
    barrier()


def final_loss(trainer: Any) -> float:
    """Returns the training loss that was logged last, a mean over up to `log_every_steps` steps."""
    return float(next(entry["loss"] for entry in reversed(trainer.state.log_history) if "loss" in entry))
