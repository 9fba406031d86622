"""Writes samples by fixed sentences, filled from what a caption and its in-line references say.

It knows nothing that the texts do not say, and it says the same each time. A language model that writes freely
takes its place in recipes for real data.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from components.data_processing.reasoning_data.config import ReasoningDataConfig, Task
from components.data_processing.reasoning_data.findings import findings_of
from pathoflow.data.lexicon import Diagnosis, Lexicon
from pathoflow.qa.prompts import (
    DIAGNOSIS_QUESTION,
    LETTERS,
    Message,
    mcq_text,
    prompt_messages,
    response_text,
    text_message,
)

NAME = "template"


@dataclass(frozen=True)
class Case:
    """One pair as the teacher is told of it."""

    caption: str
    inline_refs: list[str]
    language: str
    diagnosis: Diagnosis | None
    findings: list[str]


class Turn(NamedTuple):
    """One question with the reasoning and the answer to it."""

    question: str
    thinking: str
    answer: str


class Words(NamedTuple):
    """The teacher's sentences in one language and style; `{}` is filled."""

    what_diagnosis: str
    describe: str
    what_is_seen: str
    see: str
    conclude: str
    choose: str
    book_says: str
    join: str


_WORDS = {
    ("en", "cot"): Words(
        what_diagnosis=DIAGNOSIS_QUESTION["en"],
        describe="Describe this image in detail.",
        what_is_seen="What does this image show?",
        see="The image shows {}.",
        conclude=" These findings fit {}.",
        choose=" That is option {}.",
        book_says=" The text says of this figure: {}.",
        join=", ",
    ),
    ("en", "short"): Words(
        what_diagnosis="Diagnosis?",
        describe="Describe.",
        what_is_seen="Findings?",
        see="{}",
        conclude=": {}",
        choose="",
        book_says=" ({})",
        join=", ",
    ),
    ("zh", "cot"): Words(
        what_diagnosis=DIAGNOSIS_QUESTION["zh"],
        describe="请详细描述这幅图像。",
        what_is_seen="这幅图像显示了什么？",
        see="图像显示：{}。",
        conclude="这些所见符合{}。",
        choose="即选项 {}。",
        book_says="正文对此图的描述：{}。",
        join="，",
    ),
    ("zh", "short"): Words(
        what_diagnosis="诊断？",
        describe="描述。",
        what_is_seen="所见？",
        see="{}",
        conclude="：{}",
        choose="",
        book_says="（{}）",
        join="，",
    ),
}


def case_of(caption: str, inline_refs: list[str], language: str, lexicon: Lexicon) -> Case:
    """Collects what a pair's texts say."""
    return Case(caption, inline_refs, language, lexicon.find(caption), findings_of(caption, lexicon))


class Teacher:
    """Writes one conversation about one case."""

    def __init__(self, config: ReasoningDataConfig, lexicon: Lexicon) -> None:
        self.config = config
        self.lexicon = lexicon
        self._writers: dict[Task, Callable[[Case, Words, random.Random], list[Turn]]] = {
            "mcq": self._mcq,
            "detailed_description": self._description,
            "complex_reasoning": self._reasoning,
            "multi_turn_conversation": self._conversation,
        }

    def can_write(self, case: Case, task: Task) -> bool:
        """Returns whether the texts say enough: every task but a description asks for the diagnosis."""
        return task == "detailed_description" or (case.diagnosis is not None and bool(case.findings))

    def write(self, case: Case, task: Task, rng: random.Random) -> list[Message]:
        """Writes the conversation, system prompt included where the style has one."""
        turns = self._writers[task](case, _WORDS[case.language, self.config.prompt_style], rng)
        messages = prompt_messages(turns[0].question, self.config.prompt_style)
        for number, turn in enumerate(turns):
            if number:
                messages.append(text_message("user", turn.question))
            messages.append(text_message("assistant", response_text(turn.thinking, turn.answer)))
        return messages

    def _mcq(self, case: Case, words: Words, rng: random.Random) -> list[Turn]:
        diagnosis = _named(case)
        options = [diagnosis, *self.lexicon.distractors(diagnosis, rng, self.config.num_options - 1)]
        rng.shuffle(options)
        letter = LETTERS[options.index(diagnosis)]
        names = [option.name_in(case.language) for option in options]
        question = mcq_text(names, self.config.prompt_style, words.what_diagnosis)
        thinking = self._seen(case, words) + _concluded(case, words) + words.choose.format(letter)
        return [Turn(question, thinking, letter)]

    def _description(self, case: Case, words: Words, rng: random.Random) -> list[Turn]:
        findings = words.see.format(words.join.join(case.findings) or case.caption)
        return [Turn(words.describe, findings, case.caption)]

    def _reasoning(self, case: Case, words: Words, rng: random.Random) -> list[Turn]:
        thinking = self._seen(case, words) + _from_book(case, words) + _concluded(case, words)
        return [Turn(words.what_diagnosis, thinking, _named(case).name_in(case.language))]

    def _conversation(self, case: Case, words: Words, rng: random.Random) -> list[Turn]:
        seen = words.see.format(words.join.join(case.findings))
        answer = words.join.join(case.findings)
        return [Turn(words.what_is_seen, seen, answer), *self._reasoning(case, words, rng)]

    def _seen(self, case: Case, words: Words) -> str:
        return words.see.format(words.join.join(case.findings[: self.config.max_findings]))


def _concluded(case: Case, words: Words) -> str:
    return words.conclude.format(_named(case).name_in(case.language))


def _from_book(case: Case, words: Words) -> str:
    return words.book_says.format(case.inline_refs[0].rstrip(".。")) if case.inline_refs else ""


def _named(case: Case) -> Diagnosis:
    assert case.diagnosis is not None, "`can_write` is asked first"
    return case.diagnosis
