"""The garbage collector runs seldom around a stage's work, as usual during it, and is left as it was."""

from __future__ import annotations

import gc

import pytest

from pathoflow.system.memory import default_garbage_collection, rare_garbage_collection


def test_the_collector_is_as_usual_within_the_work_and_afterwards():
    usual = gc.get_threshold()
    with rare_garbage_collection():
        assert gc.get_threshold()[0] > 10 * usual[0]
        with default_garbage_collection():
            assert gc.get_threshold() == usual
            assert gc.get_freeze_count() > 0
        assert gc.get_threshold()[0] > 10 * usual[0]
    assert gc.get_threshold() == usual
    assert gc.get_freeze_count() == 0


def test_a_failure_leaves_the_collector_as_it_was():
    usual = gc.get_threshold()
    with pytest.raises(ValueError, match="stage"), rare_garbage_collection(), default_garbage_collection():
        raise ValueError("stage")
    assert gc.get_threshold() == usual
    assert gc.get_freeze_count() == 0
