"""The contract of a stage, kept in one process: recognition, sealing, quarantine, failure, publication."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from pathoflow.contract import stage as stage_module
from pathoflow.contract.code import REPOSITORY
from pathoflow.contract.references import Reference
from pathoflow.contract.sealing import read_manifest, verify
from pathoflow.contract.stage import Services, disk_is_full, execute, explain
from pathoflow.errors import (
    InputError,
    Preempted,
    QuarantineError,
    SealError,
    StageError,
)
from tests.support.toy.config import ToyConfig
from tests.support.toy_model.config import ToyModelConfig


@pytest.fixture
def journal(tmp_path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def run_toy(workdir, services, journal):
    """Executes the toy stage in the work directory."""

    def run(*, force: bool = False, to: Services = services, **values) -> Reference:
        return execute(ToyConfig(journal=journal, **values), {}, workdir, to, force=force)

    return run


def num_runs(journal: Path) -> int:
    return journal.read_text().split().count("run") if journal.exists() else 0


def mlflow_runs(workdir, **filters):
    client = MlflowClient(workdir.tracking_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return [
        run
        for run in client.search_runs(experiments)
        if all(getattr(run.info, name) == value for name, value in filters.items())
    ]


def test_the_output_is_sealed_tracked_and_told(workdir, run_toy):
    reference = run_toy(text="hi", num_items=10, score=0.5)
    manifest = verify(workdir.output("toy"))
    assert manifest.identity == reference.identity
    assert sorted(file.path for file in manifest.files) == ["parts/deep/number.bin", "text.txt"]
    assert (manifest.counts.num_in, manifest.counts.num_out, manifest.counts.quarantined) == (10, 10, {})
    assert (manifest.metrics, manifest.notes) == ({"score": 0.5}, {"spirit": "merry"})
    assert (manifest.code.commit, manifest.code.dirty) == ("0123abc", False)
    state = workdir.read_state("toy")
    assert (state.status, state.num_out, state.identity, state.key_metric) == ("done", 10, manifest.identity, "score")
    assert state.total_s >= state.run_s > 0
    assert Reference.model_validate_json(workdir.reference("toy").read_bytes()) == reference
    assert not workdir.staging("toy").exists()
    assert not any((workdir.state / "scratch").iterdir())


def test_the_same_work_is_recognised_and_not_done_again(workdir, run_toy, journal):
    first = run_toy()
    assert run_toy() == first
    assert num_runs(journal) == 1
    assert workdir.read_state("toy").status == "unchanged"
    assert workdir.read_state("toy").num_out == 10
    assert len(mlflow_runs(workdir)) == 1


def test_recognition_needs_no_mlflow(workdir, run_toy, journal):
    first = run_toy()
    nowhere = Services("sqlite:////nowhere/mlflow.db", "toys", None)
    assert run_toy(to=nowhere) == first


def test_equal_work_has_an_equal_identity_elsewhere(new_workdir, services, journal):
    config = ToyConfig(journal=journal)
    identities = {execute(config, {}, new_workdir(name), services).identity for name in ("one", "other")}
    assert len(identities) == 1
    assert num_runs(journal) == 2


def test_a_changed_configuration_runs_again(workdir, run_toy, journal):
    first = run_toy(text="a")
    assert run_toy(text="b") != first
    assert num_runs(journal) == 2
    assert (workdir.output("toy") / "text.txt").read_text() == "b"


def test_a_changed_external_file_runs_again_and_a_touched_one_does_not(workdir, run_toy, journal, tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("old")
    run_toy(books=[book])
    book.touch()
    run_toy(books=[book])
    assert num_runs(journal) == 1
    book.write_text("new")
    run_toy(books=[book])
    assert num_runs(journal) == 2
    assert read_manifest(workdir.output("toy")).external_files[0].path == str(book)


def test_a_changed_input_runs_again(workdir, services, run_toy):
    def run_model() -> str:
        execute(ToyModelConfig(), {"toy": workdir.output("toy")}, workdir, services)
        return workdir.read_state("toy_model").status

    run_toy(text="a")
    assert [run_model(), run_model()] == ["done", "unchanged"]
    run_toy(text="b")
    assert run_model() == "done"
    assert read_manifest(workdir.output("toy_model")).inputs == {"toy": read_manifest(workdir.output("toy")).identity}


def test_changed_code_of_the_stage_runs_again(workdir, services, tmp_path, monkeypatch):
    folder = tmp_path / "code" / "copied_toy"
    shutil.copytree(REPOSITORY / "tests" / "support" / "toy", folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(str(folder.parent))
    config_type = importlib.import_module("copied_toy.config").ToyConfig

    def run() -> str:
        sys.modules.pop("copied_toy.stage", None)
        execute(config_type(), {}, workdir, services)
        return workdir.read_state("toy").status

    assert [run(), run()] == ["done", "unchanged"]
    code = (folder / "stage.py").read_text()
    (folder / "stage.py").write_text(code.replace('"text.txt"', '"words.txt"'))
    assert run() == "done"
    assert (workdir.output("toy") / "words.txt").is_file()


def test_force_runs_again(workdir, run_toy, journal):
    first = run_toy()
    assert run_toy(force=True).identity == first.identity
    assert num_runs(journal) == 2
    assert [run.info.status for run in mlflow_runs(workdir)] == ["FINISHED", "FINISHED"]


def test_the_old_output_stays_until_the_new_one_is_sealed(workdir, run_toy, monkeypatch):
    first = run_toy(text="old")
    seal = stage_module.seal

    def seal_beside_the_old_one(*arguments, **facts):
        assert verify(workdir.output("toy")).identity == first.identity
        return seal(*arguments, **facts)

    monkeypatch.setattr(stage_module, "seal", seal_beside_the_old_one)
    with pytest.raises(RuntimeError):
        run_toy(text="new", ending="raise")
    assert verify(workdir.output("toy")).identity == first.identity
    run_toy(text="new")
    assert (workdir.output("toy") / "text.txt").read_text() == "new"
    assert not list((workdir.state / "staging").iterdir())


def test_bad_records_below_the_share_are_counted_and_listed(workdir, run_toy):
    run_toy(num_items=100, num_bad=29, max_quarantine_share=0.29)
    counts = read_manifest(workdir.output("toy")).counts
    assert (counts.num_in, counts.num_out, counts.quarantined) == (100, 71, {"bad_number": 29})
    listed = (workdir.output("toy") / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(listed[3]) == {"item": "item 3", "reason": "bad_number", "detail": "3 is bad"}
    assert workdir.read_state("toy").num_quarantined == 29


def test_bad_records_above_the_share_fail_the_stage_with_their_reasons(workdir, run_toy):
    with pytest.raises(QuarantineError) as error:
        run_toy(num_items=1000, num_bad=6, max_quarantine_share=0.005)
    listing = workdir.state / "toy.quarantine.jsonl"
    for words in ("6 of 1000", "bad_number 6", "0.005", str(listing), "toy.max_quarantine_share"):
        assert words in str(error.value)
    assert len(listing.read_text().splitlines()) == 6
    assert not workdir.output("toy").exists()
    assert workdir.read_state("toy").exit_code == 5


def _fails_once(monkeypatch, target, name, *, after: bool = False) -> None:
    """Makes one method stop its process's work once, before or after it did its own."""
    original = getattr(target, name)

    def stop(*arguments, **named):
        monkeypatch.setattr(target, name, original)
        if after:
            original(*arguments, **named)
        raise Preempted("stopped here by the test")

    monkeypatch.setattr(target, name, stop)


