"""Plans a training before it begins: the samples of each step, and the process that computes each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pathoflow.training.packing import pack


@dataclass(frozen=True)
class Plan:
    """Steps of samples, laid out in packs. It follows from its attributes alone: a step's number is all its state.

    A step learns from the same samples however many processes, rounds and packs they are spread over.

    Attributes:
        order: The numbers of the samples in the order in which they are learned; begun anew if it is too short.
        lengths: Tokens of each sample, by its number.
        costs: Work of each sample, by its number.
        samples_per_step: Samples of one optimiser step, in all processes together.
        num_steps: Optimiser steps.
        num_processes: Processes that share each step.
        pack_tokens: Longest pack.
        min_rounds: Packs per process and step, at least.
    """

    order: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    costs: npt.NDArray[np.float64]
    samples_per_step: int
    num_steps: int
    num_processes: int
    pack_tokens: int
    min_rounds: int = 1

    def samples(self, step: int) -> npt.NDArray[np.int64]:
        """Returns the numbers of the samples of one step."""
        start = step * self.samples_per_step
        positions = np.arange(start, start + self.samples_per_step)
        if self.num_steps * self.samples_per_step <= len(self.order) + self.samples_per_step - 1:
            # The last step takes what is left.
            positions = positions[positions < len(self.order)]
        return self.order[positions % len(self.order)]

    def samples_until(self, step: int) -> list[int]:
        """Returns the numbers of the samples that are learned before a step, in order."""
        return sorted({int(number) for earlier in range(step) for number in self.samples(earlier)})

    def packs(self, step: int) -> list[list[list[int]]]:
        """Returns the numbers of the samples of one step: for each process its packs."""
        numbers = self.samples(step)
        layout = pack(
            self.lengths[numbers].tolist(),
            self.costs[numbers].tolist(),
            num_processes=self.num_processes,
            limit_tokens=self.pack_tokens,
            min_rounds=self.min_rounds,
        )
        return [[[int(numbers[position]) for position in members] for members in packs] for packs in layout]

    def num_tokens(self, step: int) -> int:
        """Counts the tokens of one step's samples."""
        return int(self.lengths[self.samples(step)].sum())


def num_steps(num_samples: int, samples_per_step: int, max_steps: int | None) -> int:
    """Returns the number of optimiser steps of a training.

    >>> num_steps(10, 4, None), num_steps(10, 4, 7)
    (3, 7)
    """
    return max_steps or -(-num_samples // samples_per_step)


def shuffled_passes(
    numbers: Sequence[int] | npt.NDArray[np.int64],
    num_wanted: int,
    seed: int,
    groups: npt.NDArray[np.int64] | None = None,
    groups_at_a_time: int = 1,
) -> npt.NDArray[np.int64]:
    """Returns `num_wanted` numbers, in pass after pass over all of them, each in a new order.

    Args:
        numbers: Numbers to order.
        num_wanted: Length of the result.
        seed: Decides the order.
        groups: Row group of each number, equal ones adjacent; None if all rows are in memory.
        groups_at_a_time: Groups that are shuffled together. If there are more, each pass takes them in a new order.

    >>> len(shuffled_passes(range(4), 6, seed=0))
    6
    """
    generator = np.random.default_rng(seed)
    values = np.asarray(numbers, dtype=np.int64)
    members = [values] if groups is None else np.split(values, np.flatnonzero(np.diff(groups)) + 1)
    passes = []
    for _ in range(-(-num_wanted // len(values))):
        # The order of the groups does not matter where all are shuffled together.
        turns = generator.permutation(len(members)) if len(members) > groups_at_a_time else range(len(members))
        for start in range(0, len(members), groups_at_a_time):
            together = [members[turn] for turn in turns[start : start + groups_at_a_time]]
            passes.append(generator.permutation(np.concatenate(together)))
    return np.concatenate(passes)[:num_wanted]
