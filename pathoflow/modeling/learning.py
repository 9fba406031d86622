"""Which weights of a model learn, and how: all of them, some parts, or low-rank adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pathoflow.errors import ConfigError
from pathoflow.modeling.attention import use_segments

if TYPE_CHECKING:
    from pathoflow.training.config import FineTuningConfig, TrainingConfig

_ADAPTED_LAYERS = r".*language_model\..*\.(q|k|v|o|gate|up|down)_proj"


def freeze(model: Any, config: TrainingConfig) -> None:
    """Keeps the weights of the parts that the recipe names as they are."""
    visual = model.model.visual
    merger = {id(weight) for weight in visual.merger.parameters()}
    frozen = {"vision": config.freeze_vision_tower, "merger": config.freeze_merger}
    for weight in visual.parameters():
        weight.requires_grad_(not frozen["merger" if id(weight) in merger else "vision"])
    for part in (model.model.language_model, model.lm_head):
        part.requires_grad_(not config.freeze_language_model)


def learner(model: Any, config: FineTuningConfig) -> Any:
    """`model` made ready to learn from packs: attention, frozen parts, adapters and optional kernels.

    Raises:
        ConfigError: The recipe wants kernels that are not installed or have no GPU to run on.
    """
    use_segments(model)
    freeze(model, config)
    if config.liger_kernels:
        _use_liger(model)
    if config.torch_compile:
        for layer in model.model.language_model.layers:
            layer.compile(dynamic=True)
    return model if config.lora_rank is None else _with_adapters(model, config)


def learning_parts(model: Any) -> dict[str, bool]:
    """Which parts have weights that learn, in the words of `modeling.flops.training_flops`."""
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    visual = base.model.visual
    merger = {id(weight) for weight in visual.merger.parameters()}
    return {
        "vision_learns": any(weight.requires_grad for weight in visual.parameters() if id(weight) not in merger),
        "merger_learns": any(weight.requires_grad for weight in visual.merger.parameters()),
        "language_learns": any(weight.requires_grad for weight in base.model.language_model.parameters()),
    }


def merged(model: Any, state: dict[str, torch.Tensor] | None = None) -> tuple[Any, dict[str, torch.Tensor] | None]:
    """The plain model with its adapters added to its weights, and `state`, the weights that it does not hold whole.

    Adapters exclude ZeRO-3 (`FineTuningConfig`), so a model with adapters holds its weights whole.
    """
    return (model.merge_and_unload(), None) if hasattr(model, "peft_config") else (model, state)


def _with_adapters(model: Any, config: FineTuningConfig) -> Any:
    # Half a second of imports that full training does not need.
    from peft import LoraConfig, get_peft_model

    assert config.lora_rank is not None
    adapters = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=_ADAPTED_LAYERS,
    )
    return get_peft_model(model, adapters)


def _use_liger(model: Any) -> None:
    try:
        from liger_kernel.transformers import apply_liger_kernel_to_qwen2_5_vl
    except ImportError as error:
        raise ConfigError("liger_kernels needs the package liger-kernel. Install it or set it to false.") from error
    if not torch.cuda.is_available():
        raise ConfigError("liger_kernels needs a GPU. Set it to false.")
    apply_liger_kernel_to_qwen2_5_vl(
        model=model, cross_entropy=False, fused_linear_cross_entropy=False, rms_norm=True, swiglu=True, rope=True
    )