@pytest.mark.parametrize("before", [None, "old"], ids=["first", "replacing"])
@pytest.mark.parametrize(
    ("target", "name", "after"),
    [
        (stage_module, "seal", True),
        (stage_module._Attempt, "_put_in_place", False),
        (stage_module, "sync_directory", False),
        (stage_module._Attempt, "_publish", False),
        (stage_module, "write_atomically", False),
        (stage_module._Attempt, "_record_success", False),
    ],
    ids=["sealed", "before rename", "renamed", "before publishing", "before the reference", "published"],
)
def test_what_was_sealed_is_finished_by_the_next_call(
    workdir, run_toy, journal, monkeypatch, before, target, name, after
):
    if before:
        run_toy(text=before)
    _fails_once(monkeypatch, target, name, after=after)
    with pytest.raises(Preempted):
        run_toy(text="new")
    num_runs_before = num_runs(journal)
    reference = run_toy(text="new")
    assert num_runs(journal) == num_runs_before
    assert verify(workdir.output("toy")).identity == reference.identity
    assert (workdir.output("toy") / "text.txt").read_text() == "new"
    assert Reference.model_validate_json(workdir.reference("toy").read_bytes()) == reference
    assert {run.info.status for run in mlflow_runs(workdir)} <= {"FINISHED", "KILLED"}
    assert mlflow_runs(workdir, status="FINISHED")[0].data.tags["pathoflow.identity"] == reference.identity
    assert not list((workdir.state / "staging").iterdir())
    assert not any((workdir.state / "scratch").iterdir())


