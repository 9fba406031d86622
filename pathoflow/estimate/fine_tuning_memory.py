"""Estimates the memory of cpt and sft: packs of samples through a Qwen2.5-VL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pathoflow.estimate import activations
from pathoflow.estimate.gpu_memory import Generation, Phase, TrainingPass, Weights, generation_phases, training_phases
from pathoflow.estimate.shapes import VisionLanguage


@dataclass(frozen=True)
class LargestPack:
    """Largest pack that goes through the model at once.

    Attributes:
        tokens: Tokens of all samples.
        image_tokens: Those that stand for images.
        targets: Positions whose logits are computed.
        repeated: Whether a process has several packs in a step.
    """

    tokens: float
    image_tokens: float
    targets: float
    repeated: bool


def weights_of(config: Any, shape: VisionLanguage, *, on_gpu: bool, reference: bool = False) -> Weights:
    """Describes how a training stage keeps its model's weights.

    Args:
        config: A `TrainingConfig`.
        shape: The model's.
        on_gpu: Whether memory that nothing was written to counts.
        reference: Whether a second model stands beside it.
    """
    vision, text = shape.vision_config, shape.text_config
    rank = getattr(config, "lora_rank", None)
    learning = shape.adapters(rank) if rank else 0
    if not rank:
        learning += vision.tower * (not config.freeze_vision_tower) + vision.merger * (not config.freeze_merger)
        learning += shape.language * (not config.freeze_language_model)
    return Weights(
        learning=learning,
        frozen=shape.parameters + (learning if rank else 0) - learning,
        largest=text.embeddings,
        layer=text.layer,
        tied=shape.tie_word_embeddings,
        deepspeed_stage=config.deepspeed_stage,
        processes=config.num_processes,
        bf16=config.bf16,
        offload=config.offload,
        reference=reference,
        resident=on_gpu,
    )


def phases(config: Any, shape: VisionLanguage, pack: LargestPack, *, on_gpu: bool = True) -> list[Phase]:
    """Estimates the phases of the training itself."""
    weights = weights_of(config, shape, on_gpu=on_gpu)
    precision, copies = weights.precision, 0 if on_gpu else 1
    text, vision = shape.text_config, shape.vision_config
    kept, passing = activations.language_model(
        text,
        pack.tokens,
        precision,
        copies=copies,
        checkpointed=config.gradient_checkpointing,
        rank=config.lora_rank or 0,
    )
    patches = pack.image_tokens * vision.spatial_merge_size**2
    learns = not config.freeze_vision_tower and not config.lora_rank
    kept += activations.vision_tower(
        vision, patches, precision, copies=copies, checkpointed=config.gradient_checkpointing, learns=learns
    )
    if learns or not config.freeze_merger:
        kept += pack.image_tokens * activations.merger(vision, precision)
    work = TrainingPass(
        kept=kept + pack.targets * text.hidden_size * precision.residual,
        passing=passing,
        logits=activations.target_logits(text.vocab_size, pack.targets, precision),
        inputs=patches * vision.patch_values * 4,
        checkpointed=config.gradient_checkpointing,
        repeated=pack.repeated,
    )
    return training_phases(weights, work)


def generation_cost(
    shape: VisionLanguage,
    *,
    sequences: int,
    prompt: int,
    image_tokens: int,
    new_tokens: int,
    precision: activations.Precision,
    distinct_images: int | None = None,
) -> Generation:
    """Estimates what plain `generate` takes for a batch of sequences.

    Keys turn into float32 by the rotary positions where the model computes by autocast; values do not.

    Args:
        shape: The model's.
        sequences: Prompts, or completions that are sampled.
        prompt: Tokens of the longest prompt, image included.
        image_tokens: Those of its image.
        new_tokens: Tokens that are generated at most.
        precision: The model's number formats.
        distinct_images: Images that go through the vision tower; None for one each.
    """
    text, vision = shape.text_config, shape.vision_config
    value_bytes = (precision.residual + precision.compute) / 2 if precision.casts else precision.compute
    length = prompt + new_tokens
    read = activations.prefill(text, sequences, prompt, precision)
    seen = activations.vision_forward(vision, distinct_images or sequences, image_tokens, precision)
    pixels = sequences * image_tokens * vision.spatial_merge_size**2 * vision.patch_values * 4
    return Generation(
        cache=sequences * length * shape.kv_values * value_bytes,
        layers=text.num_hidden_layers,
        prefill=max(read, seen),
        # Scores in float32, divided by the temperature, and their softmax.
        logits=sequences * text.vocab_size * 4 * 3,
        prompts=prompt / length,
        inputs=pixels,
    )


def dev_evaluation_phases(config: Any, shape: VisionLanguage, answers: Generation, *, on_gpu: bool) -> list[Phase]:
    """Estimates the phases in which sft answers dev questions."""
    weights = weights_of(config, shape, on_gpu=on_gpu)
    return generation_phases(weights.base(), whole_for_generation(weights), answers)


def whole_for_generation(weights: Weights) -> float:
    """Returns the bytes beside the weights during generation: gathered weights (ZeRO-3), or autocast's copies."""
    if weights.deepspeed_stage == 3:
        return float(weights.weight_bytes * weights.parameters)
    return weights.casts(checkpointed=True)
