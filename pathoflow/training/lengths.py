"""Measures samples' lengths and costs before the first step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from accelerate import PartialState
from accelerate.utils import gather_object

from pathoflow.modeling.encoding import Encoder, Sample
from pathoflow.system.files import sync_directory

_AT_A_TIME = 256
_COSTS_KEPT = 65_536


@dataclass(frozen=True)
class SampleLengths:
    """Length and cost of every sample, by its number.

    Attributes:
        tokens: Tokens.
        costs: Operations of a forward pass.
    """

    tokens: npt.NDArray[np.int64]
    costs: npt.NDArray[np.float64]

    def longer_than(self, limit: int) -> dict[int, int]:
        """Returns the lengths of the samples that have more tokens than `limit`, by number."""
        return {int(number): int(self.tokens[number]) for number in np.flatnonzero(self.tokens > limit)}


def measure(
    num_samples: int,
    outline_of: Callable[[int], Sample],
    encoder: Encoder,
    cost_of: Callable[[int, Sequence[int]], float],
    file: Path,
    state: PartialState,
) -> SampleLengths:
    """Measures all samples, divided among the processes; a restarted run reads the result from `file`.

    Images are not decoded: an image's tokens follow from its size.

    Args:
        num_samples: Number of samples.
        outline_of: Returns the sample with a number; its images may be left out if their sizes are there.
        encoder: Holds the tokenizer and the limits of images.
        cost_of: Returns the cost of a number of tokens with images of given numbers of patches.
        file: Keeps the result.
        state: State of the processes.
    """
    found = file.exists()
    state.wait_for_everyone()
    if not found:
        # Many samples are alike in both.
        cost = lru_cache(maxsize=_COSTS_KEPT)(cost_of)
        # Neighbours are read together.
        bounds = np.linspace(0, num_samples, state.num_processes + 1).astype(int)
        mine = range(bounds[state.process_index], bounds[state.process_index + 1])
        tokens, costs = [], []
        for start in range(0, len(mine), _AT_A_TIME):
            outlines = [outline_of(number) for number in mine[start : start + _AT_A_TIME]]
            for num_tokens, patches in encoder.measure(outlines):
                tokens.append(num_tokens)
                costs.append(cost(num_tokens, tuple(patches)))
        parts = gather_object([(np.array(tokens, dtype=np.int64), np.array(costs, dtype=np.float64))])
        measures = SampleLengths(*(np.concatenate(values) for values in zip(*parts, strict=True)))
        if state.is_main_process:
            _save(measures, file)
        return measures
    with np.load(file) as saved:
        return SampleLengths(saved["tokens"], saved["costs"])


def _save(measures: SampleLengths, file: Path) -> None:
    unfinished = file.with_suffix(".unfinished.npz")
    np.savez(unfinished, tokens=measures.tokens, costs=measures.costs)
    unfinished.replace(file)
    sync_directory(file.parent)
