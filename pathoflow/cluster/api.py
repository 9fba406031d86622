"""The way to a Kubernetes API server, and what its refusals mean for a user."""

from __future__ import annotations

import json
import os
from pathlib import Path

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from pathoflow.errors import ClusterError

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def connect(context: str | None = None) -> client.ApiClient:
    """A client for the cluster this pod runs in, or else for a kubeconfig's.

    Args:
        context: A context of the kubeconfig; None takes its current one.

    Raises:
        ClusterError: There is neither, or no such context.
    """
    if context is None and "KUBERNETES_SERVICE_HOST" in os.environ and (_SERVICE_ACCOUNT / "token").is_file():
        settings = client.Configuration()
        config.load_incluster_config(settings)
        return client.ApiClient(settings)
    try:
        api: client.ApiClient = config.new_client_from_config(context=context)
    except (config.ConfigException, OSError) as error:
        why, known = str(error).rstrip("."), ", ".join(_contexts()) or "none"
        raise ClusterError(
            f"No cluster to talk to: {why}. Known contexts: {known}. Set KUBECONFIG, or name one with --context."
        ) from error
    return api


def namespace_of_pod() -> str | None:
    """The namespace of the pod that this process runs in; None outside a cluster."""
    path = _SERVICE_ACCOUNT / "namespace"
    return path.read_text().strip() if path.is_file() else None


def explain(error: Exception, what: str) -> ClusterError:
    """The error for a user: which object, the API server's reason, and a remedy.

    Args:
        error: What the client raised: an `ApiException`, or an error of the connection.
        what: What was tried, such as `create TrainJob ml/cpt-1a2b`.
    """
    if not isinstance(error, client.ApiException):
        reason = error.args[0] if isinstance(error, HTTPError) and error.args else error
        return ClusterError(
            f"Could not {what}: the API server does not answer ({reason}). Is the cluster up, and the context right?"
        )
    try:
        message = json.loads(error.body)["message"]
    except (KeyError, TypeError, ValueError):
        message = error.reason or str(error)
    remedy = next((text for words, text in _REMEDIES.get(error.status, ()) if words in message.lower()), "")
    return ClusterError(f"Could not {what}: {message} ({error.status} {error.reason}). {remedy}".rstrip())


_REMEDIES: dict[int, tuple[tuple[str, str], ...]] = {
    401: (("", "The token has expired or belongs to another cluster: log in again."),),
    403: (
        ("exceeded quota", "The namespace's ResourceQuota is used up: wait, free some, or ask for more."),
        ("", "The account lacks the permission: apply the Role in manifests/base, or check the service account."),
    ),
    404: (
        (
            "not find the requested resource",
            "The cluster lacks this API: install the operator; see `pathoflow doctor`.",
        ),
        ("", ""),
    ),
    422: (("", "The API server's version may differ from the one this was written for; see `pathoflow doctor`."),),
}


def _contexts() -> list[str]:
    try:
        contexts, _ = config.list_kube_config_contexts()
    except (config.ConfigException, OSError):
        return []
    return [context["name"] for context in contexts]