def test_a_stop_between_the_two_renames_loses_nothing(workdir, run_toy, journal, monkeypatch):
    run_toy(text="old")
    rename = Path.rename

    def stop_at_the_second(path, target):
        if path == workdir.staging("toy"):
            monkeypatch.setattr(Path, "rename", rename)
            raise Preempted("stopped here by the test")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stop_at_the_second)
    with pytest.raises(Preempted):
        run_toy(text="new")
    run_toy(text="new")
    assert num_runs(journal) == 2
    assert (verify(workdir.output("toy")), (workdir.output("toy") / "text.txt").read_text())[1] == "new"


def test_a_half_made_output_is_never_taken_for_a_finished_one(workdir, run_toy, journal, monkeypatch):
    _fails_once(monkeypatch, stage_module, "seal")
    with pytest.raises(Preempted):
        run_toy()
    assert (workdir.staging("toy") / "text.txt").exists()
    assert not workdir.output("toy").exists()
    run_toy()
    assert num_runs(journal) == 2


def test_a_changed_byte_in_the_own_output_is_told_and_force_mends_it(workdir, run_toy):
    run_toy()
    path = workdir.output("toy") / "text.txt"
    path.write_text("hellO")
    with pytest.raises(SealError, match=str(path)):
        run_toy()
    assert path.read_text() == "hellO"
    run_toy(force=True)
    assert verify(workdir.output("toy"))


def test_a_directory_in_the_outputs_place_that_is_none_is_left_alone(workdir, run_toy):
    workdir.output("toy").mkdir()
    (workdir.output("toy") / "thesis.txt").write_text("mine")
    with pytest.raises(SealError, match="is not sealed"):
        run_toy()
    assert (workdir.output("toy") / "thesis.txt").read_text() == "mine"


def test_a_changed_byte_in_an_input_stops_the_stage_before_it_runs(workdir, services, run_toy):
    run_toy()
    path = workdir.output("toy") / "parts" / "deep" / "number.bin"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(SealError, match=str(path)):
        execute(ToyModelConfig(), {"toy": workdir.output("toy")}, workdir, services)
    assert workdir.read_state("toy_model").exit_code == 4
    assert not workdir.output("toy_model").exists()


def test_a_missing_input_is_named(workdir, services):
    with pytest.raises(InputError, match="toy_model needs the sealed output of toy"):
        execute(ToyModelConfig(), {}, workdir, services)


