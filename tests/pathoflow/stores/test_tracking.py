"""What MLflow knows of a stage: its place, configuration, inputs, series, figures and end."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pathoflow.contract.output import Reporter
from pathoflow.contract.publication import log_output
from pathoflow.contract.references import Reference
from pathoflow.contract.sealing import read_manifest, verify
from pathoflow.contract.stage import Services, execute
from pathoflow.contract.workdir import RunRecord
from pathoflow.errors import PathoflowError
from pathoflow.stores import tracking
from pathoflow.stores.tracking import Tracker
from tests.support.toy.config import ToyConfig
from tests.support.toy_model.config import ToyModelConfig


@pytest.fixture
def client(workdir) -> MlflowClient:
    return MlflowClient(workdir.tracking_uri)


@pytest.fixture
def tracker(workdir) -> Tracker:
    return Tracker(workdir.tracking_uri, "toys")


def begin_run(workdir, **changed) -> None:
    facts = {"id": "1", "recipe": "toys", "digest": "d", "stages": ["toy"], "kept": [], "forced": [], "overrides": []}
    workdir.write_run(RunRecord(**facts | {"started_at": 0.0} | changed))


def run_of(workdir, client, stage: str):
    return client.get_run(workdir.read_state(stage).mlflow_run_id)


def test_a_stages_run_holds_what_it_was_told_and_what_it_made(workdir, services, client):
    reference = execute(ToyConfig(text="é" * 7000, num_bad=1, max_quarantine_share=0.5), {}, workdir, services)
    run = run_of(workdir, client, "toy")
    assert (run.info.run_name, run.info.status) == ("toy", "FINISHED")
    assert client.get_experiment(run.info.experiment_id).name == "toys"
    resolved = ToyConfig(num_bad=1).resolved()
    assert run.data.params.keys() == resolved.keys()
    assert json.loads(run.data.params["num_bad"]) == 1
    assert run.data.params["text"].startswith("ééé")
    assert run.data.metrics == {"score": 1.0, "num_in": 10, "num_out": 9, "num_quarantined": 1}
    tags = run.data.tags
    assert tags["pathoflow.identity"] == reference.identity
    assert (tags["pathoflow.note.spirit"], tags["pathoflow.code_commit"]) == ("merry", "0123abc")
    assert [artifact.path for artifact in client.list_artifacts(run.info.run_id)] == ["manifest.json"]


def test_stages_are_nested_in_the_pipelines_run(workdir, services, client):
    begin_run(workdir)
    execute(ToyConfig(), {}, workdir, services)
    execute(ToyModelConfig(), {"toy": workdir.output("toy")}, workdir, services)
    parent = client.get_run(workdir.read_run().mlflow_run_id)
    assert (parent.info.run_name, parent.data.tags["pathoflow.recipe"]) == ("toys", "toys")
    children = client.search_runs(
        [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'", order_by=["start_time"]
    )
    assert [child.info.run_name for child in children] == ["toy", "toy_model"]


def test_a_stage_alone_after_a_run_starts_no_pipeline_run_that_nobody_ends(workdir, services, client):
    begin_run(workdir, status="finished")
    execute(ToyConfig(), {}, workdir, services)
    assert "mlflow.parentRunId" not in run_of(workdir, client, "toy").data.tags
    assert workdir.read_run().mlflow_run_id is None


def test_a_new_pipeline_run_ends_the_one_that_was_killed(workdir, services, client):
    begin_run(workdir)
    execute(ToyConfig(), {}, workdir, services)
    killed = workdir.read_run().mlflow_run_id
    begin_run(workdir, id="2")
    execute(ToyConfig(text="b"), {}, workdir, services)
    assert client.get_run(killed).info.status == "KILLED"
    assert client.get_run(workdir.read_run().mlflow_run_id).info.status == "RUNNING"


def test_runs_of_other_work_directories_and_stages_are_left_alone(new_workdir, tracker, client):
    one, other = new_workdir("one"), new_workdir("other")
    running = [
        tracker.start_run("toy", f"{one.id}/toy", {}),
        tracker.start_run("toy", f"{other.id}/toy", {}),
        tracker.start_run("toy_model", f"{one.id}/toy_model", {}),
    ]
    tracker.start_run("toy", f"{one.id}/toy", {})
    assert [client.get_run(run).info.status for run in running] == ["KILLED", "RUNNING", "RUNNING"]


def test_an_injected_run_is_joined(workdir, services, tracker, client, monkeypatch):
    injected = client.create_run(tracker.experiment_id, run_name="from outside").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", injected)
    reference = execute(ToyConfig(), {}, workdir, services)
    run = client.get_run(injected)
    assert workdir.read_state("toy").mlflow_run_id == injected
    assert (run.info.status, run.info.run_name) == ("FINISHED", "from outside")
    assert run.data.tags["pathoflow.identity"] == reference.identity
    assert run.data.params["text"] == "hello"


def test_the_inputs_are_data_sets_with_the_digest_of_dvc(workdir, client):
    services = Services.from_environment(workdir)
    data = execute(ToyConfig(), {}, workdir, services)
    model = execute(ToyModelConfig(), {"toy": workdir.output("toy")}, workdir, services)
    [item] = run_of(workdir, client, "toy_model").inputs.dataset_inputs
    assert (item.dataset.name, item.dataset.digest) == ("toy", data.dvc_md5)
    assert len(data.dvc_md5) == 36
    assert [tag.value for tag in item.tags] == [data.identity]
    assert model.dvc_md5 is None


def test_a_model_is_logged_whole_and_found_by_its_identity(workdir, services, tracker, client):
    execute(ToyConfig(), {}, workdir, services)
    reference = execute(ToyModelConfig(), {"toy": workdir.output("toy")}, workdir, services)
    run_id, uri = tracker.find_model(reference.identity)
    assert reference.model_uri == f"runs:/{run_id}/model"
    assert uri.endswith(f"{run_id}/artifacts/model")
    assert {artifact.path for artifact in client.list_artifacts(run_id, "model")} == {
        "model/manifest.json",
        "model/model",
    }
    assert Tracker(workdir.tracking_uri, "another experiment").find_model(reference.identity) == (run_id, uri)
    assert tracker.find_model("sha256:0") is None


def test_a_model_whose_logging_did_not_end_is_not_found(workdir, services, tracker, monkeypatch):
    execute(ToyConfig(), {}, workdir, services)

    def cut(*_, **__):
        raise PathoflowError("cut")

    monkeypatch.setattr(MlflowClient, "log_artifacts", cut)
    with pytest.raises(PathoflowError):
        execute(ToyModelConfig(), {"toy": workdir.output("toy")}, workdir, services)
    assert tracker.find_model(verify(workdir.output("toy_model")).identity) is None


def test_a_series_is_complete_beyond_mlflows_batches(workdir, services, client):
    execute(ToyConfig(num_points=2500), {}, workdir, services)
    points = client.get_metric_history(workdir.read_state("toy").mlflow_run_id, "loss")
    assert sorted((point.step, point.value) for point in points) == [(step, 1 / (step + 1)) for step in range(2500)]


def live_series(client, run, num_points: int) -> list[float]:
    """The values of `loss` in MLflow once there are so many, or after some seconds."""
    for _ in range(100):
        if len(points := client.get_metric_history(run.run_id, "loss")) >= num_points:
            break
        time.sleep(0.05)
    return [point.value for point in points]


def test_a_series_shows_while_the_stage_runs(tracker, client, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "_LIVE_INTERVAL_S", 0.05)
    run = tracker.stage_run("toy", "here/toy", run_id=None, parent_run_id=None)
    reporter = Reporter(tmp_path)
    run.follow(tmp_path / "series.jsonl")
    reporter.series(1, loss=0.5)
    assert live_series(client, run, 1) == [0.5]
    run.abort("KILLED", "the test is over")
    assert client.get_run(run.run_id).info.status == "KILLED"


def test_a_series_survives_a_line_that_a_kill_cut_short(tracker, client, tmp_path):
    reporter = Reporter(tmp_path)
    reporter.series(1, loss=0.5)
    with (tmp_path / "series.jsonl").open("a") as file:
        file.write('{"step": 2, "at_')
    run = tracker.stage_run("toy", "here/toy", run_id=None, parent_run_id=None)
    run.follow(tmp_path / "series.jsonl")
    reporter.series(2, loss=0.25)
    run.abort("KILLED", "the test is over")
    assert [point.value for point in client.get_metric_history(run.run_id, "loss")] == [0.5, 0.25]


def test_points_that_are_reported_again_after_a_restart_are_logged_once(tracker, client, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "_LIVE_INTERVAL_S", 0.02)
    reporter = Reporter(tmp_path)
    for step in (1, 2, 3):
        reporter.series(step, loss=1.0)
    run = tracker.stage_run("toy", "here/toy", run_id=None, parent_run_id=None)
    run.follow(tmp_path / "series.jsonl")
    # The new attempt takes its time until it knows from which checkpoint it goes on.
    time.sleep(0.3)
    assert not client.get_metric_history(run.run_id, "loss")
    reporter.cut_back(2)
    reporter.series(3, loss=0.5)
    run.abort("KILLED", "the test is over")
    points = client.get_metric_history(run.run_id, "loss")
    assert [(point.step, point.value) for point in points] == [(1, 1.0), (2, 1.0), (3, 0.5)]


def test_a_server_that_is_away_for_a_while_costs_no_points(tracker, client, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "_LIVE_INTERVAL_S", 0.02)
    log_batch = MlflowClient.log_batch
    refused = threading.Event()

    def away(*_, **__):
        refused.set()
        raise MlflowException("connection refused")

    run = tracker.stage_run("toy", "here/toy", run_id=None, parent_run_id=None)
    reporter = Reporter(tmp_path)
    run.follow(tmp_path / "series.jsonl")
    monkeypatch.setattr(MlflowClient, "log_batch", away)
    reporter.series(1, loss=0.5)
    assert refused.wait(5)
    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
    reporter.series(2, loss=0.25)
    assert live_series(client, run, 2) == [0.5, 0.25]
    run.abort("KILLED", "the test is over")


def test_plots_are_shown(workdir, services, tracker, client):
    reference = execute(ToyConfig(), {}, workdir, services)
    output = workdir.output("toy")
    (output / "plots").mkdir()
    (output / "plots" / "loss.png").write_bytes(b"png")
    run = tracker.stage_run("toy", "here/toy", run_id=None, parent_run_id=None)
    log_output(run, read_manifest(output), output, log_model=False)
    assert [artifact.path for artifact in client.list_artifacts(run.run_id, "plots")] == ["plots/loss.png"]
    assert reference.model_uri is None


def test_artifacts_lie_beside_the_database_wherever_that_is(new_workdir):
    workdir = new_workdir("a folder 与中文")
    execute(ToyConfig(), {}, workdir, Services.from_environment(workdir))
    run_id = workdir.read_state("toy").mlflow_run_id
    assert (workdir.mlflow / "artifacts" / run_id / "artifacts" / "manifest.json").is_file()
    assert Reference.model_validate_json(workdir.reference("toy").read_bytes()).dvc_md5


def test_an_experiment_made_by_another_process_meanwhile_is_used(workdir, client, monkeypatch):
    look = MlflowClient.get_experiment_by_name
    made = []

    def make_it_after_the_look(self, name):
        if made:
            return look(self, name)
        made.append(client.create_experiment(name))
        return None

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", make_it_after_the_look)
    assert [Tracker(workdir.tracking_uri, "toys").experiment_id] == made


def test_a_process_that_is_killed_while_mlflow_makes_its_tables_leaves_nothing_that_stops_the_next(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}"
    command = [sys.executable, "-c", f"from pathoflow.stores.tracking import Tracker; Tracker({uri!r}, 'killed')"]
    process = subprocess.Popen(command)
    # The first tables are there; the others take most of a second.
    while not any(path.stat().st_size > 100_000 for path in tmp_path.rglob("mlflow.db")):
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (tmp_path / "mlflow" / "mlflow.db").exists()
    assert Tracker(uri, "next").experiment_id
