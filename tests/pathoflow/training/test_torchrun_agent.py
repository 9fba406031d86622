from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import pytest

from pathoflow.training.torchrun_agent import cause_of

KILLED, ENDED = -signal.SIGKILL, -signal.SIGTERM
PATIENCE_S = 600


@pytest.mark.parametrize(
    ("ends", "rank"),
    [
        ([(10, 1, None), (10, KILLED, None)], 1),
        ([(10, 1, 10.1), (10, KILLED, None)], 1),
        ([(10, -signal.SIGSEGV, None), (10, 1, 10.1)], 0),
        ([(10, 1, 10.9), (11, KILLED, None)], 1),  # torchrun noticed in the next second
        ([(10, 1, None), (12, KILLED, None)], 0),  # torchrun's own SIGKILL, after its patience
        ([(10, 1, 10.9), (11, ENDED, None)], 0),
        ([(10, 1, None), (10, ENDED, None)], 0),
        ([(10, ENDED, None), (10, 1, None)], 1),
        ([(12, 1, 11.9), (11, 1, 11.0)], 1),
        ([(10, 1, 10.5), (10, 1, 10.4)], 1),
        ([(10, 1, None), (10, 1, None)], 0),
    ],
)
def test_what_failed_first_is_told_from_what_followed(tmp_path, ends, rank):
    failures = {}
    for number, (at, code, raised_at) in enumerate(ends):
        error_file = tmp_path / f"error-{number}.json"
        if raised_at is not None:
            moment = tmp_path / f"{error_file.name}.raised"
            moment.touch()
            os.utime(moment, (raised_at, raised_at))
        failures[number] = SimpleNamespace(timestamp=at, exitcode=code, error_file=str(error_file))
    found, failure = cause_of(failures, PATIENCE_S)
    assert (found, failure.exitcode) == (rank, ends[rank][1])


def test_a_kill_after_the_shortest_patience_is_torchruns(tmp_path):
    failures = {
        rank: SimpleNamespace(timestamp=at, exitcode=code, error_file=str(tmp_path / f"error-{rank}.json"))
        for rank, (at, code) in enumerate([(11, KILLED), (10, 1)])
    }
    assert cause_of(failures, patience_s=1)[0] == 1
