"""One process of the toy training, started by torchrun."""

from __future__ import annotations

import atexit
import os
import time
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from accelerate import PartialState
from torch.utils.data import Dataset
from transformers import TrainerCallback, TrainingArguments

from pathoflow.system.files import write_atomically
from pathoflow.training.job import Job
from pathoflow.training.parallelism import deepspeed_configuration
from pathoflow.training.preemptible import train_preemptibly
from pathoflow.training.restartable_trainer import RestartableTrainer
from pathoflow.training.worker import run_worker
from tests.support.toy_training.config import ToyTrainingConfig

WIDTH = 16
STARTED = "started"
CURVES = {name: name for name in ("loss", "learning_rate", "grad_norm")}


class Net(torch.nn.Module):
    """Has dropout, so that a run repeats itself only with the same random numbers, and a buffer that counts."""

    def __init__(self, extra: int = 0) -> None:
        super().__init__()
        self.first = torch.nn.Linear(WIDTH, WIDTH)
        self.second = torch.nn.Linear(WIDTH, WIDTH)
        self.ballast = torch.nn.Parameter(torch.ones(extra)) if extra else None
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        self.calls += 1
        hidden = torch.nn.functional.dropout(torch.tanh(self.first(x)), 0.2, self.training)
        loss = (self.second(hidden) - y).square().mean()
        return {"loss": loss if self.ballast is None else loss + 0.01 * self.ballast.square().mean()}


class Points(Dataset[dict[str, torch.Tensor]]):
    """Points that follow from their number; getting one takes a moment."""

    def __init__(self, num: int, delay_s: float = 0.0) -> None:
        self._num, self._delay_s = num, delay_s

    def __len__(self) -> int:
        return self._num

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        time.sleep(self._delay_s)
        generator = torch.Generator().manual_seed(number)
        x = torch.randn(WIDTH, generator=generator)
        return {"x": x, "y": x.flip(0).tanh()}


class FailingAt(TrainerCallback):
    """Raises after a step, in one process."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self._step and args.process_index == args.world_size - 1:
            raise RuntimeError("the toy broke")


class HangingAt(TrainerCallback):
    """Has the processes wait in vain after a step: for the last one, or each for the next."""

    def __init__(self, step: int, hang: str) -> None:
        self._step, self._hang = step, hang

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        if state.global_step != self._step:
            return
        (Path(args.output_dir).parent / f"hangs-{args.process_index}").touch()
        if self._hang == "all_wait":
            torch.distributed.recv(torch.zeros(1), src=(args.process_index + 1) % args.world_size)
        while args.process_index == args.world_size - 1:
            time.sleep(0.01)


class PoisonAt(TrainerCallback):
    """Makes a weight no number after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, model: Any, **_: Any) -> None:
        if state.global_step == self._step:
            model.first.weight.data[0, 0] = torch.nan


def toy_trainer(config: ToyTrainingConfig, checkpoints: Path, model: torch.nn.Module | None = None) -> Any:
    """A trainer of the toy, in any process."""
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        per_device_train_batch_size=config.batch_size_per_process,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        max_steps=config.max_steps,
        seed=config.seed,
        data_seed=config.seed,
        learning_rate=config.learning_rate,
        optim="adamw_torch_fused",
        save_strategy="steps",
        save_steps=config.save_every_steps,
        logging_steps=config.log_every_steps,
        dataloader_num_workers=config.data_workers,
        dataloader_pin_memory=False,
        deepspeed=deepspeed_configuration(config),
        bf16=config.bf16,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        log_level="error",
        remove_unused_columns=False,
    )
    torch.manual_seed(config.seed)
    trainer = RestartableTrainer(
        model=model or Net(config.num_extra),
        args=arguments,
        # Several epochs.
        train_dataset=Points(24, config.delay_s),
    )
    if config.fails_at:
        trainer.add_callback(FailingAt(config.fails_at))
    if config.hangs_at:
        trainer.add_callback(HangingAt(config.hangs_at, config.hang))
    if config.poison_at:
        trainer.add_callback(PoisonAt(config.poison_at))
    return trainer


def main(job: Job, state: PartialState) -> None:
    config = job.settings(ToyTrainingConfig)
    (job.scratch / f"{STARTED}-{state.process_index}").write_text(str(os.getpid()))
    if config.aborts_at_exit:
        atexit.register(os.abort)
    trainer = toy_trainer(config, job.checkpoints)
    train_preemptibly(trainer, config, job, CURVES)
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if state.is_main_process:
        write_atomically(job.output / "model.safetensors", safetensors.torch.save(weights))
        job.finish({"num_steps": float(trainer.state.global_step)})


if __name__ == "__main__":
    run_worker(main)
