"""Computes how sure a score is, and whether two models that answered the same items differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Proportion:
    """A share of successes with its 95 % interval, all in 0..1."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedComparison:
    """Compares what two models did on the same items.

    Attributes:
        difference: The second's share of right answers minus the first's.
        num_only_first: Items that only the first got right.
        num_only_second: Items that only the second got right.
        p_value: How probable a split at least as uneven would be if both were equally good.
    """

    difference: float
    num_only_first: int
    num_only_second: int
    p_value: float


@dataclass(frozen=True)
class Interval:
    """A figure with an interval around it."""

    value: float
    low: float
    high: float


def proportion(num_successes: int, num_trials: int) -> Proportion:
    """Returns a share with its 95 % Wilson score interval, which stays within 0..1 and is of use near both ends.

    Source: Wilson, Probable inference, the law of succession, and statistical inference (1927).

    Raises:
        ValueError: There is no trial, or more successes than trials.

    >>> share = proportion(5, 10)
    >>> share.value, round(share.low, 4), round(share.high, 4)
    (0.5, 0.2366, 0.7634)
    """
    from scipy.stats import binomtest

    interval = binomtest(num_successes, num_trials).proportion_ci(0.95, method="wilson")
    return Proportion(num_successes / num_trials, float(interval.low), float(interval.high))


def compare_paired(first: Sequence[bool], second: Sequence[bool]) -> PairedComparison:
    """Compares two models on the same items by McNemar's exact two-sided test.

    Only items on which they disagree count; under the null hypothesis each is a fair coin.

    Args:
        first: Whether the first model was right, item by item.
        second: The same for the second model, in the same order.

    Raises:
        ValueError: The lists differ in length or are empty.

    >>> compare_paired([True, False, False, False, False, False], [True, True, True, True, True, True])
    PairedComparison(difference=0.8333333333333334, num_only_first=0, num_only_second=5, p_value=0.0625)
    """
    if not first:
        raise ValueError("there are no items to compare two models on")
    pairs = list(zip(first, second, strict=True))
    only_first = sum(one and not two for one, two in pairs)
    only_second = sum(two and not one for one, two in pairs)
    num_discordant = only_first + only_second
    from scipy.stats import binomtest

    p_value = float(binomtest(only_first, num_discordant).pvalue) if num_discordant else 1.0
    return PairedComparison((only_second - only_first) / len(pairs), only_first, only_second, p_value)


def bootstrap_difference(
    first: Sequence[bool], second: Sequence[bool], *, confidence: float, num_resamples: int, seed: int
) -> Interval:
    """Returns the second's share of right answers minus the first's, with a percentile bootstrap interval.

    Both answered the same items, which are resampled as pairs. An item's difference is -1, 0 or 1, so that drawing the
    three counts of a resample from the multinomial distribution is the same as drawing its items.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.

    Args:
        first: Whether the first model was right, item by item.
        second: The same for the second model, in the same order.
        confidence: Share of the interval, in 0..1.
        num_resamples: How many resamples are drawn.
        seed: Of the draws.

    Raises:
        ValueError: The lists differ in length or are empty.

    >>> bootstrap_difference([True] * 50, [True] * 50, confidence=0.95, num_resamples=100, seed=0)
    Interval(value=0.0, low=0.0, high=0.0)
    """
    if not first:
        raise ValueError("there are no items to compare two models on")
    pairs = list(zip(first, second, strict=True))
    num_worse = sum(one and not two for one, two in pairs)
    num_better = sum(two and not one for one, two in pairs)
    shares = np.array([num_worse, len(pairs) - num_worse - num_better, num_better]) / len(pairs)
    draws = np.random.default_rng(seed).multinomial(len(pairs), shares, size=num_resamples)
    differences = (draws[:, 2] - draws[:, 0]) / len(pairs)
    low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval((num_better - num_worse) / len(pairs), float(low), float(high))
