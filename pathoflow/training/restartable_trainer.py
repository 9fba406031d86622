"""Takes, writes and restores a Trainer's complete state, so that it continues exactly."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import safetensors.torch
import torch
from torch.utils._pytree import tree_map
from transformers import Trainer

from pathoflow.training.callbacks import barrier
from pathoflow.training.checkpoints import complete, list_files, staging_of, wait_until_listed
from pathoflow.training.config import TrainingConfig
from pathoflow.training.data_workers import fork_from_server
from pathoflow.training.diagnostics import NotANumberError, not_a_number

_WEIGHTS = "weights.safetensors"

Write = Callable[[Path], None]


class RestartableTrainer(Trainer):  # type: ignore[misc]
    """Trainer whose checkpoints are complete or ignored, and from which it continues exactly.

    Mix it in before the Trainer: `class MyTrainer(RestartableTrainer, SomeTrainer)`; call `prepare_saving` before
    `train`. The stock Trainer (5.23) writes in place; it does not find Qwen2.5-VL's weights again, because it saves
    them under their names on the hub and looks for those in memory; it forgets the losses since it last logged, so
    that the next point of the curve is another; and from a checkpoint of the last step it trains one step more.

    Attributes:
        saving_s: Seconds for which checkpoints have paused training.
    """

    saving_s = 0.0
    _finished = False
    _writer: _BackgroundWriter | None = None

    def prepare_saving(
        self, config: TrainingConfig, origin: Mapping[str, Any], was_preempted: Callable[[], bool]
    ) -> None:
        """Sets how checkpoints are saved.

        Args:
            config: Number of checkpoints to keep, and whether to write in the background.
            origin: The run that the checkpoints belong to.
            was_preempted: Whether a checkpoint is written because the run was asked to stop.
        """
        self._kept = config.kept_checkpoints
        self._origin = origin
        self._was_preempted = was_preempted
        if config.background_checkpoints:
            self._writer = _BackgroundWriter()

    def get_train_dataloader(self) -> Any:
        """Returns the stock loader with workers of `data_workers`."""
        loader = super().get_train_dataloader()
        # Where accelerate wraps a loader, the one within starts the processes.
        fork_from_server(getattr(loader, "base_dataloader", loader))
        return loader

    def finish_saving(self) -> None:
        """Waits until the last checkpoint is complete."""
        if self._writer is not None:
            started = time.perf_counter()
            self._writer.join()
            barrier()
            self.saving_s += time.perf_counter() - started

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        started = time.perf_counter()
        if advice := not_a_number(self.state.global_step, self._tr_loss.item(), None):
            raise NotANumberError(advice)
        if self._writer is not None:
            # The one before must be complete: two at a time would need twice the memory.
            self._writer.join()
        self.store_flos()
        staging = staging_of(Path(self.args.output_dir), self.state.global_step)
        staging.mkdir(parents=True, exist_ok=True)
        parts = self._parts(staging)
        if self._writer is not None:
            parts = {path: _detached(part) for path, part in parts.items()}
            self._writer.start(partial(self._write_and_complete, staging, parts))
        else:
            self._write(staging, parts)
            barrier()
            if self.args.process_index == 0:
                complete(staging, self._origin, self._kept)
            barrier()
        self.saving_s += time.perf_counter() - started

    def _parts(self, staging: Path) -> dict[Path, Any]:
        """Returns what this process has to write, by path; tensors are those in use."""
        rank = self.args.process_index
        self._save_rng_state(str(staging))
        parts: dict[Path, Any] = {staging / f"loop_{rank}.json": self._loop_state()}
        if self.is_deepspeed_enabled:
            parts |= _deepspeed_parts(self.model_wrapped, staging)
            if rank == 0:
                parts[staging / "scheduler.pt"] = self.lr_scheduler.state_dict()
        elif rank == 0:
            parts[staging / _WEIGHTS] = distinct_tensors(self.model)
            parts[staging / "optimizer.pt"] = self.optimizer.state_dict()
            parts[staging / "scheduler.pt"] = self.lr_scheduler.state_dict()
        if rank == 0:
            self.state.save_to_json(str(staging / "trainer_state.json"))
        return parts

    def _write(self, staging: Path, parts: Mapping[Path, Any]) -> None:
        rank = self.args.process_index
        for path, part in parts.items():
            _write_part(path, part)
        suffix = f"_{rank}" if self.args.world_size > 1 else ""
        small = [staging / f"rng_state{suffix}.pth", *([staging / "trainer_state.json"] if rank == 0 else [])]
        list_files(staging, rank, [*parts, *small])

    def _write_and_complete(self, staging: Path, parts: Mapping[Path, Any]) -> None:
        self._write(staging, parts)
        if self.args.process_index == 0:
            wait_until_listed(staging, self.args.world_size)
            complete(staging, self._origin, self._kept)

    def _loop_state(self) -> dict[str, Any]:
        """Returns the state that the stock Trainer keeps to itself between two steps."""
        is_last = self.state.global_step >= self.state.max_steps
        return {
            "finished": is_last or (self.control.should_training_stop and not self._was_preempted()),
            "loss_since_logged": self._tr_loss.item(),
            "logged_loss": self._total_loss_scalar,
            "logged_at_step": self._globalstep_last_logged,
            # TRL's means since it last logged.
            "metrics": getattr(self, "_metrics", None),
        }

    def restore_loop(self, checkpoint: Path) -> None:
        """Restores a checkpoint's losses since they were last logged."""
        states = [json.loads(path.read_bytes()) for path in sorted(checkpoint.glob("loop_*.json"))]
        if len(states) == self.args.world_size:
            states = [json.loads((checkpoint / f"loop_{self.args.process_index}.json").read_bytes())]
        state = states[0]
        self._finished = state["finished"]
        # Other processes than these wrote it: what is logged is the mean over all, so each takes up that.
        since_logged = fmean(state["loss_since_logged"] for state in states)
        self._tr_loss = torch.tensor(since_logged, device=self.args.device)
        self._total_loss_scalar = state["logged_loss"]
        self._globalstep_last_logged = state["logged_at_step"]
        for mode, values in (state["metrics"] or {}).items():
            self._metrics[mode].update(values)

    def _run_epoch(self, *arguments: Any, **named: Any) -> None:
        if self._finished:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*arguments, **named)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_distinct_tensors(self.model, safetensors.torch.load_file(Path(resume_from_checkpoint) / _WEIGHTS))


