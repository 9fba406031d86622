"""What is made of pods that have ended."""

from __future__ import annotations

from typing import Any

import pytest

from pathoflow.cluster.diagnosis import failure
from pathoflow.errors import Preempted

TRAINJOB = {
    "metadata": {"namespace": "ml", "name": "toy-1"},
    "status": {"conditions": [{"type": "Failed", "status": "True", "reason": "Failed"}]},
}


def ended(name: str, code: int) -> dict[str, Any]:
    terminated = {"exitCode": code, "finishedAt": "2026-01-01T00:00:00Z"}
    return {
        "metadata": {"name": name},
        "status": {"phase": "Failed", "containerStatuses": [{"state": {"terminated": terminated}}]},
    }


@pytest.mark.parametrize("first", ["toy-1-node-0", "toy-1-node-1"])
def test_a_training_that_stood_still_is_told_in_its_own_words_and_goes_on(first):
    """The pod that wrote them need not be the one whose end is seen first."""
    told = {"pod": first, "exit_code": 75, "message": "Training stood still."}
    pods = [ended("toy-1-node-0", 75), ended("toy-1-node-1", 75)]
    error = failure(TRAINJOB, pods, {}, {}, told, lambda name: "")
    assert isinstance(error, Preempted)
    assert str(error) == f"TrainJob ml/toy-1 ended itself in pod {first}: Training stood still."


def test_a_stop_on_request_leaves_no_words():
    error = failure(TRAINJOB, [ended("toy-1-node-0", 75)], {}, {}, None, lambda name: "")
    assert isinstance(error, Preempted)
    assert "was stopped on request, in pod toy-1-node-0" in str(error)
