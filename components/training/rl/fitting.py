"""Leaves out questions that are too long to be asked."""

from __future__ import annotations

from accelerate import PartialState

from components.training.rl.config import RlConfig
from pathoflow.modeling.encoding import Encoder, Sample, prompt
from pathoflow.qa.question import Question
from pathoflow.training.job import Job, Overlong
from pathoflow.training.lengths import measure
from pathoflow.training.shard_rows import ShardRows
from pathoflow.training.worker import rows_of


def fitting(job: Job, part: str, config: RlConfig, encoder: Encoder, state: PartialState) -> tuple[ShardRows, Overlong]:
    """Keeps the questions of a part whose prompts have at most `max_length_tokens`, system prompt and images included.

    Returns:
        Their rows, and names and lengths of the others.
    """
    rows = rows_of(job, "diagnosis_mcqs", part)

    def prompt_of(number: int) -> Sample:
        question = Question.of_row(rows[number])
        messages = question.messages(config.prompt_style)
        return prompt(messages, question.images, encoder.processor, question.id)

    file = job.scratch / f"lengths-{part}.npz"
    # What a question costs depends on its completions.
    measures = measure(len(rows), prompt_of, encoder, lambda *_: 0.0, file, state)
    dropped = measures.longer_than(config.max_length_tokens)
    overlong = [(prompt_of(number).name, length) for number, length in dropped.items()]
    # Each process keeps what it has read: questions come in any order, again and again.
    return rows_of(job, "diagnosis_mcqs", part, groups_kept=None).without(dropped), overlong
