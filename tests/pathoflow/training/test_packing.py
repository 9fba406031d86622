"""Packs lose nothing, keep their limit and balance processes; a step has the same samples however they are laid out."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathoflow.training.packing import pack
from pathoflow.training.plan import Plan, shuffled_passes

LIMIT = 64
lengths_of_samples = st.lists(st.integers(1, LIMIT), min_size=1, max_size=60)


@given(lengths_of_samples, st.integers(1, 5), st.integers(1, 4))
def test_every_sample_is_in_one_pack_and_no_pack_is_too_long(lengths, num_processes, min_rounds):
    layout = pack(lengths, lengths, num_processes=num_processes, limit_tokens=LIMIT, min_rounds=min_rounds)
    assert len(layout) == num_processes
    assert len({len(packs) for packs in layout}) == 1
    assert len(layout[0]) >= min_rounds
    assert sorted(member for packs in layout for members in packs for member in members) == list(range(len(lengths)))
    assert all(sum(lengths[member] for member in members) <= LIMIT for packs in layout for members in packs)


@given(st.lists(st.floats(1.0, 100.0), min_size=1, max_size=60), st.integers(1, 5), st.integers(1, 4))
def test_without_a_limit_packs_are_balanced(costs, num_processes, rounds):
    layout = pack([1] * len(costs), costs, num_processes=num_processes, limit_tokens=1000, min_rounds=rounds)
    loads = [sum(costs[member] for member in members) for packs in layout for members in packs]
    # The bound of the greedy rule: the last sample to come to the fullest pack came when it was the emptiest.
    assert max(loads) <= sum(costs) / len(loads) + max(costs) * (1 - 1 / len(loads)) + 1e-6


@given(lengths_of_samples, st.integers(1, 5))
def test_the_layout_is_the_same_each_time(lengths, num_processes):
    layouts = [pack(lengths, lengths, num_processes=num_processes, limit_tokens=LIMIT) for _ in range(2)]
    assert layouts[0] == layouts[1]


def test_log_normal_lengths_keep_eight_processes_busy():
    generator = np.random.default_rng(0)
    lengths = np.clip(generator.lognormal(6, 0.8, 256), 16, 4096).astype(int)
    layout = pack(lengths.tolist(), lengths.tolist(), num_processes=8, limit_tokens=16_384)
    loads = [sum(int(lengths[member]) for members in packs for member in members) for packs in layout]
    assert max(loads) / np.mean(loads) < 1.01


def test_a_sample_longer_than_a_pack_is_refused():
    with pytest.raises(ValueError, match="do not fit packs of 64"):
        pack([65], [1.0], num_processes=1, limit_tokens=LIMIT)


def a_plan(**values) -> Plan:
    lengths = np.arange(1, 11)
    shared = {"order": np.arange(10), "lengths": lengths, "costs": lengths.astype(float), "samples_per_step": 4}
    return Plan(**shared | {"num_steps": 3, "num_processes": 1, "pack_tokens": 20} | values)


@pytest.mark.parametrize("layout", [{"num_processes": 2}, {"pack_tokens": 10}, {"min_rounds": 4}])
def test_a_step_learns_from_the_same_samples_in_any_layout(layout):
    one, other = a_plan(), a_plan(**layout)
    for step in range(3):
        members = [
            sorted(number for packs in plan.packs(step) for pack in packs for number in pack) for plan in (one, other)
        ]
        assert members[0] == members[1] == sorted(one.samples(step).tolist())
        assert one.num_tokens(step) == other.num_tokens(step)


def test_the_last_step_takes_what_is_left_and_a_longer_training_begins_anew():
    assert [a_plan().samples(step).tolist() for step in (1, 2)] == [[4, 5, 6, 7], [8, 9]]
    assert a_plan(num_steps=4).samples(2).tolist() == [8, 9, 0, 1]


@given(st.integers(1, 20), st.integers(1, 70), st.integers(0, 3))
def test_each_pass_takes_every_sample_once(num_samples, num_wanted, seed):
    order = shuffled_passes(range(num_samples), num_wanted, seed)
    assert len(order) == num_wanted
    counts = Counter(order.tolist())
    assert max(counts.values()) - min(counts.get(number, 0) for number in range(num_samples)) <= 1


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.integers(1, 4), st.integers(0, 3))
def test_each_pass_takes_a_few_groups_at_a_time(sizes, at_a_time, seed):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    order = shuffled_passes(range(len(groups)), 2 * len(groups), seed, groups, at_a_time)
    for start in (0, len(groups)):
        taken = order[start : start + len(groups)]
        assert sorted(taken.tolist()) == list(range(len(groups)))
        # Groups come in turns of so many, all of a turn's samples before the next one's.
        left = taken
        while len(left):
            turn = set(groups[left][:1].tolist())
            size = 0
            while size < len(left) and (groups[left[size]] in turn or len(turn) < at_a_time):
                turn.add(int(groups[left[size]]))
                size += 1
            assert size == sum(sizes[group] for group in turn)
            left = left[size:]


def test_few_groups_are_shuffled_as_if_there_were_one():
    groups = np.repeat(np.arange(4), 5)
    assert shuffled_passes(range(20), 30, 7, groups, 4).tolist() == shuffled_passes(range(20), 30, 7).tolist()
