"""The order in which a model meets look-ups and captions."""

from __future__ import annotations

import numpy as np
import pytest

from components.training.cpt.config import CptConfig
from components.training.cpt.worker import training_order


def config(**values) -> CptConfig:
    return CptConfig(**values)


def test_look_ups_come_first_and_a_share_among_the_captions():
    order = list(training_order(10, np.zeros(6, np.int64), config(lookup_share=0.2, epochs=1.5)))
    assert order[:8] == list(range(8))
    assert sorted(number for number in order[8:] if number < 10) == [8, 9]
    captions = [number - 10 for number in order if number >= 10]
    assert len(captions) == 9
    assert set(captions) == set(range(6))


@pytest.mark.parametrize("epochs", [1.0, 2.5])
def test_the_order_depends_on_the_seed(epochs):
    orders = [list(training_order(0, np.zeros(50, np.int64), config(seed=seed, epochs=epochs))) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