def distinct_tensors(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Returns a model's weights and buffers by their names in memory, tied ones once."""
    first: dict[tuple[int, torch.Size], str] = {}
    tensors = {}
    for name, tensor in model.state_dict().items():
        if first.setdefault((tensor.data_ptr(), tensor.shape), name) == name:
            tensors[name] = tensor.contiguous()
    return tensors


@torch.no_grad()  # type: ignore[untyped-decorator]
def load_distinct_tensors(model: torch.nn.Module, saved: Mapping[str, torch.Tensor]) -> None:
    """Loads the tensors that `distinct_tensors` returned.

    Raises:
        ValueError: The names are not the model's.
    """
    present = distinct_tensors(model)
    if differing := saved.keys() ^ present.keys():
        raise ValueError(f"the checkpoint's weights are not this model's: {sorted(differing)[:5]} differ")
    for name, tensor in saved.items():
        present[name].copy_(tensor)


def _write_part(path: Path, part: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        path.write_text(json.dumps(part))
    elif path.suffix == ".safetensors":
        safetensors.torch.save_file({name: tensor.cpu() for name, tensor in part.items()}, path)
    else:
        # Given a name, torch would write by itself and tell of a full disk as "unexpected pos".
        with path.open("wb") as file:
            torch.save(part, file)


def _detached(part: Any) -> Any:
    """Copies to the CPU's memory what further steps would change; tied weights stay one tensor."""
    copies: dict[tuple[Any, ...], torch.Tensor] = {}

    def copy(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return leaf
        place = (leaf.device, leaf.data_ptr(), leaf.dtype, leaf.shape, leaf.stride())
        if place not in copies:
            copies[place] = leaf.detach().to("cpu", copy=True)
        return copies[place]

    return tree_map(copy, part)


def _deepspeed_parts(engine: Any, staging: Path) -> dict[Path, Any]:
    """Returns what DeepSpeed would write in this process, by path; it writes its small files itself."""
    parts: dict[Path, Any] = {}
    writer = engine.checkpoint_engine
    usual = writer.save

    def collect(state_dict: Any, path: str) -> None:
        parts[Path(path)] = state_dict

    writer.save = collect
    try:
        engine.save_checkpoint(str(staging))
    finally:
        writer.save = usual
    return parts


class _BackgroundWriter:
    """Writes one checkpoint at a time in a thread; an error there fails the training at the next occasion."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, write: Callable[[], None]) -> None:
        def run() -> None:
            try:
                write()
            except BaseException as error:
                self._error = error

        # A daemon, so that a failing process ends without waiting for the others' files.
        self._thread = threading.Thread(target=run, daemon=True, name="checkpoint")
        self._thread.start()

    def join(self) -> None:
        """Waits for the write in progress and raises its error."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            raise self._error
