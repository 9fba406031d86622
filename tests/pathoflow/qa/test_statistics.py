from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathoflow.qa.statistics import bootstrap_difference, compare_paired, proportion


@pytest.mark.parametrize(
    ("num_successes", "num_trials", "low", "high"),
    # The score interval solves (p - k/n)^2 = z^2 p (1 - p) / n for p.
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662), (150, 600, 0.2170, 0.2862)],
)
def test_wilson_interval_of_known_cases(num_successes, num_trials, low, high):
    share = proportion(num_successes, num_trials)
    assert share.value == num_successes / num_trials
    assert (share.low, share.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


@given(st.integers(1, 5000).flatmap(lambda num: st.tuples(st.integers(0, num), st.just(num))))
def test_interval_holds_the_share_stays_within_bounds_and_is_symmetric(counts):
    num_successes, num_trials = counts
    share, mirrored = proportion(num_successes, num_trials), proportion(num_trials - num_successes, num_trials)
    assert -1e-12 <= share.low <= share.value + 1e-12
    assert share.value - 1e-12 <= share.high <= 1 + 1e-12
    assert share.low == pytest.approx(1 - mirrored.high, abs=1e-9)


def test_no_trials_are_refused():
    with pytest.raises(ValueError, match="n"):
        proportion(1, 0)
    with pytest.raises(ValueError, match="no items"):
        compare_paired([], [])
    with pytest.raises(ValueError, match="zip"):
        compare_paired([True], [True, False])


def _binomial_two_sided(smaller: int, num: int) -> float:
    return min(1.0, 2 * sum(math.comb(num, count) for count in range(smaller + 1)) / 2**num)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_mcnemar_is_the_sign_test_on_the_items_that_differ(pairs):
    first, second = [one for one, _ in pairs], [two for _, two in pairs]
    paired, swapped = compare_paired(first, second), compare_paired(second, first)
    only = paired.num_only_first, paired.num_only_second
    assert paired.difference == pytest.approx((sum(second) - sum(first)) / len(pairs))
    assert paired.p_value == pytest.approx(_binomial_two_sided(min(only), sum(only)))
    assert (swapped.difference, swapped.p_value) == (-paired.difference, pytest.approx(paired.p_value))


def test_equal_models_do_not_differ():
    assert compare_paired([True, False], [True, False]).p_value == 1.0


def test_the_multinomial_bootstrap_is_the_bootstrap_of_items():
    """The same interval as resampling the items one by one, up to the noise of the draws."""
    chance = np.random.default_rng(1)
    first, second = chance.random(200) < 0.6, chance.random(200) < 0.7
    found = bootstrap_difference(first.tolist(), second.tolist(), confidence=0.95, num_resamples=40_000, seed=0)
    differences = second.astype(int) - first.astype(int)
    items = chance.integers(0, 200, size=(40_000, 200))
    low, high = np.quantile(differences[items].mean(axis=1), [0.025, 0.975])
    assert found.value == differences.mean()
    assert math.isclose(found.low, low, abs_tol=0.011)
    assert math.isclose(found.high, high, abs_tol=0.011)
    again = bootstrap_difference(first.tolist(), second.tolist(), confidence=0.95, num_resamples=40_000, seed=0)
    assert again == found
    with pytest.raises(ValueError, match="no items"):
        bootstrap_difference([], [], confidence=0.95, num_resamples=1000, seed=0)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        bootstrap_difference([True], [True, False], confidence=0.95, num_resamples=1000, seed=0)
