"""Configuration of the toy training."""

from __future__ import annotations

from typing import ClassVar, Literal

from pathoflow.training.config import TrainingConfig


class ToyTrainingConfig(TrainingConfig):
    """How the toy is trained, and how it fails."""

    stage: ClassVar[str] = "toy_training"
    indifferent: ClassVar[frozenset[str]] = TrainingConfig.indifferent | {"hangs_at", "hang"}

    learning_rate: float = 1e-2
    bf16: bool = False
    max_steps: int = 40
    save_every_steps: int = 5
    log_every_steps: int = 1
    delay_s: float = 0.0
    fails_at: int = 0
    poison_at: int = 0
    hangs_at: int = 0
    hang: Literal["one_is_away", "all_wait"] = "one_is_away"
    aborts_at_exit: bool = False
    num_extra: int = 0

    def bound_to_processes(self) -> str | None:
        return super().bound_to_processes() or "each process drops out with random numbers of its own"
