"""The processor, the tokenizer and the tiny model: built, saved, and loaded as stock transformers loads them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.utils import is_torchvision_available

from pathoflow.errors import InputError
from pathoflow.modeling.attention import use_segment_attention
from pathoflow.modeling.pretrained import check_special_tokens, load_processor, save_model
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import IMAGE, REASONING_TAGS, TURN_END, train_tokenizer
from tests.support.conversations import TINY_SHAPE

TEXTS = ["A yellow lesion: lipoma.", "<think>yellow: lipoma</think><answer>B</answer>", "B melanoma"] * 4


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 340)


@pytest.fixture(scope="module")
def saved(tokenizer, tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    model = build_tiny_model(TinyShape(**TINY_SHAPE), tokenizer, seed=0)
    save_model(model, new_processor(tokenizer, max_pixels=3136), directory)
    return directory, model


def test_tags_are_single_visible_tokens(tokenizer):
    ids = tokenizer("".join(REASONING_TAGS) + TURN_END)["input_ids"]
    assert len(ids) == len(REASONING_TAGS) + 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == "".join(REASONING_TAGS)


def test_any_text_survives_the_tokenizer(tokenizer):
    text = "Naevus, 5 µm 细胞\n\tend"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_training_a_tokenizer_is_repeatable(tokenizer):
    assert train_tokenizer(TEXTS, 340).get_vocab() == tokenizer.get_vocab()


def test_chat_template_marks_turns_and_images(tokenizer):
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "A lipoma"}]},
        {"role": "assistant", "content": "A"},
    ]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == (
        f"<|im_start|>user\n{IMAGE}A lipoma<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
    )


def test_images_that_are_given_again_are_processed_once(saved, monkeypatch):
    directory, _ = saved
    processor, fresh = load_processor(directory), load_processor(directory)
    pictures = [Image.new("RGB", (56, 28 * number), (40 * number, 9, 9)) for number in (1, 2, 3)]
    given = [pictures[0], pictures[0].copy(), pictures[1], pictures[2]]
    usual, processed = processor.image_processor.preprocess, []
    monkeypatch.setattr(
        processor.image_processor,
        "preprocess",
        lambda images, **options: processed.extend(images) or usual(images, **options),
    )
    for _ in range(2):
        batch = processor(images=given, text=[IMAGE] * 4, return_tensors="pt", padding=True)
        alone = [fresh(images=[image], text=[IMAGE], return_tensors="pt") for image in given]
        assert torch.equal(batch["pixel_values"], torch.cat([one["pixel_values"] for one in alone]))
        assert torch.equal(batch["image_grid_thw"], torch.cat([one["image_grid_thw"] for one in alone]))
        assert [int(row.sum()) for row in batch["attention_mask"]] == [len(one["input_ids"][0]) for one in alone]
    assert len(processed) == 3
    grey = Image.new("L", (56, 56), 9)
    assert len(processor(images=[grey], text=[IMAGE], return_tensors="pt")["pixel_values"]) == 16
    # Only what the call before gave twice is kept.
    for _ in range(2):
        processor(images=pictures[:1], text=[IMAGE], return_tensors="pt")
    assert len(processed) == 6


def stock_processor(directory):
    """What `AutoProcessor` makes of the checkpoint; without torchvision, our class after the stock one has refused."""
    if is_torchvision_available():
        return AutoProcessor.from_pretrained(directory)
    with pytest.raises(ImportError, match="Qwen2VLVideoProcessor requires the Torchvision library"):
        AutoProcessor.from_pretrained(directory)
    return load_processor(directory)


def test_saved_model_loads_with_the_auto_classes_and_gives_the_same_logits(saved):
    directory, model = saved
    processor = stock_processor(directory)
    inputs = processor(images=[Image.new("RGB", (80, 80), "red")], text=[IMAGE + "lipoma"], return_tensors="pt")
    assert inputs["image_grid_thw"].tolist() == [[1, 4, 4]]
    loaded = AutoModelForImageTextToText.from_pretrained(directory)
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, model.eval()(**inputs).logits)
    assert type(AutoTokenizer.from_pretrained(directory)).__name__ == "Qwen2Tokenizer"


def test_checkpoint_names_the_stock_classes(saved):
    directory, _ = saved
    processor = json.loads((directory / "processor_config.json").read_text())
    assert processor["processor_class"] == "Qwen2_5_VLProcessor"
    assert processor["image_processor"]["image_processor_type"] == "Qwen2VLImageProcessor"
    # The stock processor class refuses a checkpoint without one.
    assert processor["video_processor"]["video_processor_type"] == "Qwen2VLVideoProcessor"
    config = json.loads((directory / "config.json").read_text())
    assert config["architectures"] == ["Qwen2_5_VLForConditionalGeneration"]
    assert "auto_map" not in config
    assert not [path for path in directory.iterdir() if path.suffix in (".bin", ".pt", ".pth")]


def test_initial_weights_depend_on_the_seed_alone(tokenizer, saved):
    torch.manual_seed(99)
    again = build_tiny_model(TinyShape(**TINY_SHAPE), tokenizer, seed=0)
    other = build_tiny_model(TinyShape(**TINY_SHAPE), tokenizer, seed=1)
    name, weight = next(iter(saved[1].named_parameters()))
    assert torch.equal(again.get_parameter(name), weight)
    assert not torch.equal(other.get_parameter(name), weight)


def test_max_pixels_of_a_loaded_processor_can_be_lowered(saved):
    processor = load_processor(saved[0], max_pixels=784)
    grid = processor.image_processor([Image.new("RGB", (80, 60))], return_tensors="pt")["image_grid_thw"]
    assert grid.tolist() == [[1, 2, 2]]


STRANGER = """
import sys
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, Qwen2_5_VLForConditionalGeneration

