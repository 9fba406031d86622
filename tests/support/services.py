"""The services of a team, real and on this machine: MLflow with logins on PostgreSQL, and S3 for all bytes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.s3_server import BUCKET, S3Server, free_port, s3_server
from tools.mlflow_server import MlflowServer, mlflow_server, postgres, postgres_programs


@dataclass
class TeamServices:
    """Both servers, and what a process needs to use them."""

    mlflow: MlflowServer
    s3: S3Server
    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """MLflow, the bucket with artifacts, data and registry, and the folder of trusted keys."""
        return {
            **self.mlflow.environment,
            **self.s3.environment,
            "PATHOFLOW_DVC_REMOTE": f"s3://{BUCKET}/dvc",
            "PATHOFLOW_REGISTRY": f"s3://{BUCKET}/registry",
            "PATHOFLOW_TRUSTED_KEYS": str(self.root / "trusted"),
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        }


@contextmanager
def team_services(*, conditional: bool = False) -> Iterator[TeamServices]:
    """Starts everything; skips the test where PostgreSQL or rclone is absent.

    Args:
        conditional: Whether the S3 endpoint honours `If-None-Match`.
    """
    if postgres_programs() is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    # PostgreSQL runs as a user of its own, who may not enter pytest's folders.
    with tempfile.TemporaryDirectory(prefix="pathoflow-services-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        with (
            s3_server(root / "s3", conditional=conditional) as s3,
            pytest.MonkeyPatch.context() as patch,
        ):
            for name, value in s3.environment.items():
                patch.setenv(name, value)
            with (
                postgres(root / "postgres") as database,
                mlflow_server(root / "mlflow", database, free_port(), f"s3://{BUCKET}/mlflow") as mlflow,
            ):
                yield TeamServices(mlflow, s3, root)
