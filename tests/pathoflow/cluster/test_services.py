"""What `pathoflow doctor` says of services, told by real servers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import pytest

from pathoflow.cluster.findings import Finding
from pathoflow.cluster.services import look_at_services
from pathoflow.cluster.settings import Cluster
from tests.support.kfp_server import kfp_server
from tests.support.overlays import parameters
from tests.support.s3_server import BUCKET, s3_server

NOWHERE = "http://localhost:1"


@contextmanager
def pages(answers: dict[str, tuple[int, str]]) -> Iterator[str]:
    """A web server that knows a few pages."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = answers.get(self.path, (404, "not here"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    for name in ("KFP_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)


def found(**changes: str) -> dict[str, Finding]:
    places = {"mlflow": NOWHERE, "kfp": NOWHERE, "object_store": NOWHERE}
    return {
        finding.what: finding for finding in look_at_services(Cluster.model_validate(parameters(**places | changes)))
    }


def test_services_that_are_away_or_inside_the_cluster_are_told_apart():
    findings = found(kfp="http://ml-pipeline.kubeflow.svc.invalid:8888")
    assert findings["MLflow"].level == findings["object store"].level == "failed"
    assert "does not answer" in findings["MLflow"].detail
    assert findings["Kubeflow Pipelines"].level == "unknown"


def test_mlflow_is_asked_for_its_health_and_version():
    ours = version("mlflow")
    with pages({"/health": (200, "OK"), "/version": (200, ours)}) as url:
        assert found(mlflow=url)["MLflow"] == Finding("MLflow", "ok", f"{ours} at {url}")
    with pages({"/health": (200, "OK"), "/version": (200, "1.30.0")}) as url:
        assert found(mlflow=url)["MLflow"].level == "warning"
    with pages({"/health": (403, "Invalid Host header")}) as url:
        assert found(mlflow=url)["MLflow"].level == "failed"


def test_kubeflow_pipelines_are_told_from_another_service_and_an_expired_token(monkeypatch):
    with kfp_server() as server:
        assert found(kfp=server.url)["Kubeflow Pipelines"].detail == f"for one user at {server.url}"
        server.token = "good"
        monkeypatch.setenv("KFP_TOKEN", "expired")
        refused = found(kfp=server.url)["Kubeflow Pipelines"]
        assert (refused.level, "KFP_TOKEN" in refused.remedy) == ("failed", True)
        assert "expired" not in repr(refused)
        server.page = "<html>Log in</html>"
        assert "not as Kubeflow Pipelines" in found(kfp=server.url)["Kubeflow Pipelines"].detail


def test_buckets_are_written_if_there_are_credentials(tmp_path, monkeypatch):
    with s3_server(tmp_path) as s3:
        places = {"object_store": s3.endpoint, "data_bucket": f"{BUCKET}/dvc", "model_bucket": "absent/mlflow"}
        assert found(**places)["object store"].level == "unknown"
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        findings = found(**places)
        assert findings[f"bucket {BUCKET}/dvc"].level == "ok"
        assert findings["bucket absent/mlflow"].level == "failed"
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        refused = found(**places)[f"bucket {BUCKET}/dvc"]
        assert refused.level == "failed"
        assert "wrong" not in repr(refused)
    assert not list(tmp_path.rglob(".doctor-*"))
