"""Estimates the memory of pathoclip: one process that trains a CLIP in float32, without checkpointing."""

from __future__ import annotations

from pathoflow.estimate import activations
from pathoflow.estimate.gpu_memory import Phase
from pathoflow.estimate.shapes import Clip

CHUNK = 256
"""Images that are embedded at once, see `components.training.pathoclip.examples`."""


def phases(shape: Clip, batch_size: int, text_tokens: float) -> list[Phase]:
    """Estimates a step's forward pass, its backward pass, and the optimiser's step."""
    parameters = shape.parameters
    base = {"weights": 4.0 * parameters, "optimizer": 8.0 * parameters}
    # As bytes, as numbers, as crops and as normalised crops.
    pixels = batch_size * shape.image_bytes * (1 + 4 * 4)
    layers = activations.clip(shape, batch_size, text_tokens)
    passing = batch_size * shape.vision.num_tokens * shape.vision.intermediate_size * 4 * 2
    forward = base | {"activations": layers + pixels + passing, "logits": 4.0 * 4 * batch_size**2}
    backward = base | {"gradients": 4.0 * parameters, "activations": pixels + passing}
    # AdamW steps on lists of tensors, and makes one temporary copy of all.
    step = base | {"gradients": 4.0 * parameters, "buffers": 4.0 * parameters}
    return [Phase("forward pass", forward), Phase("backward pass", backward), Phase("optimiser's step", step)]


def host_bytes(shape: Clip, pairs: float) -> float:
    """Returns the bytes of a split's decoded images and captions."""
    return pairs * (shape.image_bytes + 500)
