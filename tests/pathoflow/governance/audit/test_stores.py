"""Reading from each kind of store: the same bytes, and what is not there told apart from what cannot be asked."""

from __future__ import annotations

import os

import pytest
from mlflow import MlflowClient

from pathoflow.governance.audit.hashing import Hasher, StoredFile, hash_all
from pathoflow.governance.audit.stores import FolderStore, MissingError, UnreachableError, open_store, read
from pathoflow.system.files import sha256_of_file
from tests.support.s3_server import free_port
from tools.mlflow_server import mlflow_server

NAMES = ("weights.bin", "ü ber/100% +x.txt", "empty")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("stored")
    for number, name in enumerate(NAMES):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(os.urandom(3 * 2**20 * number % (2**22)) if name != "empty" else b"")
    return root


@pytest.fixture(scope="module")
def served(folder, tmp_path_factory, empty_store):
    """The same files, behind an MLflow server that hands out artifacts itself."""
    root = tmp_path_factory.mktemp("server")
    (root / "mlflow.db").write_bytes(empty_store.read_bytes())
    database, artifacts = f"sqlite:///{root / 'mlflow.db'}", str(root / "artifacts")
    with mlflow_server(root, database, free_port(), artifacts) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        client = MlflowClient(server.url)
        run = client.create_run(client.create_experiment("stores"))
        client.log_artifacts(run.info.run_id, str(folder), "model")
        yield open_store(f"{run.info.artifact_uri}/model", server.url)


def test_the_server_hands_out_what_the_folder_holds(folder, served):
    assert served.root.startswith("mlflow-artifacts:")
    for store in (served, FolderStore(folder)):
        assert store.names() == set(NAMES)
        files = [StoredFile(store, name, sha256_of_file(folder / name), 0, md5="x") for name in NAMES]
        found = hash_all(files)
        assert [found[store.root, name].sha256 for name in NAMES] == [file.sha256 for file in files]
        assert all(len(result.md5 or "") == 32 for result in found.values())
        assert read(store, NAMES[1]) == (folder / NAMES[1]).read_bytes()


def test_what_is_missing_is_told_apart(folder, served):
    for store in (served, FolderStore(folder)):
        with pytest.raises(MissingError):
            read(store, "not there")
        found = hash_all([StoredFile(store, "not there", "", 0)])
        assert found[store.root, "not there"].missing
    away = open_store("mlflow-artifacts://127.0.0.1:9/x", "http://127.0.0.1:9")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(UnreachableError):
            read(away, "x")
        with pytest.raises(UnreachableError):
            away.names()
    with pytest.raises(UnreachableError, match="No reader for gs"):
        open_store("gs://bucket/x", "")
    with pytest.raises(UnreachableError, match="exceeds"):
        read(FolderStore(folder), NAMES[1], limit_bytes=10)


def test_a_file_is_read_once_and_progress_is_told(folder):
    store, told = FolderStore(folder), []
    files = [StoredFile(store, NAMES[1], "", 0)] * 3
    with Hasher(2, told.append) as hasher:
        hasher.add(files)
        hasher.add(files)
        hasher.found()
    assert sum(told) == (folder / NAMES[1]).stat().st_size
