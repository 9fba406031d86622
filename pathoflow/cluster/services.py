"""Checks that the services of a run answer from here, and answer as what they should be."""

from __future__ import annotations

import json
import os
import uuid
from importlib.metadata import version
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, NameResolutionError, SSLError

from pathoflow.cluster.findings import Finding
from pathoflow.cluster.settings import Cluster

_TIMEOUT = urllib3.Timeout(connect=5.0, read=15.0)


def look_at_services(cluster: Cluster) -> list[Finding]:
    """MLflow, Kubeflow Pipelines and the object store; an address that only the cluster knows is unknown."""
    return [_mlflow(cluster.mlflow), _pipelines(cluster.kfp), *_object_store(cluster)]


def _mlflow(url: str) -> Finding:
    for path in ("/health", "/version"):
        answer = _get("MLflow", url + path)
        if isinstance(answer, Finding):
            return answer
        status, body = answer
        if status != 200:
            remedy = "See its log; it may not accept this host name (--allowed-hosts)."
            return Finding("MLflow", "failed", f"{url}{path} answers {status}", remedy)
    theirs, ours = body.strip(), version("mlflow")
    if theirs.split(".")[0] != ours.split(".")[0]:
        return Finding("MLflow", "warning", f"is {theirs}, and the stages use {ours}", "Use the image of this version.")
    return Finding("MLflow", "ok", f"{theirs} at {url}")


def _pipelines(url: str) -> Finding:
    name, path = "Kubeflow Pipelines", "/apis/v2beta1/healthz"
    token = os.environ.get("KFP_TOKEN", "").strip()
    answer = _get(name, url.rstrip("/") + path, {"Authorization": f"Bearer {token}"} if token else {})
    if isinstance(answer, Finding):
        return answer
    status, body = answer
    if status in (401, 403):
        return Finding(name, "failed", f"{url} answers {status}", "Put a token that is still valid into KFP_TOKEN.")
    try:
        users = "many users" if json.loads(body).get("multi_user") else "one user"
    except (ValueError, AttributeError):
        remedy = "Name the address whose /apis/v2beta1/healthz answers; a login page may stand before it."
        return Finding(name, "failed", f"{url} answers {status}, but not as Kubeflow Pipelines", remedy)
    return Finding(name, "ok", f"for {users} at {url}")


def _object_store(cluster: Cluster) -> list[Finding]:
    """Writes a few bytes beside the data and the models, and removes them, with the credentials of this shell."""
    answer = _get("object store", cluster.object_store)
    if isinstance(answer, Finding):
        return [answer]
    if not os.environ.get("AWS_ACCESS_KEY_ID"):
        detail = f"{cluster.object_store} answers; whether it can be written was not tried"
        return [Finding("object store", "unknown", detail, "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY here.")]
    return [_written(cluster.object_store, place) for place in (cluster.data_bucket, cluster.model_bucket)]


def _written(url: str, place: str) -> Finding:
    from io import BytesIO

    from minio import Minio
    from minio.error import MinioException

    name, parts = f"bucket {place}", urlsplit(url)
    bucket, _, prefix = place.partition("/")
    key = f"{prefix.rstrip('/')}/.doctor-{uuid.uuid4().hex}".lstrip("/")
    client = Minio(
        parts.netloc,
        os.environ["AWS_ACCESS_KEY_ID"],
        os.environ.get("AWS_SECRET_ACCESS_KEY"),
        secure=parts.scheme == "https",
        region=os.environ.get("AWS_REGION", "us-east-1"),
        http_client=urllib3.PoolManager(timeout=_TIMEOUT, retries=False),
    )
    try:
        client.put_object(bucket, key, BytesIO(b"doctor"), 6)
        client.remove_object(bucket, key)
    except (MinioException, HTTPError) as error:
        reason = getattr(error, "code", None) or error
        remedy = "Make the bucket, or let the credentials write there; see manifests/README.md."
        return Finding(name, "failed", f"cannot be written at {url}: {reason}", remedy)
    return Finding(name, "ok", "can be written")


def _get(name: str, url: str, headers: dict[str, str] | None = None) -> Finding | tuple[int, str]:
    """Status and text of an answer, or why there is none."""
    host = urlsplit(url).hostname
    try:
        answer = urllib3.PoolManager(timeout=_TIMEOUT, retries=urllib3.Retry(0)).request("GET", url, headers=headers)
    except MaxRetryError as error:
        if isinstance(error.reason, NameResolutionError):
            return Finding(name, "unknown", f"{host} has no address here; it may have one inside the cluster")
        if isinstance(error.reason, SSLError):
            remedy = "Trust your company's CA here: SSL_CERT_FILE."
            return Finding(name, "failed", f"the certificate of {host} does not hold: {error.reason}", remedy)
        return Finding(
            name, "failed", f"{url} does not answer: {error.reason}", "Is it running, and the address right?"
        )
    except HTTPError as error:
        return Finding(name, "failed", f"{url} does not answer: {error}", "Is it running, and the address right?")
    return answer.status, answer.data.decode(errors="replace")