directory, expected = sys.argv[1:]
model, report = Qwen2_5_VLForConditionalGeneration.from_pretrained(directory, output_loading_info=True)
assert not any(report.values()), report
tokenizer, image_processor = AutoTokenizer.from_pretrained(directory), AutoImageProcessor.from_pretrained(directory)
pixels = image_processor(images=[Image.new("RGB", (80, 80), "red")], return_tensors="pt")
text = "<|vision_start|>" + "<|image_pad|>" * 4 + "<|vision_end|>lipoma"
inputs = tokenizer([text], return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs, **pixels).logits
assert torch.allclose(logits, torch.load(expected), atol=1e-6)
assert not [name for name in sys.modules if name.split(".")[0] in ("pathoflow", "components")]
"""


def test_a_process_without_this_project_loads_the_checkpoint(saved, tokenizer, tmp_path):
    model = build_tiny_model(TinyShape(**TINY_SHAPE), tokenizer, seed=0).eval()
    # As after training.
    use_segment_attention(model)
    save_model(model, new_processor(tokenizer, max_pixels=3136), tmp_path / "model")
    processor = load_processor(tmp_path / "model")
    inputs = processor(images=[Image.new("RGB", (80, 80), "red")], text=[IMAGE + "lipoma"], return_tensors="pt")
    inputs.pop("mm_token_type_ids")
    with torch.no_grad():
        torch.save(model(**inputs).logits, tmp_path / "logits.pt")
    command = [sys.executable, "-I", "-c", STRANGER, str(tmp_path / "model"), str(tmp_path / "logits.pt")]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=300)
    assert (tmp_path / "model" / "config.json").read_bytes() == (saved[0] / "config.json").read_bytes()


def test_a_tokenizer_of_another_model_is_refused(saved, tokenizer):
    _, model = saved
    check_special_tokens(model.config, tokenizer)
    with pytest.raises(InputError, match=r"image_token_id = \d+, but its tokenizer gives <\|image_pad\|> the id"):
        check_special_tokens(type(model.config)(**model.config.to_dict() | {"image_token_id": 3}), tokenizer)
    text = model.config.text_config.to_dict() | {"vocab_size": 100}
    with pytest.raises(InputError, match="has embeddings for 100"):
        check_special_tokens(type(model.config)(**model.config.to_dict() | {"text_config": text}), tokenizer)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="not a multiple"):
        TinyShape(hidden_size=60, num_heads=4)
