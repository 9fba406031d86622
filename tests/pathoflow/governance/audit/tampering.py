"""Ways to damage what a version stands on."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from pathlib import Path

from mlflow import MlflowClient

from pathoflow.contract.references import Reference
from pathoflow.contract.sealing import MANIFEST_FILE
from pathoflow.contract.workdir import WorkDir
from pathoflow.governance.audit.outputs import object_name


def flip(path: Path, at: int = -1) -> None:
    """Changes one bit of one byte of a file, by default of its last."""
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def reference(workdir: WorkDir, stage: str) -> Reference:
    return Reference.model_validate_json(workdir.reference(stage).read_bytes())


def stored(workdir: WorkDir, stage: str, name: str) -> Path:
    """A file of a published output where it is stored: in the DVC remote or in MLflow."""
    found = reference(workdir, stage)
    if found.dvc_md5:
        remote = workdir.dvc / "remote"
        listing = json.loads((remote / object_name(found.dvc_md5)).read_bytes())
        [md5] = [entry["md5"] for entry in listing if entry["relpath"] == name]
        return remote / object_name(md5)
    return workdir.mlflow / "artifacts" / str(found.run_id) / "artifacts" / "model" / name


def listing(workdir: WorkDir, stage: str) -> Path:
    return workdir.dvc / "remote" / object_name(str(reference(workdir, stage).dvc_md5))


def logged_manifest(workdir: WorkDir, stage: str) -> Path:
    run_id = str(reference(workdir, stage).run_id)
    return workdir.mlflow / "artifacts" / run_id / "artifacts" / MANIFEST_FILE


def client(workdir: WorkDir) -> MlflowClient:
    return MlflowClient(workdir.tracking_uri)


def execute_sql(workdir: WorkDir, statement: str, *values: str) -> None:
    """Changes MLflow's database behind its back."""
    with sqlite3.connect(workdir.mlflow / "mlflow.db") as database:
        assert database.execute(statement, values).rowcount > 0
    database.close()


def git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], check=True, capture_output=True)