@pytest.mark.parametrize(
    ("values", "error", "message", "exit_code"),
    [
        ({"ending": "raise"}, RuntimeError, "toy failed: RuntimeError: the toy broke", 7),
        ({"ending": "user_error"}, InputError, "toy.txt is empty. Write something in it.", 3),
        ({"ending": "link"}, StageError, "link.txt, which is no regular file", 7),
        ({"ending": "nan"}, StageError, "metric score came out as nan", 7),
        ({"books": [Path("missing.txt")]}, FileNotFoundError, "missing.txt", 7),
    ],
    ids=["crash", "input", "link", "nan", "file"],
)
def test_a_failure_leaves_its_reason_and_no_output(workdir, run_toy, values, error, message, exit_code):
    with pytest.raises(error):
        run_toy(**values)
    state = workdir.read_state("toy")
    assert (state.status, state.exit_code) == ("failed", exit_code)
    assert message in state.error
    assert not workdir.output("toy").exists()
    for run in mlflow_runs(workdir):
        assert run.info.status == "FAILED"
        assert run.data.tags["pathoflow.error"] == state.error


def test_a_failure_whose_last_words_fail_is_still_the_one_that_is_raised(workdir, run_toy, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathoflow.stores.tracking.StageRun.abort", full)
    monkeypatch.setattr(stage_module._Attempt, "_record_end", full)
    with pytest.raises(RuntimeError, match="the toy broke"):
        run_toy(ending="raise")


def test_a_run_left_open_is_ended_by_the_next_attempt(workdir, run_toy, monkeypatch):
    monkeypatch.setattr("pathoflow.stores.tracking.StageRun.abort", lambda *_: None)
    with pytest.raises(RuntimeError):
        run_toy(ending="raise")
    assert [run.info.status for run in mlflow_runs(workdir)] == ["RUNNING"]
    run_toy()
    assert sorted(run.info.status for run in mlflow_runs(workdir)) == ["FINISHED", "KILLED"]


def test_data_is_pushed_when_a_remote_comes_later(workdir, run_toy, journal):
    assert run_toy().dvc_md5 is None
    reference = run_toy(to=Services.from_environment(workdir))
    assert reference.dvc_md5.endswith(".dir")
    assert (num_runs(journal), workdir.read_state("toy").status) == (1, "unchanged")


def test_nothing_is_left_in_the_current_folder(workdir, services, run_toy, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    run_toy(to=Services.from_environment(workdir))
    execute(ToyModelConfig(), {"toy": workdir.output("toy")}, workdir, services)
    assert list(here.iterdir()) == []


def test_services_come_from_the_environment_or_lie_in_the_work_directory(workdir, monkeypatch):
    assert Services.from_environment(workdir) == Services(
        workdir.tracking_uri, "pathoflow", str(workdir.root / "dvc" / "remote")
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "trial")
    monkeypatch.setenv("PATHOFLOW_DVC_REMOTE", "s3://bucket/dvc")
    assert Services.from_environment(workdir) == Services("http://mlflow:5000", "trial", "s3://bucket/dvc")
    monkeypatch.setenv("PATHOFLOW_DVC_REMOTE", "")
    assert Services.from_environment(workdir).dvc_remote is None


def _wrapped(cause: BaseException) -> BaseException:
    try:
        try:
            raise cause
        except BaseException as inner:
            raise ValueError("could not save") from inner
    except ValueError as outer:
        return outer


def test_a_full_disk_is_recognised_however_it_is_wrapped(workdir):
    full = OSError(28, "No space left on device", "/data/shard")
    assert "could not write /data/shard. Free some space" in explain(full, "toy", workdir)
    for error in (_wrapped(full), RuntimeError("(sqlite3.OperationalError) database or disk is full")):
        assert disk_is_full(error)
        assert f"toy could not write to {workdir.root}" in explain(error, "toy", workdir)
    assert not disk_is_full(OSError(2, "No such file or directory"))
    assert "batch size" in explain(MemoryError(), "toy", workdir)
