"""What a stage writes to: counts, quarantine, progress, series, figures."""

from __future__ import annotations

import json
import time

import pytest
from matplotlib.figure import Figure

from pathoflow.contract.output import QUARANTINE_FILE, Reporter, StageOutput
from pathoflow.errors import StageError
from pathoflow.system.processes import STOP_REQUESTED


@pytest.fixture
def out(tmp_path) -> StageOutput:
    return StageOutput(tmp_path / "staging", tmp_path / "scratch")


def test_a_bad_record_is_counted_and_listed(out):
    out.quarantine("book.pdf, page 3", "no_caption", "Fig. 2 has none")
    out.quarantine("图.jpg", "torn")
    out.quarantine("line\nbreak", "torn")
    assert out.quarantined == {"no_caption": 1, "torn": 2}
    lines = [json.loads(line) for line in (out.path / QUARANTINE_FILE).read_text(encoding="utf-8").splitlines()]
    assert lines[0] == {"item": "book.pdf, page 3", "reason": "no_caption", "detail": "Fig. 2 has none"}
    assert [line["item"] for line in lines[1:]] == ["图.jpg", "line\nbreak"]


def test_a_name_that_is_no_text_can_be_set_aside(out):
    out.quarantine("scan-\udcff.jpg", "bad_name")
    [line] = (out.path / QUARANTINE_FILE).read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["item"] == "scan-\udcff.jpg"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_figure_that_is_none_is_refused(out, value):
    with pytest.raises(StageError, match="loss came out as"):
        out.metric("loss", value)


def test_figures_and_notes_are_kept(out):
    out.metric("recall", 1)
    out.note("teacher", "template")
    assert (out.metrics, out.notes) == ({"recall": 1.0}, {"teacher": "template"})


def test_progress_is_cheap_in_a_loop_and_its_end_is_always_written(out):
    path = out.directory / "progress.json"
    out.progress(1, 100_000, "images", loss=0.5)
    assert json.loads(path.read_text()) | {"at": 0} == {
        "done": 1,
        "total": 100_000,
        "unit": "images",
        "shown": {"loss": 0.5},
        "at": 0,
    }
    started = time.perf_counter()
    for done in range(2, 100_000):
        out.progress(done, 100_000, "images")
    assert time.perf_counter() - started < 2
    out.progress(100_000, 100_000, "images")
    assert json.loads(path.read_text())["done"] == 100_000
    assert [file.name for file in out.directory.iterdir()] == ["progress.json"]


def test_series_of_several_processes_land_in_one_file(out):
    other = Reporter(out.directory)
    out.series(1, loss=0.5, rate=0.1)
    other.series(2, loss=0.25)
    points = [json.loads(line) for line in (out.directory / "series.jsonl").read_text().splitlines()]
    assert [(point["step"], point["values"]) for point in points] == [
        (1, {"loss": 0.5, "rate": 0.1}),
        (2, {"loss": 0.25}),
    ]


def test_scratch_is_handed_to_the_next_attempt_and_lies_outside_the_output(out, tmp_path):
    (out.scratch / "part").write_text("1")
    again = StageOutput(tmp_path / "staging", tmp_path / "scratch")
    assert (again.scratch / "part").read_text() == "1"
    assert not list(again.path.iterdir())


def test_json_and_plots_have_the_same_bytes_each_time(out):
    def write() -> tuple[bytes, bytes]:
        figure = Figure()
        figure.subplots().plot([1, 2, 3])
        return out.save_json("deep/a.json", {"b": 1, "a": "é"}).read_bytes(), out.plot("loss", figure).read_bytes()

    first = write()
    assert write() == first
    assert json.loads(first[0]) == {"a": "é", "b": 1}
    assert (out.path / "plots" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_a_series_is_cut_back_to_where_training_goes_on(tmp_path):
    reporter = Reporter(tmp_path)
    reporter.cut_back(5)
    for step in (1, 5, 6):
        reporter.series(step, loss=1.0 / step)
    with (tmp_path / "series.jsonl").open("a") as file:
        file.write('{"step": 7')
    reporter.cut_back(5)
    reporter.series(6, loss=0.5)
    points = [json.loads(line) for line in (tmp_path / "series.jsonl").read_text().splitlines()]
    assert [(point["step"], point["values"]["loss"]) for point in points] == [(1, 1.0), (5, 0.2), (6, 0.5)]


def test_a_stop_whose_interrupt_was_lost_takes_effect_at_the_next_progress(out, monkeypatch):
    monkeypatch.setattr(STOP_REQUESTED, "is_set", lambda: True)
    with pytest.raises(KeyboardInterrupt):
        out.progress(1, 2, "steps")
