"""Parameters counted from dimensions against models that have them."""

from __future__ import annotations

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import CLIPConfig, CLIPModel, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from components.training.pathoclip.config import TinyClip
from pathoflow.errors import InputError
from pathoflow.estimate.shapes import (
    CLIP,
    VISION_LANGUAGE,
    Clip,
    Tower,
    VisionLanguage,
    clip,
    tiny_clip,
    tiny_vision_language,
    vision_language,
)
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.training.trainable_weights import _ADAPTED_LAYERS


def configuration(shape: VisionLanguage) -> Qwen2_5_VLConfig:
    """The configuration of a model with these dimensions."""
    text, vision = shape.text_config, shape.vision_config
    rotary = text.hidden_size // text.num_attention_heads // 2
    sections = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [rotary // 2, rotary // 4, rotary // 4]}
    return Qwen2_5_VLConfig(
        text_config=vars(text) | {"tie_word_embeddings": shape.tie_word_embeddings, "rope_parameters": sections},
        vision_config=vars(vision) | {"fullatt_block_indexes": list(vision.fullatt_block_indexes)},
        tie_word_embeddings=shape.tie_word_embeddings,
    )


def built(shape: VisionLanguage) -> Qwen2_5_VLForConditionalGeneration:
    """A model with these dimensions and no memory."""
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(configuration(shape))
    model.tie_weights()
    return model


def clip_configuration(shape: Clip) -> CLIPConfig:
    """The configuration of a CLIP with these dimensions."""

    def tower(part: Tower) -> dict[str, int]:
        return {name: value for name, value in vars(part).items() if name != "num_tokens"}

    return CLIPConfig(
        text_config=tower(shape.text)
        | {"vocab_size": shape.vocab_size, "max_position_embeddings": shape.text.num_tokens},
        vision_config=tower(shape.vision) | {"image_size": shape.image_size, "patch_size": shape.patch_size},
        projection_dim=shape.projection_dim,
    )


# As the hub counts the tensors of the published files.
@pytest.mark.parametrize(
    ("name", "published"),
    [("Qwen/Qwen2.5-VL-3B-Instruct", 3_754_622_976), ("Qwen/Qwen2.5-VL-7B-Instruct", 8_292_166_656)],
)
def test_published_language_models(name: str, published: int) -> None:
    shape = VISION_LANGUAGE[name]
    assert shape.parameters == published == built(shape).num_parameters()


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("openai/clip-vit-base-patch32", 151_277_313),
        ("openai/clip-vit-base-patch16", 149_620_737),
        ("openai/clip-vit-large-patch14", 427_616_513),
    ],
)
def test_published_clips(name: str, published: int) -> None:
    shape = CLIP[name]
    with torch.device("meta"):
        model = CLIPModel(clip_configuration(shape))
    assert shape.parameters == published == model.num_parameters()


def test_parts_of_a_model() -> None:
    shape = tiny_vision_language(TinyShape(num_layers=3, intermediate_size=80, vision_intermediate_size=48))
    model = built(shape)
    visual = model.model.visual
    merger = sum(weight.numel() for weight in visual.merger.parameters())
    assert shape.vision_config.merger == merger
    assert shape.vision_config.tower == sum(weight.numel() for weight in visual.parameters()) - merger
    assert shape.text_config.layer == sum(
        weight.numel() for weight in model.model.language_model.layers[0].parameters()
    )


def test_adapters() -> None:
    shape = tiny_vision_language(TinyShape(num_layers=3, intermediate_size=80))
    adapted = get_peft_model(built(shape), LoraConfig(r=8, target_modules=_ADAPTED_LAYERS))
    assert shape.adapters(8) == sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)


@pytest.mark.parametrize("name", list(VISION_LANGUAGE))
def test_a_models_folder_is_read(name: str, tmp_path) -> None:
    shape = VISION_LANGUAGE[name]
    configuration(shape).save_pretrained(tmp_path)
    assert vision_language(tmp_path) == shape


def test_a_published_file_is_read(tmp_path) -> None:
    shape = VISION_LANGUAGE["Qwen/Qwen2.5-VL-3B-Instruct"]
    values = vars(shape.text_config) | {"tie_word_embeddings": True, "vision_config": vars(shape.vision_config)}
    (tmp_path / "config.json").write_text(json.dumps(values))
    assert vision_language(str(tmp_path)) == shape


@pytest.mark.parametrize("name", list(CLIP))
def test_a_clips_folder_is_read(name: str, tmp_path) -> None:
    clip_configuration(CLIP[name]).save_pretrained(tmp_path)
    assert clip(tmp_path) == CLIP[name]


def test_a_tiny_clip() -> None:
    tiny = TinyClip()
    with torch.device("meta"):
        model = CLIPModel(clip_configuration(tiny_clip(tiny)))
    assert tiny_clip(tiny).parameters == model.num_parameters()


def test_an_unknown_model_is_named_with_those_that_are_known() -> None:
    with pytest.raises(InputError, match=r"org/other are not known.*Qwen2\.5-VL-3B"):
        vision_language("org/other")
