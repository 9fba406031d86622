"""MLflow: one run per stage, nested in the pipeline's run."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow import MlflowClient, artifacts
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

PARENT_TAG = "mlflow.parentRunId"
IDENTITY_TAG = "pathoflow.identity"
REFERENCE_TAG = "pathoflow.reference"
OWNER_TAG = "pathoflow.owner"
MODEL_PATH = "model"
_MAX_PARAM_LENGTH = 6000
_LIVE_INTERVAL_S = 5.0
_SQLITE = "sqlite:///"


class Tracker:
    """Access to one experiment of one tracking server.

    Args:
        uri: Tracking URI; a local SQLite store keeps its artifacts beside the database.
        experiment: Name of the experiment; made if it does not exist.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri = uri
        if uri.startswith(_SQLITE):
            _make_database(Path(uri.removeprefix(_SQLITE)))
        self.client = MlflowClient(tracking_uri=uri)
        self.experiment_id = self._experiment_id(experiment)

    def start_run(self, name: str, owner: str, tags: Mapping[str, str]) -> str:
        """Starts a run and marks those that a killed process of the same owner left running as killed.

        Args:
            name: The run's name.
            owner: Who has one run at a time: a stage or the pipeline of one work directory.
            tags: Further tags of the run.
        """
        for abandoned in self._search(f"tags.`{OWNER_TAG}` = '{owner}' and attributes.status = 'RUNNING'"):
            self.client.set_terminated(abandoned.info.run_id, "KILLED")
        run = self.client.create_run(self.experiment_id, run_name=name, tags={**tags, OWNER_TAG: owner})
        return str(run.info.run_id)

    def end_run(self, run_id: str, status: str) -> None:
        """Ends a run as `FINISHED`, `FAILED` or `KILLED`."""
        self.client.set_terminated(run_id, status)

    def stage_run(self, stage: str, owner: str, *, run_id: str | None, parent_run_id: str | None) -> StageRun:
        """Starts a stage's run, nested in `parent_run_id`, or joins `run_id`."""
        tags = {"pathoflow.stage": stage} | ({PARENT_TAG: parent_run_id} if parent_run_id else {})
        return StageRun(self.client, run_id or self.start_run(stage, owner, tags))

    def find_model(self, identity: str) -> tuple[str, str] | None:
        """Finds run and artifact URI of the model with an identity, if it was logged."""
        runs = self._search(f"tags.`{IDENTITY_TAG}` = '{identity}' and attributes.status = 'FINISHED'")
        if not runs:
            return None
        return runs[0].info.run_id, f"{runs[0].info.artifact_uri}/{MODEL_PATH}"

    def _search(self, query: str) -> list[Run]:
        """Runs of every experiment, the latest first: one work directory may have served several."""
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        return list(self.client.search_runs(experiments, query))

    def _experiment_id(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        location = None
        if self.uri.startswith(_SQLITE):
            location = Path(self.uri.removeprefix(_SQLITE)).parent.joinpath("artifacts").as_uri()
        try:
            return str(self.client.create_experiment(name, artifact_location=location))
        except MlflowException:
            # Another process made it between the look and the creation.
            found = self.client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)


