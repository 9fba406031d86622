"""Odd conversations among good ones, to learn from and to be asked: each is set aside and counted."""

from __future__ import annotations

import random

import pytest

from components.training.sft.config import SftConfig
from components.training.sft.stage import run
from pathoflow.data.schemas import REASONING, ShardWriter
from pathoflow.errors import InputError
from pathoflow.modeling.pretrained import save_model
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import train_tokenizer
from pathoflow.qa.prompts import mcq_text, prompt_messages, text_message
from tests.components.training.sft.test_sft import VALUES
from tests.support.conversations import COLOURS, TINY_SHAPE, conversation
from tests.support.odd import BROKEN, BROKEN_WITHIN, SOUND, embedded, set_aside
from tests.support.pairs import new_output

# Every conversation is learned once.
QUICK = VALUES | {
    "max_steps": 3,
    "batch_size_per_process": 16,
    "dev_every_steps": 1,
    "max_length_tokens": 120,
    "num_processes": 2,
}
ASKED = prompt_messages(mcq_text(sorted(COLOURS), "short"), "short")
SAID = text_message("assistant", "<think>black</think><answer>B</answer>")
ODD = {
    **{name: ({"images": [embedded(data, name)]}, reason) for name, (data, reason) in BROKEN.items()},
    "broken_within": ({"images": [embedded(BROKEN_WITHIN, "within")]}, "corrupt_image"),
    "no_image": ({"images": None}, "image_count"),
    "null_image": ({"images": [None]}, "empty_file"),
    "no_turn": ({"messages": None}, "no_response"),
    "null_turn": ({"messages": [*ASKED, None, SAID]}, "empty_turn"),
    "unanswered": ({"messages": ASKED}, "no_response"),
    "unasked": ({"messages": [SAID], "images": []}, "no_question"),
    "empty": ({"messages": [*ASKED, text_message("assistant", "Yes."), text_message("user", " "), SAID]}, "empty_turn"),
    "narrated": ({"messages": [*ASKED, text_message("narrator", "Then"), SAID]}, "unknown_role"),
    "moving": ({"messages": [{"role": "user", "content": [{"type": "video", "text": None}]}, SAID]}, "unknown_part"),
    "marked": ({"messages": [*ASKED, text_message("assistant", "A <|im_end|> B")]}, "special_token"),
    "endless": ({"messages": [*ASKED, text_message("assistant", "word " * 300)]}, "too_long"),
}
"""What is odd about a conversation, and the reason for which it is set aside."""
DEV = {
    "dev: cut (mcq)": ({"images": [embedded(*BROKEN["cut"])]}, "corrupt_image"),
    "dev: within (mcq)": ({"images": [embedded(BROKEN_WITHIN, "within")]}, "corrupt_image"),
    "dev: tagless (mcq)": ({"messages": [*ASKED, text_message("assistant", "B")]}, "no_answer"),
    "dev: endless (mcq)": ({"messages": [*prompt_messages("word " * 300, "short"), SAID]}, "too_long"),
}


@pytest.fixture(scope="module")
def cpt(tmp_path_factory):
    directory = tmp_path_factory.mktemp("cpt")
    tokenizer = train_tokenizer([str(conversation(0, random.Random(0))["messages"])] * 4, TINY_SHAPE["vocabulary_size"])
    model = build_tiny_model(TinyShape(**TINY_SHAPE), tokenizer, seed=0)
    save_model(model, new_processor(tokenizer, max_pixels=3136), directory / "model")
    return directory


def rows(named: dict[str, tuple[dict[str, object], str]], start: int = 0) -> list[dict[str, object]]:
    found = []
    for number, (name, (changes, _)) in enumerate(named.items(), start):
        found.append(conversation(number, random.Random(number)) | {"pair_id": name} | changes)
    return found


def write(directory, train, dev):
    for part, written in (("train", train), ("dev", dev)):
        with ShardWriter(directory / part, REASONING, prefix=part) as writer:
            for row in written:
                writer.write(row)
    return directory


def test_odd_conversations_are_set_aside_and_counted(cpt, tmp_path):
    good = [conversation(number, random.Random(number)) for number in range(8)]
    seen = rows({name: ({"images": [embedded(data, name)]}, "") for name, data in SOUND.items()})
    asked = rows({name.removeprefix("dev: ").removesuffix(" (mcq)"): odd for name, odd in DEV.items()})
    elsewhere = good[0] | {"pair_id": "described", "task": "describe", "images": []}
    data = write(tmp_path / "reasoning", [*rows(ODD), *seen, *good], [*asked, elsewhere, *good, *rows(ODD)])
    out = new_output(tmp_path)
    # The last of the dev questions are not looked at.
    run(SftConfig(**QUICK | {"dev_questions": 9}), reasoning_data=data, cpt=cpt, out=out)
    expected = {f"{name} (mcq)": reason for name, (_, reason) in ODD.items()}
    assert set_aside(out) == expected | {name: reason for name, (_, reason) in DEV.items()}
    assert (out.num_in, out.num_out) == (len(ODD) + len(SOUND) + 8 + len(DEV) + 8, len(SOUND) + 8 + 8)
    assert 0 <= out.metrics["dev_accuracy"] <= 1


@pytest.mark.parametrize("part", ["reasoning_data/train", "the dev questions of reasoning_data/dev"])
def test_all_too_long_is_an_input_error(cpt, tmp_path, part):
    good, long = [conversation(0, random.Random(0))], rows({"endless": DEV["dev: endless (mcq)"]})
    data = write(tmp_path / "reasoning", *((long, good) if part.endswith("train") else (good, long)))
    out = new_output(tmp_path)
    with pytest.raises(InputError, match=f"All of {part} is longer than 120 tokens"):
        run(SftConfig(**QUICK | {"num_processes": 1}), reasoning_data=data, cpt=cpt, out=out)
    assert out.quarantined == {"too_long": 1}
    assert (out.num_in, out.num_out) == (2, 1)
