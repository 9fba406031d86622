"""Counts the samples of a recipe's stages, and their sizes: from the recipe, a run's outputs, or assumptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pathoflow.contract.sealing import MANIFEST_FILE, read_manifest
from pathoflow.contract.workdir import WorkDir

PIXELS_PER_TOKEN = 28 * 28


@dataclass(frozen=True)
class DataSizes:
    """Numbers and sizes of samples, with the source of each.

    Attributes:
        pairs: Image–caption pairs of the corpus to train on.
        samples: Reasoning samples to train on.
        questions: Questions of rl.
        dev_questions: Questions by which rl chooses a model.
        heldout_questions: Questions of the benchmarks.
        caption_tokens: Tokens of the mean caption.
        reasoning_tokens: Tokens of the mean conversation without its image.
        response_tokens: Tokens of its responses.
        prompt_tokens: Tokens of the longest question without its image.
        completion_share: Mean length of completions, as a share of the longest.
        image_bytes: Bytes of the mean encoded image.
        sources: Sources of the numbers, by their names.
    """

    pairs: int = 3_500_000
    samples: int = 500_000
    questions: int = 10_000
    dev_questions: int = 500
    heldout_questions: int = 1000
    caption_tokens: int = 128
    reasoning_tokens: int = 640
    response_tokens: int = 400
    prompt_tokens: int = 256
    completion_share: float = 0.5
    image_bytes: int = 60_000
    sources: Mapping[str, str] | None = None

    def summary(self) -> str:
        """Lists the numbers with their sources."""
        sources = self.sources or {}
        names = ("pairs", "samples", "questions", "heldout_questions")
        words = (f"{getattr(self, name):,} {name.replace('_', ' ')} ({sources.get(name, _PAPER)})" for name in names)
        return ", ".join(words)


_PAPER = "the paper's number"
_METRICS = {
    "pairs": ("corpus", "num_train"),
    "samples": ("reasoning_data", "num_train"),
    "questions": ("diagnosis_mcqs", "num_train"),
    "heldout_questions": ("diagnosis_mcqs", "num_heldout"),
}


def data_sizes(stages: Mapping[str, Any], workdir: Path | None = None, **given: int | None) -> DataSizes:
    """Returns a recipe's data sizes: the user's, else those sealed in a run, else the recipe's, else the paper's.

    Args:
        stages: The stages' configurations.
        workdir: A run whose sealed outputs are counted.
        given: Numbers that the user says, by their names in `DataSizes`.
    """
    numbers: dict[str, int] = {}
    sources: dict[str, str] = {}

    def note(name: str, value: Any, source: str) -> None:
        numbers[name], sources[name] = int(value), source

    if (atlas := stages.get("teaching_atlas")) is not None:
        note("pairs", atlas.num_public_train, "teaching_atlas.num_public_train")
    share = getattr(stages.get("reasoning_data"), "train_share", None)
    if share is not None:
        pairs = numbers.get("pairs", DataSizes.pairs)
        note("samples", pairs * share, f"reasoning_data.train_share of {pairs:,} pairs")
    if (mcqs := stages.get("diagnosis_mcqs")) is not None:
        note("questions", mcqs.num_train, "diagnosis_mcqs.num_train")
        note("dev_questions", mcqs.num_dev, "diagnosis_mcqs.num_dev")
        note("heldout_questions", mcqs.num_heldout, "diagnosis_mcqs.num_heldout")
    for name, (stage, metric) in _METRICS.items():
        sealed = WorkDir(workdir).output(stage) if workdir else None
        if sealed and (sealed / MANIFEST_FILE).is_file():
            counted = read_manifest(sealed).metrics.get(metric)
            if counted is not None:
                note(name, counted, f"counted in {stage}")
    for name, value in given.items():
        if value is not None:
            note(name, value, "as you said")
    return replace(DataSizes(), **numbers, sources=sources)
