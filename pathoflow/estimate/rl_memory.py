"""Estimates the memory of rl: sampling, scoring and learning in TRL's trainer (1.16)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pathoflow.estimate import activations
from pathoflow.estimate.activations import Precision
from pathoflow.estimate.fine_tuning_memory import generation_cost, weights_of, whole_for_generation
from pathoflow.estimate.gpu_memory import Generation, Phase, TrainingPass, generation_phases, training_phases
from pathoflow.estimate.shapes import VisionLanguage


@dataclass(frozen=True)
class Rollouts:
    """Sizes of rollouts.

    Attributes:
        prompt: Tokens of the longest prompt, image included.
        image_tokens: Those of its image.
        completion: Tokens of the longest completion.
        dev_questions: Questions that are answered to choose a model by.
    """

    prompt: int
    image_tokens: int
    completion: int
    dev_questions: int = 0


def completions_at_once(config: Any) -> int:
    """Returns the completions that a process samples in one call: all of a round, since TRL cannot split them.

    Source: TRL 1.16, `GRPOTrainer.get_train_dataloader` and `_generate_single_turn`.
    """
    passes = config.gradient_accumulation_steps * config.steps_per_generation
    return int(config.batch_size_per_process * passes)


def phases(config: Any, shape: VisionLanguage, rollouts: Rollouts, *, on_gpu: bool = True) -> list[Phase]:
    """Estimates sampling a round of completions, scoring them by model and reference, and learning from them."""
    rank = getattr(config, "lora_rank", None) or 0
    # With adapters, the model without them is the reference.
    weights = weights_of(config, shape, on_gpu=on_gpu, reference=config.beta > 0 and not rank)
    precision = weights.precision
    at_once = completions_at_once(config)
    # A question's completions share its image (pathoflow.modeling.vision_cache).
    sampled = _answers(shape, rollouts, precision, at_once, max(1, at_once // config.num_generations))
    base, whole = weights.base(), whole_for_generation(weights)
    found = generation_phases(base, whole, sampled)
    if rollouts.dev_questions:
        examined = min(config.eval_batch_size, -(-rollouts.dev_questions // config.num_processes))
        on_dev = generation_phases(base, whole, _answers(shape, rollouts, precision, examined, examined))
        found += [Phase(f"dev questions: {phase.name}", phase.parts) for phase in on_dev]
    return [*found, *_learning(config, shape, rollouts, weights, sampled.inputs, on_gpu=on_gpu)]


def _answers(
    shape: VisionLanguage, rollouts: Rollouts, precision: Precision, sequences: int, images: int
) -> Generation:
    return generation_cost(
        shape,
        sequences=sequences,
        prompt=rollouts.prompt,
        image_tokens=rollouts.image_tokens,
        new_tokens=rollouts.completion,
        precision=precision,
        distinct_images=images,
    )


def _learning(
    config: Any, shape: VisionLanguage, rollouts: Rollouts, weights: Any, buffered: float, *, on_gpu: bool
) -> list[Phase]:
    """Estimates a forward and backward pass of `batch_size_per_process` completions, padded to the longest.

    The pixels of the whole round stay on the device beside it.
    """
    text, vision, precision = shape.text_config, shape.vision_config, weights.precision
    rank = getattr(config, "lora_rank", None) or 0
    copies, checkpointed = 0 if on_gpu else 1, config.gradient_checkpointing
    sequences = config.batch_size_per_process
    tokens = sequences * (rollouts.prompt + rollouts.completion)
    kept, passing = activations.language_model(
        text, tokens, precision, copies=copies, checkpointed=checkpointed, rank=rank, padded=True
    )
    image_tokens = sequences * rollouts.image_tokens
    learns = not config.freeze_vision_tower and not rank
    patches = image_tokens * vision.spatial_merge_size**2
    kept += activations.vision_tower(
        vision, patches, precision, copies=copies, checkpointed=checkpointed, learns=learns
    )
    if learns or not config.freeze_merger:
        kept += image_tokens * activations.merger(vision, precision)
    logits = activations.scored_logits(
        text,
        sequences * rollouts.completion,
        precision,
        learns=not rank and not config.freeze_language_model,
        weight_bytes=weights.weight_bytes,
    )
    repeated = config.gradient_accumulation_steps > 1
    return training_phases(weights, TrainingPass(kept, passing, logits, buffered, checkpointed, repeated))
