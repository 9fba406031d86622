"""How sure a score is, and whether two models that answered the same items differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binomtest


@dataclass(frozen=True)
class Proportion:
    """A share of successes with its 95 % interval, all in 0..1."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedComparison:
    """What two models did on the same items.

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


def proportion(num_successes: int, num_trials: int) -> Proportion:
    """A share with its 95 % Wilson score interval, which stays within 0..1 and is of use near both ends.

    Source: Wilson, Probable inference, the law of succession, and statistical inference (1927).

    Raises:
        ValueError: There is no trial, or more successes than trials.

    >>> share = proportion(5, 10)
    >>> share.value, round(share.low, 4), round(share.high, 4)
    (0.5, 0.2366, 0.7634)
    """
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
    p_value = float(binomtest(only_first, num_discordant).pvalue) if num_discordant else 1.0
    return PairedComparison((only_second - only_first) / len(pairs), only_first, only_second, p_value)
