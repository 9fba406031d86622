"""Odd pairs among good ones: none of them ends a run; each that cannot be learned is set aside and counted."""

from __future__ import annotations

import random

import pytest

from components.training.cpt.config import CptConfig
from components.training.cpt.stage import run
from pathoflow.data.schemas import REASONING, ShardWriter
from pathoflow.errors import InputError
from pathoflow.qa.prompts import text_message
from tests.components.training.cpt.test_cpt_stage import VALUES
from tests.support.base_models import build_base_model
from tests.support.conversations import conversation, write_colour_corpus, write_reasoning
from tests.support.odd import BROKEN, BROKEN_WITHIN, SOUND, embedded, set_aside, size_of
from tests.support.pairs import new_output, pair, picture

QUICK = VALUES | {"epochs": 1.0, "max_pixels": 3136, "num_processes": 2, "batch_size_per_process": 2}
# 30 tokens of 28 x 28 px, and no text to speak of.
LONG_IMAGE = picture(1).resize((840, 28))
ODD = {
    **{name: ({"image": embedded(data, name)}, reason) for name, (data, reason) in BROKEN.items()},
    "broken_within": ({"image": embedded(BROKEN_WITHIN, "within"), "width": 128, "height": 128}, "corrupt_image"),
    "no_image": ({"image": None}, "empty_file"),
    "other_size": ({"width": 63}, "wrong_size"),
    "no_size": ({"width": None, "height": 0}, "wrong_size"),
    "silent": ({"caption": None}, "no_caption"),
    "white": ({"caption": " \n"}, "no_caption"),
    "marked": ({"caption": "A <|image_pad|> lesion."}, "special_token"),
    "ended": ({"inline_refs": ["See <|im_end|>."]}, "special_token"),
    "null_reference": ({"inline_refs": ["See.", None]}, "empty_reference"),
    "endless": ({"caption": "word " * 300}, "too_long"),
}
"""What is odd about a pair, and the reason for which it is set aside."""


def sound_pairs():
    for name, data in SOUND.items():
        width, height = size_of(data)
        yield pair(name, f"A lesion: {name}.") | {
            "image": embedded(data, name),
            "width": width,
            "height": height,
            "inline_refs": None,
        }


def write_odd_reasoning(directory):
    """Conversations of which look-ups and the vocabulary are made; what is wrong with some is for `sft` to tell."""
    write_reasoning(directory)
    rows = [conversation(number, random.Random(number)) for number in range(4)]
    rows[0]["messages"][0]["content"][1]["text"] = "<|image_pad|>" + rows[0]["messages"][0]["content"][1]["text"]
    rows[1]["messages"] = None
    rows[2]["messages"][1]["content"] = None
    rows[3]["messages"].insert(0, text_message("narrator", "Meanwhile"))
    with ShardWriter(directory / "train", REASONING, prefix="odd") as writer:
        for row in rows:
            writer.write(row)
    return directory


def test_odd_pairs_are_set_aside_and_counted(tmp_path):
    odd = [pair(name, "A lesion.") | changes for name, (changes, _) in ODD.items()]
    write_colour_corpus(tmp_path / "corpus", faulty=[*odd, *sound_pairs()])
    reasoning = write_odd_reasoning(tmp_path / "reasoning")
    base = build_base_model(tmp_path, tmp_path / "corpus", reasoning, num_lookups=8)
    out = new_output(tmp_path)
    run(CptConfig(**QUICK), corpus=tmp_path / "corpus", base_model=base, out=out)
    assert set_aside(out) == {f"quilt_1m/train/{name}": reason for name, (_, reason) in ODD.items()}
    assert (out.num_in, out.num_out) == (len(ODD) + len(SOUND) + 24, len(SOUND) + 24)
    assert (out.path / "model" / "model.safetensors").is_file()


def test_an_images_tokens_count_and_all_too_long_is_an_input_error(tmp_path):
    write_colour_corpus(tmp_path / "corpus", 0, [pair("long", "A.", LONG_IMAGE), pair("endless", "word " * 300)])
    base = build_base_model(tmp_path, tmp_path / "corpus", write_reasoning(tmp_path / "reasoning"), num_lookups=8)
    out = new_output(tmp_path)
    config = CptConfig(
        **QUICK | {"max_length_tokens": 16, "max_pixels": 28 * 28 * 40, "num_processes": 1, "batch_size_per_process": 4}
    )
    with pytest.raises(InputError, match=r"All of corpus/train is longer than 16 tokens.*Raise max_length_tokens"):
        run(config, corpus=tmp_path / "corpus", base_model=base, out=out)
    assert set(set_aside(out).values()) == {"too_long"}
    assert (out.num_in, out.num_out) == (2, 0)
