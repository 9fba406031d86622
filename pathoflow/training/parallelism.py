"""How the processes of a run share the work and the memory."""

from __future__ import annotations

from typing import Any


def deepspeed_configuration(stage: int) -> dict[str, Any] | None:
    """DeepSpeed's configuration for a ZeRO stage; sizes follow the Trainer's arguments. None for stage 0."""
    if stage == 0:
        return None
    return {
        "zero_optimization": {"stage": stage, "overlap_comm": True, "stage3_gather_16bit_weights_on_model_save": True},
        "bf16": {"enabled": "auto"},
        "gradient_clipping": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
    }
