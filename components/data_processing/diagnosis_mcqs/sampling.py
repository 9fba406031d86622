"""Proportionate stratified sampling."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")


def stratified_sample(
    items: Sequence[Item], stratum_of: Callable[[Item], Any], num: int, rng: random.Random
) -> list[Item]:
    """Draws `num` items such that every stratum has its share, to within one item; all of them if there are fewer.

    Returns:
        The drawn items in their old order.
    """
    places: dict[Any, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        places[stratum_of(item)].append(place)
    sizes = allocation({stratum: len(members) for stratum, members in places.items()}, num)
    drawn = [place for stratum, members in places.items() for place in rng.sample(members, sizes[stratum])]
    return [items[place] for place in sorted(drawn)]


def allocation(sizes: Mapping[Hashable, int], num: int) -> dict[Hashable, int]:
    """Computes how many of `num` items each stratum gets, by its size: whole shares first, then the largest remainders.

    >>> allocation({"a": 60, "b": 30, "c": 10}, 9)
    {'a': 5, 'b': 3, 'c': 1}
    """
    total = sum(sizes.values())
    num = min(num, total)
    exact = {stratum: num * size / max(total, 1) for stratum, size in sizes.items()}
    allotted = {stratum: int(share) for stratum, share in exact.items()}
    by_remainder = sorted(sizes, key=lambda stratum: allotted[stratum] - exact[stratum])
    for stratum in by_remainder[: num - sum(allotted.values())]:
        allotted[stratum] += 1
    return allotted
