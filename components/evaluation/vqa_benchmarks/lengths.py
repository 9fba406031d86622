"""Selects the questions that leave the models room for a response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from components.evaluation.vqa_benchmarks.config import VqaBenchmarksConfig
from components.evaluation.vqa_benchmarks.questions import sizes
from pathoflow.contract.output import StageOutput
from pathoflow.modeling.loading import load_configuration
from pathoflow.modeling.pretrained import load_processor
from pathoflow.modeling.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from pathoflow.qa.question import Question


def answerable(
    questions: Sequence[Question], sources: Mapping[str, str], config: VqaBenchmarksConfig, out: StageOutput
) -> list[Question]:
    """The questions that, with the longest response, fit the positions of every model; others are quarantined.

    All models are asked the same questions: their figures are compared.

    Args:
        questions: What could be asked.
        sources: Where each model is, by name.
        config: Says how long responses may be.
        out: Where questions are set aside.
    """
    kept = list(questions)
    for model, source in sources.items():
        text = load_configuration(Qwen2_5_VLForConditionalGeneration, Path(source)).text_config
        positions: int = text.max_position_embeddings
        measured = zip(kept, prompt_lengths(kept, source, config), strict=True)
        kept = []
        for question, num_tokens in measured:
            if num_tokens + config.max_new_tokens <= positions:
                kept.append(question)
                continue
            detail = (
                f"{num_tokens} tokens of the prompt and up to {config.max_new_tokens} of the response "
                f"(vqa_benchmarks.max_new_tokens) are more than the {positions} positions of {model}"
            )
            out.quarantine(question.id, "too_long", detail)
    return kept


def prompt_lengths(questions: Sequence[Question], source: str, config: VqaBenchmarksConfig) -> list[int]:
    """Tokens of each prompt, images included, as the model at `source` is given it."""
    if not questions:
        return []
    processor = load_processor(Path(source))
    texts = [
        processor.apply_chat_template(
            question.messages(config.prompt_style), add_generation_prompt=True, tokenize=False
        )
        for question in questions
    ]
    return [num_tokens for num_tokens, _ in processor.measure(texts, [sizes(question) for question in questions])]
