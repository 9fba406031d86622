"""What autograd keeps of a real forward pass against what is counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import CLIPModel

from components.training.pathoclip.config import TinyClip
from pathoflow.estimate import activations
from pathoflow.estimate.activations import Precision
from pathoflow.estimate.shapes import tiny_clip, tiny_vision_language
from pathoflow.modeling.attention import use_segment_attention
from pathoflow.modeling.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from pathoflow.modeling.tiny_shape import TinyShape
from tests.pathoflow.estimate.test_shapes import clip_configuration, configuration

SHAPE = tiny_vision_language(
    TinyShape(hidden_size=128, num_layers=3, num_heads=4, intermediate_size=384, vocabulary_size=600)
)
TOKENS = 320


class Kept:
    """Bytes of the tensors that autograd keeps, weights apart, each memory once.

    Args:
        weights: What is there anyway.
    """

    def __init__(self, weights: Any) -> None:
        self._known = {weight.untyped_storage().data_ptr() for weight in weights}
        self._kept: dict[int, Any] = {}

    def __enter__(self) -> Kept:
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor)
        self._hooks.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.__exit__(*error)

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._known:
            self._kept[storage.data_ptr()] = storage
        return tensor

    @property
    def bytes(self) -> int:
        """Their sum."""
        return sum(storage.nbytes() for storage in self._kept.values())


@pytest.mark.parametrize("bf16", [False, True], ids=["float32", "autocast"])
def test_layers_of_the_language_model(bf16: bool) -> None:
    model = Qwen2_5_VLForConditionalGeneration(configuration(SHAPE))
    use_segment_attention(model)
    layers = model.model.language_model
    embeddings = torch.randn(1, TOKENS, 128, requires_grad=True)
    boundaries = torch.tensor([0, TOKENS], dtype=torch.int32)
    positions = torch.arange(TOKENS).expand(3, 1, -1)
    with Kept(model.parameters()) as kept, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        layers(
            inputs_embeds=embeddings,
            position_ids=positions,
            cu_seq_lens_q=boundaries,
            cu_seq_lens_k=boundaries,
            max_length_q=TOKENS,
            max_length_k=TOKENS,
            use_cache=False,
        )
    precision = Precision.of(bf16=bf16, deepspeed=False)
    counted, _ = activations.language_model(SHAPE.text_config, TOKENS, precision, copies=1, checkpointed=False)
    if bf16:
        # Autocast's copies of the weights are kept, too; they are counted with the weights.
        text = SHAPE.text_config
        counted += 2 * text.num_hidden_layers * text.layer
    assert counted == pytest.approx(kept.bytes, rel=0.05)


def test_the_vision_tower() -> None:
    model = Qwen2_5_VLForConditionalGeneration(configuration(SHAPE))
    use_segment_attention(model)
    vision = SHAPE.vision_config
    grid = torch.tensor([[1, 16, 16]])
    with Kept(model.parameters()) as kept:
        model.model.visual(torch.randn(256, vision.patch_values), grid_thw=grid)
    precision = Precision.of(bf16=False, deepspeed=False)
    counted = activations.vision_tower(vision, 256, precision, copies=1, checkpointed=False, learns=True)
    counted += 64 * activations.merger(vision, precision)
    # The patches themselves are kept by the first product.
    assert counted + 256 * vision.patch_values * 4 == pytest.approx(kept.bytes, rel=0.08)


def test_a_clip() -> None:
    shape = tiny_clip(TinyClip(vision_width=128, text_width=96, max_length_tokens=32))
    model = CLIPModel(clip_configuration(shape))
    tokens = torch.randint(3, 1000, (8, 32))
    with Kept(model.parameters()) as kept:
        model(input_ids=tokens, pixel_values=torch.randn(8, 3, shape.image_size, shape.image_size))
    assert activations.clip(shape, 8, 32) == pytest.approx(kept.bytes, rel=0.1)


def test_a_pair_of_the_large_clip_as_it_was_measured() -> None:
    """0.566 GB for each pair in float32 without checkpointing."""
    from pathoflow.estimate.shapes import CLIP

    assert activations.clip(CLIP["openai/clip-vit-large-patch14"], 1, 77) == pytest.approx(0.566e9, rel=0.06)
