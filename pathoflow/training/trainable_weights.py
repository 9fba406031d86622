"""Selects which weights of a model learn: all, some parts, or low-rank adapters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from pathoflow.errors import ConfigError
from pathoflow.modeling.attention import use_segment_attention

if TYPE_CHECKING:
    from pathoflow.training.config import FineTuningConfig, TrainingConfig

_ADAPTED_LAYERS = r".*language_model\..*\.(q|k|v|o|gate|up|down)_proj"


def freeze(model: Any, config: TrainingConfig) -> None:
    """Freezes the parts that the recipe names."""
    visual = model.model.visual
    merger = {id(weight) for weight in visual.merger.parameters()}
    frozen = {"vision": config.freeze_vision_tower, "merger": config.freeze_merger}
    for weight in visual.parameters():
        weight.requires_grad_(not frozen["merger" if id(weight) in merger else "vision"])
    for part in (model.model.language_model, model.lm_head):
        part.requires_grad_(not config.freeze_language_model)


def prepare_model(model: Any, config: FineTuningConfig) -> Any:
    """Prepares `model` to learn from packs: attention, frozen parts, adapters and optional kernels.

    Raises:
        ConfigError: The recipe wants kernels that are not installed or have no GPU to run on.
    """
    use_segment_attention(model)
    freeze(model, config)
    if config.liger_kernels:
        _use_liger(model)
    if config.torch_compile:
        for layer in model.model.language_model.layers:
            layer.compile(dynamic=True)
    return model if config.lora_rank is None else _with_adapters(model, config)


def trainable_parts(model: Any) -> dict[str, bool]:
    """Returns which parts have weights that learn, as keywords of `modeling.flops.training_flops`."""
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    visual = base.model.visual
    merger = {id(weight) for weight in visual.merger.parameters()}
    return {
        "vision_learns": any(weight.requires_grad for weight in visual.parameters() if id(weight) not in merger),
        "merger_learns": any(weight.requires_grad for weight in visual.merger.parameters()),
        "language_learns": any(weight.requires_grad for weight in base.model.language_model.parameters()),
    }


def merge_adapters(model: Any, state: dict[str, torch.Tensor] | None = None) -> tuple[Any, dict[str, torch.Tensor]]:
    """Returns the model without adapters around it, and its merged weights to write; the model in use stays as it is.

    Adapters are added to the weights that they adapt, in copies in the CPU's memory: training may go on. A weight
    that the model uses in two places (a tied output layer) is named once, as stock transformers names it: copies that
    were gathered from several processes would not show that they are one.

    Args:
        model: A model, with adapters or without.
        state: Its whole weights by their names in `model`, where it does not hold them itself (ZeRO).
    """
    state = model.state_dict() if state is None else state
    base = model
    if hasattr(model, "peft_config"):
        base, state = model.get_base_model(), _merged(model, state)
    for again in _named_again(base):
        state.pop(again, None)
    return base, state


def lora_config(config: TrainingConfig) -> Any:
    """Builds PEFT's configuration of the adapters that a recipe asks for; None where it trains the weights."""
    if config.lora_rank is None:
        return None
    # Half a second of imports that full training does not need.
    from peft import LoraConfig

    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=_ADAPTED_LAYERS,
    )


def _with_adapters(model: Any, config: TrainingConfig) -> Any:
    from peft import get_peft_model

    # The adapters' first half is random.
    torch.manual_seed(config.seed)
    return get_peft_model(model, lora_config(config))


@torch.no_grad()  # type: ignore[untyped-decorator]
def _merged(model: Any, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns a model's merged weights, `W + lora_alpha / lora_rank · B A`, by their names in the plain model."""
    prefix = "base_model.model."
    found = {name.removeprefix(prefix): tensor for name, tensor in state.items() if ".lora_" not in name}
    for name, layer in model.named_modules():
        if hasattr(layer, "lora_A"):
            down, up = (state[f"{name}.lora_{half}.default.weight"] for half in "AB")
            adapted = name.removeprefix(prefix)
            for part in ("weight", "bias"):
                if (kept := found.pop(f"{adapted}.base_layer.{part}", None)) is not None:
                    found[f"{adapted}.{part}"] = kept
            weight = found[f"{adapted}.weight"]
            found[f"{adapted}.weight"] = (weight + ((up @ down) * layer.scaling["default"]).to(weight.dtype)).cpu()
    return found


def _named_again(model: Any) -> list[str]:
    """Returns all names but the first of each weight that has several."""
    first: dict[int, str] = {}
    names = model.named_parameters(remove_duplicate=False)
    return [name for name, weight in names if first.setdefault(id(weight), name) != name]


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
