"""What stages in containers talk to: MLflow in a container of the cpu image on PostgreSQL, and an S3 endpoint."""

from __future__ import annotations

import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.images.containers import Container, background
from tests.support.s3_server import BUCKET, S3Server, free_port, s3_server
from tools.mlflow_server import postgres, postgres_programs

LOGINS = """[mlflow]
default_permission = NO_PERMISSIONS
database_uri = {database}
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""
PASSWORD = "a-password-of-tests"


@dataclass
class Services:
    """Both servers, and what a stage needs to use them."""

    url: str
    server: Container
    s3: S3Server

    @property
    def environment(self) -> dict[str, str]:
        return {
            **self.s3.environment,
            "MLFLOW_TRACKING_URI": self.url,
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": PASSWORD,
            "PATHOFLOW_DVC_REMOTE": f"s3://{BUCKET}/dvc",
        }


@contextmanager
def services(cpu_image: str) -> Iterator[Services]:
    """Starts them; skips the test where PostgreSQL or rclone is absent."""
    if postgres_programs() is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    with tempfile.TemporaryDirectory(prefix="pathoflow-images-") as folder:
        root = Path(folder)
        # PostgreSQL and the container each have a user of their own.
        root.chmod(0o755)
        with s3_server(root / "s3") as s3, postgres(root / "postgres") as database:
            (root / "postgres").chmod(0o755)
            with mlflow_container(cpu_image, root, database, s3) as (url, server):
                yield Services(url, server, s3)


@contextmanager
def mlflow_container(image: str, root: Path, database: str, s3: S3Server) -> Iterator[tuple[str, Container]]:
    """MLflow's server as the manifests start it, but for PostgreSQL's socket, which is mounted."""
    port = free_port()
    (root / "logins").mkdir()
    (root / "logins" / "auth.ini").write_text(LOGINS.format(database=database.replace("/mlflow?", "/auth?")))
    command = ["python", "-m", "mlflow", "server", "--app-name=basic-auth", f"--backend-store-uri={database}"]
    command += [f"--default-artifact-root=s3://{BUCKET}/mlflow", "--no-serve-artifacts", "--workers=1"]
    command += ["--host=127.0.0.1", f"--port={port}", f"--allowed-hosts=127.0.0.1:{port}"]
    environment = {
        **s3.environment,
        "MLFLOW_AUTH_CONFIG_PATH": "/etc/mlflow/auth.ini",
        "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-tests",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    sockets = root / "postgres"
    mounts = {sockets: f"{sockets}:ro", root / "logins": "/etc/mlflow:ro"}
    with background(image, *command, network="host", mounts=mounts, environment=environment) as server:
        url = f"http://127.0.0.1:{port}"
        server.wait_until(lambda: answers(f"{url}/health") == 200, "answer of MLflow", timeout_s=180)
        yield url, server


def answers(url: str) -> int | None:
    """The status with which a server answers; None while it does not."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None
