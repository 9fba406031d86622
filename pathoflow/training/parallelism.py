"""Fits a run's processes to the GPUs, and configures DeepSpeed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

from pathoflow.errors import ConfigError
from pathoflow.training.config import TrainingConfig

Config = TypeVar("Config", bound=TrainingConfig)


def num_gpus() -> int:
    """Counts the GPUs that processes started here will see, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([device for device in visible.split(",") if device.strip() not in ("", "-1")])
    return sum(path.name.removeprefix("nvidia").isdecimal() for path in Path("/dev").glob("nvidia*"))


def fit_to_gpus(config: Config, gpus: int, nodes: int = 1) -> Config:
    """Returns the configuration with as many processes as there are GPUs for, and as many samples in each step.

    Args:
        config: The recipe's configuration.
        gpus: GPUs on all nodes; 0 computes on CPUs.
        nodes: Number of nodes, which share the processes evenly.

    Raises:
        ConfigError: There are too few, and the recipe allows no other way, or the nodes cannot share evenly.
    """
    asked, stage = config.num_processes, config.stage
    config.processes_per_node(nodes)
    if gpus == 0 and not config.needs_gpus:
        return config
    if 0 < asked <= gpus:
        return config
    found = f"{stage} asks for {asked} GPU{'s' * (asked > 1)} and finds {gpus}"
    if gpus == 0 or config.fewer_gpus == "refuse":
        raise ConfigError(
            f"{found}. Give it more, set {stage}.num_processes, or set {stage}.fewer_gpus to accumulate for "
            "fewer processes with as many samples in a step."
        )
    passes = asked * config.gradient_accumulation_steps
    processes = max(number for number in range(nodes, gpus + 1, nodes) if passes % number == 0)
    return config.model_copy(update={"num_processes": processes, "gradient_accumulation_steps": passes // processes})


def deepspeed_configuration(config: TrainingConfig) -> dict[str, Any] | None:
    """Returns DeepSpeed's configuration for a recipe; sizes follow the Trainer's. None for ZeRO stage 0."""
    if config.deepspeed_stage == 0:
        return None
    prefer_torch_to_compiling()
    zero: dict[str, Any] = {
        "stage": config.deepspeed_stage,
        "overlap_comm": True,
        "stage3_gather_16bit_weights_on_model_save": True,
    }
    if config.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": num_gpus() > 0}
    if config.offload == "all":
        zero["offload_param"] = {"device": "cpu", "pin_memory": num_gpus() > 0}
    return {
        "zero_optimization": zero,
        # torch's fused AdamW runs on the CPU, too, and needs no compiler.
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
    }


def prefer_torch_to_compiling() -> None:
    """Keeps DeepSpeed on CPU machines from compiling an all-reduce (130 s, needs g++) that only inference would use.

    Raises:
        ConfigError: DeepSpeed is not installed.
    """
    if num_gpus() == 0:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    try:
        from deepspeed import ops
    except ImportError as error:
        raise ConfigError(
            "deepspeed_stage needs DeepSpeed, which is not installed: pip install 'pathoflow[deepspeed]' "
            "--no-build-isolation, or set deepspeed_stage to 0."
        ) from error
    if num_gpus() == 0:
        ops.__compatible_ops__["deepspeed_shm_comm"] = False
