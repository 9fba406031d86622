"""Lays out the samples of an optimiser step in packs of limited length, balanced over processes."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

Pack = list[int]
"""Positions of samples in the lists that were given."""


def pack(
    lengths: Sequence[int], costs: Sequence[float], *, num_processes: int, limit_tokens: int, min_rounds: int = 1
) -> list[list[Pack]]:
    """Distributes samples over packs, equally many for each process, so that processes finish together.

    The costliest sample not yet placed goes to the pack that costs least so far and has room for it. There are as
    few rounds as that allows. Packs of one round cost about the same: where weights are spread over processes
    (ZeRO-3), these wait for each other in each round.

    Args:
        lengths: Tokens of each sample, at most `limit_tokens`.
        costs: Work of each sample, in any unit.
        num_processes: Processes that share them.
        limit_tokens: Longest pack.
        min_rounds: Packs per process, at least.

    Returns:
        For each process its packs, one a round. Packs are empty where there are fewer samples than packs.

    >>> pack([7, 5, 4, 2], [7, 5, 4, 2], num_processes=2, limit_tokens=9)
    [[[0, 3]], [[1, 2]]]
    """
    if too_long := [length for length in lengths if length > limit_tokens]:
        raise ValueError(f"samples of {too_long[:3]} tokens do not fit packs of {limit_tokens}")
    rounds = max(min_rounds, -(-sum(lengths) // (num_processes * limit_tokens)))
    while (packs := _fill(lengths, costs, rounds * num_processes, limit_tokens)) is None:
        rounds += 1
    packs.sort(key=lambda members: -sum(costs[member] for member in members))
    # Neighbours of one length make one call of the attention kernel.
    for members in packs:
        members.sort(key=lambda member: (-lengths[member], member))
    return [packs[process::num_processes] for process in range(num_processes)]


def _fill(lengths: Sequence[int], costs: Sequence[float], num_packs: int, limit_tokens: int) -> list[Pack] | None:
    packs: list[Pack] = [[] for _ in range(num_packs)]
    num_tokens = [0] * num_packs
    cheapest = [(0.0, index) for index in range(num_packs)]
    for sample in sorted(range(len(lengths)), key=lambda index: (-costs[index], index)):
        full = []
        while cheapest and num_tokens[cheapest[0][1]] + lengths[sample] > limit_tokens:
            full.append(heapq.heappop(cheapest))
        if not cheapest:
            return None
        cost, index = heapq.heappop(cheapest)
        packs[index].append(sample)
        num_tokens[index] += lengths[sample]
        for entry in (*full, (cost + costs[sample], index)):
            heapq.heappush(cheapest, entry)
    return packs
