"""Connects to a Kubernetes API server, and explains its errors to the user."""

from __future__ import annotations

import json
import os
from pathlib import Path

import yaml
from kubernetes import client, config
from kubernetes.config import kube_config

from pathoflow.errors import ClusterError

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def connect(context: str | None = None, retries: int | None = None) -> client.ApiClient:
    """Connects to the cluster this pod runs in, or else to a kubeconfig's.

    Args:
        context: A context of the kubeconfig; None takes its current one.
        retries: Retries of the client itself after a broken connection; None leaves it to the client.

    Raises:
        ClusterError: There is neither, or no such context.
    """
    settings = client.Configuration()
    settings.retries = retries
    if context is None and "KUBERNETES_SERVICE_HOST" in os.environ and (_SERVICE_ACCOUNT / "token").is_file():
        config.load_incluster_config(settings)
        return client.ApiClient(settings)
    try:
        config.load_kube_config(context=context, client_configuration=settings)
    except (config.ConfigException, OSError, yaml.YAMLError) as error:
        why, known = str(error).rstrip("."), ", ".join(_contexts()) or "none"
        raise ClusterError(
            f"No cluster to talk to: {why}. Known contexts: {known}. Set KUBECONFIG, or name one with --context."
        ) from error
    return client.ApiClient(settings)


def namespace_of_pod() -> str | None:
    """Returns the namespace of the pod that this process runs in; None outside a cluster."""
    path = _SERVICE_ACCOUNT / "namespace"
    return path.read_text().strip() if path.is_file() else None


def explain(error: Exception, what: str) -> ClusterError:
    """Turns a client's error into one for the user: the object, the API server's reason, and a remedy.

    Args:
        error: Error of the client: an `ApiException`, or one of the connection.
        what: Action that failed, such as `create TrainJob ml/cpt-1a2b`.
    """
    if not isinstance(error, client.ApiException):
        # Not how often which address was tried.
        reason = getattr(error, "reason", None) or error
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
        (
            "denied the request",
            "A webhook of the cluster refuses it for that reason; a runtime that it misses is in "
            "manifests/components/trainjobs.",
        ),
        ("is being terminated", "The namespace is being deleted: wait until it is gone, and install it anew."),
        ("", "The account lacks the permission: apply the Role in manifests/base, or check the service account."),
    ),
    404: (
        ('namespaces "', "Is it the right cluster, and is the namespace that of the overlay's parameters?"),
        # An object that is not there bears its name; what is said of a kind that is unknown varies.
        ('" not found', ""),
        ("", "The cluster lacks this API: install the operator; see `pathoflow doctor`."),
    ),
    422: (("", "The API server's version may differ from the one this was written for; see `pathoflow doctor`."),),
}


def _contexts() -> list[str]:
    try:
        # What lists them by itself wants a current one that exists.
        found = kube_config.KubeConfigMerger(kube_config.KUBE_CONFIG_DEFAULT_LOCATION).config
        return [context["name"] for context in found["contexts"]] if found else []
    except (config.ConfigException, OSError, yaml.YAMLError):
        return []
