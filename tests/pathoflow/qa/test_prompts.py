from __future__ import annotations

import pyarrow as pa
import pytest

from pathoflow.data.schemas import MESSAGES
from pathoflow.qa.prompts import (
    COD_SYSTEM_PROMPT,
    COT_SYSTEM_PROMPT,
    chat_messages,
    mcq_text,
    prompt_messages,
)


@pytest.mark.parametrize(("style", "system"), [("cot", COT_SYSTEM_PROMPT), ("cod", COD_SYSTEM_PROMPT), ("short", None)])
def test_each_style_has_its_system_prompt_and_one_user_turn_with_the_image_first(style, system):
    *before, user = prompt_messages("Question", style)
    assert [message["content"][0]["text"] for message in before] == ([system] if system else [])
    assert [part["type"] for part in user["content"]] == ["image", "text"]


def test_messages_survive_parquet_and_become_what_templates_want():
    messages = prompt_messages("Question", "cot")
    stored = pa.array([messages], MESSAGES).to_pylist()[0]
    assert chat_messages(stored) == chat_messages(messages)
    assert chat_messages(stored)[1] == {
        "role": "user",
        "content": [{"type": "image"}, {"type": "text", "text": "Question"}],
    }


@pytest.mark.parametrize("num", [1, 27])
def test_a_question_has_as_many_options_as_there_are_letters(num):
    with pytest.raises(ValueError, match="2 to 26 options"):
        mcq_text(["x"] * num, "cot")
