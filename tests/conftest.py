"""Fixtures of several folders: a work directory whose MLflow store is ready, the toy recipe, a test cluster."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from pathoflow.contract.stage import Services
from pathoflow.contract.workdir import WorkDir

if TYPE_CHECKING:
    from kubernetes import client

# A shell that starts the tests in the background has SIGINT ignored, and their processes would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Files of few but long tests. Workers take files in order, and a long one at the end would leave the others idle.
_FIRST = (
    "tests/test_run.py",
    "tests/pathoflow/training/test_faults.py",
    "tests/pathoflow/training/test_multinode.py",
    "tests/components/training/rl/test_rl.py",
    "tests/pathoflow/governance/",
    "tests/pathoflow/training/",
    "tests/components/training/",
    "tests/test_sharded_run.py",
    "tests/pipelines/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first, and lets tests that race real processes try once more, which the summary counts."""
    for item in items:
        if item.get_closest_marker("races"):
            item.add_marker(pytest.mark.flaky(reruns=1))
    items.sort(key=lambda item: next((n for n, path in enumerate(_FIRST) if item.nodeid.startswith(path)), len(_FIRST)))


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """A folder of all workers: what is costly to make is made once in it, under a lock."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def empty_store(shared) -> Path:
    """An MLflow database without runs: making its tables takes seconds, so that all tests copy this one."""
    database = shared / "mlflow.db"
    with FileLock(shared / "mlflow.lock"):
        if not database.exists():
            from mlflow import MlflowClient

            making = shared / "making.db"
            MlflowClient(f"sqlite:///{making}").search_experiments()
            making.rename(database)
    return database


@pytest.fixture(scope="session")
def undisturbed(shared) -> tuple[bytes, dict]:
    """What a toy training of two processes leaves that nothing interrupts: the model's bytes and the losses."""
    from tests.support.toy_training.attempt import Attempt, outcome

    where = shared / "undisturbed"
    with FileLock(shared / "undisturbed.lock"):
        if not where.exists():
            attempt = Attempt(shared / "training")
            assert attempt.end() == 0, attempt.words()
            attempt.where.rename(where)
    return outcome(where)


@pytest.fixture
def clean_environment(monkeypatch) -> None:
    """Forgets the servers and the run that this process may have been told of, and pins the code's commit.

    A stage sets MLflow's variables for its process, so that they are put back after each test.
    """
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_ID", "PATHOFLOW_DVC_REMOTE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATHOFLOW_CODE_COMMIT", "0123abc")


@pytest.fixture
def new_workdir(tmp_path, empty_store, clean_environment):
    """Makes work directories with an MLflow store in each."""

    def make(name: str) -> WorkDir:
        workdir = WorkDir(tmp_path / name)
        workdir.create()
        workdir.mlflow.mkdir()
        shutil.copyfile(empty_store, workdir.mlflow / "mlflow.db")
        return workdir

    return make


@pytest.fixture
def workdir(new_workdir) -> WorkDir:
    return new_workdir("work")


@pytest.fixture
def services(workdir) -> Services:
    """MLflow only; tests of versions ask for `Services.from_environment(workdir)`."""
    return Services(workdir.tracking_uri, "toys", None)


@pytest.fixture
def toy_recipe(tmp_path) -> Path:
    """A recipe of the toy stages with no value of its own."""
    folder = tmp_path / "toys"
    folder.mkdir()
    (folder / "recipe.yaml").write_text("title: Toys\ndescription: Two toy stages.\n")
    (folder / "toy.yaml").touch()
    (folder / "toy_model.yaml").touch()
    return folder


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The kubeconfig of an administrator of a test cluster; skips the test where there is none."""
    name = os.environ.get("PATHOFLOW_TEST_KUBECONFIG")
    if not name:
        pytest.skip("PATHOFLOW_TEST_KUBECONFIG names no kubeconfig of a test cluster")
    return Path(name)


@pytest.fixture(scope="session")
def api(kubeconfig: Path) -> client.ApiClient:
    """A client that may do everything on the test cluster."""
    from kubernetes import config

    return config.new_client_from_config(str(kubeconfig))


@pytest.fixture(scope="module")
def namespace(api: client.ApiClient) -> Iterator[str]:
    """A namespace of the test module's own."""
    from tests.support.kube import new_namespace

    with new_namespace(api) as name:
        yield name


@pytest.fixture(scope="session")
def trainer_crds(api: client.ApiClient) -> None:
    """The kinds of Kubeflow Trainer, as far as an API server has to know them: any field, and a status of its own."""
    from tests.support.kube import install_trainer_crds

    install_trainer_crds(api)
