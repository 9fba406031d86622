"""Estimates a node's memory, its /dev/shm and the disk that a stage takes."""

from __future__ import annotations

from typing import Any

from pathoflow.estimate.devices import GIB
from pathoflow.estimate.gpu_memory import Weights

_PROCESS = 3.0 * GIB
"""A process with torch, CUDA's libraries and NCCL: an assumption."""
_CPU_PROCESS = 0.6 * GIB
"""The same without CUDA: measured, see bench/estimate.py."""
_DATA_WORKER = 0.5 * GIB
_ROW_GROUP = 64 * 2**20
"""Bytes of a row group, see `FineTuningConfig.shuffled_row_groups`."""
_LOADED = 1.3
"""Bytes in host memory for each byte of a model that a node's processes load (`modeling.loading`)."""
_NCCL_SHM = 32 * 2**20
"""Bytes of /dev/shm that NCCL takes for each process: an assumption."""
_PREFETCHED = 2
"""Batches that each of torch's data workers holds ready."""


def training_parts(config: Any, weights: Weights, processes: int, *, on_gpu: bool, batch: float) -> dict[str, float]:
    """Returns the bytes of a node's memory during training, by part.

    Args:
        config: A `TrainingConfig`.
        weights: Layout of the model's weights.
        processes: Processes of this node.
        on_gpu: Whether processes have CUDA.
        batch: Bytes of the pixels of one process's step.
    """
    offloaded = 0.0
    if config.offload != "none":
        # Masters, moments and gradients in float32, divided by all processes.
        offloaded = 16.0 * weights.learning * processes / config.num_processes
    if config.offload == "all":
        offloaded += weights.weight_bytes * weights.parameters * processes / config.num_processes
    saved = float(weights.weight_bytes * weights.parameters)
    if config.background_checkpoints:
        saved += checkpoint_bytes(weights) / (config.num_processes if weights.deepspeed_stage else 1) * processes
    return {
        "processes": processes * (_PROCESS if on_gpu else _CPU_PROCESS),
        "data workers": processes * config.data_workers * _worker(config),
        "batches": processes * batch * (1 + on_gpu) + shm_bytes(config, processes, batch) * (config.data_workers > 0),
        "loading or saving": max(_LOADED * 4.0 * weights.parameters, saved),
        "offload": offloaded,
    }


def _worker(config: Any) -> float:
    return _DATA_WORKER + float(getattr(config, "shuffled_row_groups", 1)) * _ROW_GROUP


def shm_bytes(config: Any, processes: int, batch: float) -> float:
    """Returns the bytes of /dev/shm: batches that data workers hold ready, and NCCL."""
    ready: float = processes * config.data_workers * _PREFETCHED * batch
    return ready + (processes * _NCCL_SHM if processes > 1 else 0.0)


def checkpoint_bytes(weights: Weights) -> float:
    """Returns the bytes of one checkpoint: weights, and the optimiser's states of trainable ones."""
    if weights.deepspeed_stage:
        return weights.weight_bytes * weights.parameters + 12.0 * weights.learning
    return 4.0 * weights.parameters + 8.0 * weights.learning


def training_disk(config: Any, weights: Weights, *, models: int, data: float) -> dict[str, float]:
    """Returns the bytes of disk: checkpoints and one being written, kept models, and the data read."""
    return {
        "checkpoints": checkpoint_bytes(weights) * (config.kept_checkpoints + 1),
        "models": float(models * weights.weight_bytes * weights.parameters),
        "data": data,
    }


def training_process(*, on_gpu: bool) -> float:
    """Returns the bytes of a process without the tensors it computes with."""
    return _PROCESS if on_gpu else _CPU_PROCESS
