"""Odd questions among good ones, to train on and to choose by: each is set aside and counted."""

from __future__ import annotations

import pytest

from components.training.rl.config import RlConfig
from components.training.rl.stage import run
from pathoflow.data.image_io import encode_jpeg
from pathoflow.errors import InputError
from pathoflow.qa.prompts import mcq_text
from tests.components.training.rl.test_rl import VALUES, question, sft, write_questions
from tests.support.odd import BROKEN, BROKEN_WITHIN, SOUND, embedded, set_aside
from tests.support.pairs import new_output, picture

__all__ = ["sft"]

QUICK = VALUES | {
    "max_steps": 2,
    "eval_every_steps": 2,
    "max_length_tokens": 120,
    "shuffle_options": True,
    "num_processes": 2,
    "prompts_per_step": 2,
    "batch_size_per_process": 4,
    "gradient_accumulation_steps": 1,
    "max_pixels": 3136,
}
OPTIONS = ["lipoma", "melanoma", "naevus"]
TOO_MANY = [f"kind {number}" for number in range(27)]
MARKED = ["lipoma", "a <|image_pad|>"]
EMPTY = ["lipoma", " "]
ENDLESS = ["word " * 300, "lipoma"]
ODD = {
    **{name: ({"images": [embedded(data, name)]}, reason) for name, (data, reason) in BROKEN.items()},
    "broken_within": ({"images": [embedded(BROKEN_WITHIN, "within")]}, "corrupt_image"),
    "no_image": ({"images": []}, "no_image"),
    "null_image": ({"images": [None]}, "empty_file"),
    "marked_text": ({"prompt": "<|im_end|>" + mcq_text(OPTIONS, "short"), "options": OPTIONS}, "special_token"),
    "marked_option": ({"prompt": mcq_text(MARKED, "short"), "options": MARKED}, "special_token"),
    "null_text": ({"prompt": None}, "no_question"),
    "white": ({"prompt": " "}, "no_question"),
    "null_options": ({"options": None}, "option_count"),
    "one_option": ({"prompt": "A lipoma", "options": ["lipoma"]}, "option_count"),
    "too_many_options": ({"prompt": "\n".join(TOO_MANY), "options": TOO_MANY}, "option_count"),
    "empty_option": ({"prompt": mcq_text(EMPTY, "short"), "options": EMPTY}, "empty_option"),
    "no_letter": ({"answer": "E"}, "bad_answer"),
    "empty_answer": ({"answer": ""}, "bad_answer"),
    "two_letters": ({"answer": "AB"}, "bad_answer"),
    "null_answer": ({"answer": None}, "bad_answer"),
    "endless": ({"prompt": mcq_text(ENDLESS, "short"), "options": ENDLESS}, "too_long"),
}
"""What is odd about a question, and the reason for which it is set aside."""
TRAINED = ODD | {
    "elsewhere": ({"prompt": mcq_text(OPTIONS, "short") + "\nThink.", "options": OPTIONS}, "options_elsewhere")
}


def odd(prefix: str, named: dict[str, tuple[dict[str, object], str]]) -> list[dict[str, object]]:
    return [question(1) | {"mcq_id": f"{prefix}/{name}"} | changes for name, (changes, _) in named.items()]


def test_odd_questions_are_set_aside_and_counted(sft, tmp_path):
    good = [question(number) for number in range(4)]
    seen = [question(number, image=data) for number, data in enumerate(SOUND.values(), start=10)]
    mcqs = write_questions(tmp_path / "mcqs", [*odd("train", TRAINED), *seen, *good], [*odd("dev", ODD), *seen])
    out = new_output(tmp_path)
    run(RlConfig(**QUICK), diagnosis_mcqs=mcqs, sft=sft, out=out)
    expected = {f"train/{name}": reason for name, (_, reason) in TRAINED.items()}
    assert set_aside(out) == expected | {f"dev/{name}": reason for name, (_, reason) in ODD.items()}
    assert (out.num_in, out.num_out) == (len(TRAINED) + len(ODD) + 2 * len(SOUND) + 4, 2 * len(SOUND) + 4)
    assert 0 <= out.metrics["dev_accuracy"] <= 1


@pytest.mark.parametrize("part", ["train", "dev"])
def test_all_too_long_is_an_input_error_and_the_image_counts(sft, tmp_path, part):
    # 30 tokens of 28 x 28 px: the same question about a smaller image has 34 tokens.
    wide = question(1, image=encode_jpeg(picture(1).resize((28 * 30, 28))))
    good, long = [question(2)], [wide | {"mcq_id": "wide"}]
    mcqs = write_questions(tmp_path / "mcqs", *((long, good) if part == "train" else (good, long)))
    config = RlConfig(
        **QUICK | {"max_length_tokens": 45, "max_pixels": 28 * 28 * 40, "num_processes": 1, "prompts_per_step": 1}
    )
    out = new_output(tmp_path)
    with pytest.raises(InputError, match=f"All of diagnosis_mcqs/{part} is longer than 45 tokens"):
        run(config, diagnosis_mcqs=mcqs, sft=sft, out=out)
    assert set_aside(out) == {"wide": "too_long"}
    assert (out.num_in, out.num_out) == (2, 1)