def _make_database(path: Path) -> None:
    """Puts a database with all its tables in place at once, if there is none.

    MLflow makes its tables one after the other, and cannot go on where it was killed among them.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as folder:
        fresh = Path(folder) / path.name
        MlflowClient(tracking_uri=f"{_SQLITE}{fresh}").search_experiments(max_results=1)
        # Another process may have been first.
        with suppress(FileExistsError):
            path.hardlink_to(fresh)


class StageRun:
    """The MLflow run of one stage."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.client = client
        self.run_id = run_id
        self._series: _SeriesForwarder | None = None

    def follow(self, series: Path) -> None:
        """Forwards the points that a stage appends to `series` while it runs."""
        self._series = _SeriesForwarder(self.client, self.run_id, series)
        self._series.start()

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Logs a resolved configuration as parameters."""
        params = [Param(key, as_param(value)) for key, value in config.items()]
        self.client.log_batch(self.run_id, params=params)

    def log_inputs(self, inputs: Mapping[str, tuple[str, str]]) -> None:
        """Logs inputs as MLflow data sets: name → (digest, identity).

        The digest is DVC's where there is one: MLflow keeps 36 characters, which is what `<md5>.dir` has; the
        SHA-256 identity goes to a tag.
        """
        if not inputs:
            return
        datasets = [
            DatasetInput(
                Dataset(
                    name,
                    digest[:36],
                    "pathoflow",
                    json.dumps({"stage": name, "identity": identity}),
                ),
                [InputTag("pathoflow.identity", identity)],
            )
            for name, (digest, identity) in inputs.items()
        ]
        self.client.log_inputs(self.run_id, datasets)

    def finish(
        self, figures: Mapping[str, float], tags: Mapping[str, str], file: Path, folders: Mapping[str, Path]
    ) -> None:
        """Logs what a stage made and ends the run.

        Args:
            figures: Final metrics.
            tags: Tags of the run.
            file: Logged at the top of the run's artifacts.
            folders: Logged whole, by their path among the artifacts.
        """
        self._stop_following()
        self.client.log_batch(
            self.run_id,
            metrics=[Metric(name, value, 0, 0) for name, value in figures.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        self.client.log_artifact(self.run_id, str(file))
        for path, folder in folders.items():
            self.client.log_artifacts(self.run_id, str(folder), path)
        self.client.set_terminated(self.run_id, "FINISHED")

    def abort(self, status: str, reason: str) -> None:
        """Ends the run as `FAILED` or `KILLED`, with the reason as a tag."""
        try:
            self._stop_following()
        finally:
            self.client.set_tag(self.run_id, "pathoflow.error", reason[:5000])
            self.client.set_terminated(self.run_id, status)

    def artifact_uri(self, path: str) -> str:
        """Returns the URI of an artifact of this run."""
        return f"runs:/{self.run_id}/{path}"

    def _stop_following(self) -> None:
        if self._series is not None:
            self._series.stop()
            self._series = None


def download_model(uri: str, folder: Path, tracking_uri: str) -> Path:
    """Downloads a logged model into `folder` and returns where in it MLflow put the model."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder), tracking_uri=tracking_uri))


class _SeriesForwarder(threading.Thread):
    """Reads new lines of a `series.jsonl` every few seconds and logs them in batches.

    A server that is away for a while costs nothing: what could not be logged is logged with what comes next. Points of
    an earlier, killed attempt wait for the first new ones: by then this attempt has cut them back to where it goes on.
    """

    def __init__(self, client: MlflowClient, run_id: str, path: Path) -> None:
        super().__init__(daemon=True)
        self._client, self._run_id, self._path = client, run_id, path
        self._offset = 0
        self._stopped = threading.Event()
        if path.is_file():
            # A kill or a full disk may have cut the last line short; the next one must not be written behind it.
            with path.open("rb+") as file:
                file.truncate(file.read().rfind(b"\n") + 1)
        self._earlier = _state_of(path)

    def run(self) -> None:
        while not self._stopped.wait(_LIVE_INTERVAL_S):
            try:
                if _state_of(self._path) != self._earlier:
                    self._forward()
            except MlflowException as error:
                print(f"MLflow takes no metrics for the moment: {error}", file=sys.stderr)

    def stop(self) -> None:
        """Logs what is left and ends the thread."""
        self._stopped.set()
        self.join()
        self._forward()

    def _forward(self) -> None:
        if not self._path.is_file():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            lines = file.readlines()
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        metrics = [
            Metric(name, value, point["at_ms"], point["step"])
            for point in map(json.loads, lines)
            for name, value in point["values"].items()
        ]
        for start in range(0, len(metrics), 1000):
            self._client.log_batch(self._run_id, metrics=metrics[start : start + 1000])
        self._offset += sum(len(line) for line in lines)


def _state_of(path: Path) -> tuple[int, int] | None:
    """Returns what changes when a file is written."""
    return (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else None


def as_param(value: Any) -> str:
    """Formats a value of a configuration as an MLflow parameter."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:_MAX_PARAM_LENGTH]
