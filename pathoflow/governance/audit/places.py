"""The stores that an audit reads: the configured services, or those below one work directory."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow import MlflowClient
from mlflow.entities import Metric, Run, ViewType
from mlflow.exceptions import MlflowException

from pathoflow.contract.code import REPOSITORY
from pathoflow.contract.lineage import find_run
from pathoflow.contract.references import Reference
from pathoflow.contract.workdir import WorkDir
from pathoflow.errors import InputError
from pathoflow.governance.audit.stores import MissingError, Store, UnreachableError, open_store


class Places:
    """The stores that records point to.

    Args:
        tracking_uri: MLflow's tracking and registry server.
        dvc_remote: Where data lies whose reference names no remote.
        workdir: A local run; its stores are read where it lies now, also if it was moved or copied since.
        repository: The git repository that the recorded commits are looked up in.
        sources: A folder in which files from outside the pipeline are looked for by name, where they are not at the
            recorded path.
        kfp_endpoint: URL of the Kubeflow Pipelines API, to look up recorded runs.
    """

    def __init__(
        self,
        tracking_uri: str,
        *,
        dvc_remote: str | None = None,
        workdir: WorkDir | None = None,
        repository: Path = REPOSITORY,
        sources: Path | None = None,
        kfp_endpoint: str | None = None,
    ) -> None:
        self.tracking_uri = tracking_uri
        self.dvc_remote = dvc_remote
        self.workdir = workdir
        self.repository = repository
        self.sources = sources
        self.kfp_endpoint = kfp_endpoint or os.environ.get("KFP_ENDPOINT")
        self._stores: dict[str, Store] = {}

    @classmethod
    def from_environment(cls, *, sources: Path | None = None, repository: Path = REPOSITORY) -> Places:
        """Opens the services that the environment names.

        Raises:
            InputError: It names no MLflow server.
        """
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            raise InputError(
                "No registry is given. Set MLFLOW_TRACKING_URI, or name the work directory of a local run: "
                "--workdir runs/demo."
            )
        remote = os.environ.get("PATHOFLOW_DVC_REMOTE") or None
        return cls(uri, dvc_remote=remote, sources=sources, repository=repository)

    @classmethod
    def of_workdir(cls, root: Path, *, sources: Path | None = None, repository: Path = REPOSITORY) -> Places:
        """Opens the stores of a local run.

        Raises:
            InputError: There is no MLflow store.
        """
        workdir = WorkDir(root)
        if not (workdir.mlflow / "mlflow.db").is_file():
            raise InputError(f"{root} has no MLflow store. Give the --workdir of a run.")
        remote = str(workdir.dvc / "remote")
        return cls(workdir.tracking_uri, dvc_remote=remote, workdir=workdir, sources=sources, repository=repository)

    @cached_property
    def client(self) -> MlflowClient:
        """Access to MLflow."""
        return MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)

    def store(self, uri: str) -> Store:
        """Opens the store at a path or URI.

        Raises:
            UnreachableError: It is of a kind that cannot be read.
        """
        place = self._here(uri)
        if place not in self._stores:
            self._stores[place] = open_store(place, self.tracking_uri)
        return self._stores[place]

    def data(self, reference: Reference) -> Store:
        """Opens the DVC remote that holds a data set.

        Raises:
            UnreachableError: No remote is known.
        """
        remote = reference.dvc_remote or self.dvc_remote
        if not remote:
            raise UnreachableError("No DVC remote is recorded or configured. Set PATHOFLOW_DVC_REMOTE.")
        return self.store(remote)

    def artifacts(self, uri: str) -> Store:
        """Opens the folder behind an artifact URI; `runs:/…` is looked up.

        Raises:
            MissingError: The run is gone.
            UnreachableError: It cannot be looked up.
        """
        if not uri.startswith("runs:/"):
            return self.store(uri)
        run_id, _, path = uri.removeprefix("runs:/").partition("/")
        return self.store(f"{self.run(run_id).info.artifact_uri}/{path}")

    def run(self, run_id: str) -> Run:
        """Loads a run of MLflow.

        Raises:
            MissingError: It is gone.
            UnreachableError: It cannot be looked up.
        """
        with _answering():
            return self.client.get_run(run_id)

    def runs(self, run_ids: Collection[str]) -> dict[str, Run]:
        """Runs by their ids, asked for at once, those in the waste bin among them; one that is gone is left out.

        Raises:
            UnreachableError: They cannot be looked up.
        """
        if not run_ids:
            return {}
        query = f"attributes.run_id IN ({', '.join(repr(run_id) for run_id in sorted(run_ids))})"
        with _answering():
            experiments = self.client.search_experiments(view_type=ViewType.ALL)
            found = self.client.search_runs([item.experiment_id for item in experiments], query, ViewType.ALL)
        return {run.info.run_id: run for run in found}

    def find_run(self, identity: str) -> Run | None:
        """Finds the run that published an output, if MLflow knows one.

        Raises:
            UnreachableError: It cannot be looked up.
        """
        with _answering():
            return find_run(self.client, identity)

    def metric_history(self, run_id: str, name: str) -> list[Metric]:
        """Returns every point of a run's metric.

        Raises:
            UnreachableError: They cannot be looked up.
        """
        with _answering():
            return list(self.client.get_metric_history(run_id, name))

    def _here(self, uri: str) -> str:
        """Returns a recorded path as it is now: a work directory may have been moved or copied with its stores."""
        parts = urlsplit(uri)
        if self.workdir is None or parts.scheme not in ("", "file"):
            return uri
        path = Path(unquote(parts.path) if parts.scheme else uri)
        if self._recorded_root and path.is_relative_to(self._recorded_root):
            moved = self.workdir.root / path.relative_to(self._recorded_root)
            # Runs that were made after the move went where MLflow's experiment still points.
            return str(moved if moved.exists() or not path.exists() else path)
        return str(path)

    @property
    def moved_from(self) -> Path | None:
        """The work directory's place when its MLflow store was made, if it has moved since."""
        if self.workdir is None or self._recorded_root in (None, self.workdir.root):
            return None
        return self._recorded_root

    @cached_property
    def _recorded_root(self) -> Path | None:
        """Returns the work directory's place when its MLflow store was made."""
        for experiment in self.client.search_experiments():
            path = Path(unquote(urlsplit(experiment.artifact_location).path))
            if path.parts[-2:] == ("mlflow", "artifacts"):
                return path.parent.parent
        return None


@contextmanager
def _answering() -> Iterator[None]:
    """Turns what MLflow's client raises into what an audit tells apart."""
    try:
        yield
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise MissingError(str(error)) from error
        raise UnreachableError(str(error)) from error
    except OSError as error:
        raise UnreachableError(str(error)) from error
