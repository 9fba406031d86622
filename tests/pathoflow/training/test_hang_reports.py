"""What the user is told of a training that ended itself."""

from __future__ import annotations

from pathoflow.training.hang_reports import (
    HangReport,
    HangReportFolder,
    explain,
    forget,
    num_ended,
    num_waiting,
    reports,
)

AWAY = "pathoflow/inference/transformers_engine.py:90 (generate)"
GATHER = "pathoflow/training/callbacks.py:60 (sums), in torch/distributed/distributed_c10d.py:1 (all_reduce)"


def told(*found: HangReport, num_processes: int = 2) -> str:
    return explain(found, num_processes, "sft", 1800, 600)


def test_the_process_that_is_away_and_those_that_are_silent_are_named():
    found = [HangReport(rank, "waited", GATHER, 1800.2, 7) for rank in (0, 2)] + [
        HangReport(1, "followed", AWAY, 3.0, 7)
    ]
    words = told(*found, num_processes=5)
    assert words.startswith(
        f"Training stood still for sft.collective_timeout_s = 1800 s and was ended. Processes 0, 2 of 5, for 1800 s in "
        f"step 7: {GATHER}; process 1 of 5, for 3 s in step 7: {AWAY}; processes 3, 4 of 5: left no word."
    )
    assert "Run the same command again to go on from the last complete checkpoint" in words


def test_each_cause_names_its_remedy():
    by_cause = {
        "waited": "raise that key",
        "deadlock": "do not call the same collectives",
        "asked": "within sft.checkpoint_grace_s = 600 s",
        "not_begun": "before its first step",
    }
    for cause, words in by_cause.items():
        assert words in told(HangReport(0, cause, AWAY, 1.0), HangReport(1, "followed", AWAY, 1.0))


def test_processes_see_each_others_words_until_the_next_attempt(tmp_path):
    boards = [HangReportFolder(tmp_path / "standstill", rank) for rank in range(3)]
    boards[0].wait(True)
    boards[1].wait(True)
    boards[0].wait(False)
    boards[0].wait(False)
    assert (num_waiting(boards[2].names()), num_ended(boards[2].names())) == (1, 0)
    report = HangReport(2, "waited", AWAY, 5.0, 3)
    boards[2].report(report)
    (tmp_path / "standstill" / "rank-1.json").write_text("{")
    assert num_ended(boards[0].names()) == 2
    assert reports(tmp_path) == [report], "what is half-written is no word"
    forget(tmp_path)
    assert reports(tmp_path) == []
    # A volume that is gone must not keep a process from ending.
    boards[0].ask()
    boards[0].report(report)
    assert boards[0].names() == set()
