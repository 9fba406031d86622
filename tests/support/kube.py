"""A real API server for tests that are marked `cluster`, and what plays Kubeflow Trainer there.

`PATHOFLOW_TEST_KUBECONFIG` names the kubeconfig of an administrator; without it the tests skip themselves. Import the
fixtures where they are used: `from tests.support.kube import api, kubeconfig, namespace, trainer_crds`. Each test
module gets a namespace of its own. There may be no kubelet: pods are objects whose status a test writes.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from pathoflow.cluster.trainjob_spec import GROUP, JOBSET_LABEL, PLURAL, VERSION, WORKER_JOB

KUBECONFIG = "PATHOFLOW_TEST_KUBECONFIG"


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    """The kubeconfig of an administrator of a test cluster; skips the test where there is none."""
    name = os.environ.get(KUBECONFIG)
    if not name:
        pytest.skip(f"{KUBECONFIG} names no kubeconfig of a test cluster")
    return Path(name)


@pytest.fixture(scope="session")
def api(kubeconfig: Path) -> client.ApiClient:
    """A client that may do everything."""
    return config.new_client_from_config(str(kubeconfig))


@pytest.fixture(scope="module")
def namespace(api: client.ApiClient) -> Iterator[str]:
    """A namespace of the test module's own."""
    with new_namespace(api) as name:
        yield name


class new_namespace:  # noqa: N801
    """A namespace for the length of a `with` block."""

    def __init__(self, api: client.ApiClient) -> None:
        self._core = client.CoreV1Api(api)
        self.name = f"pathoflow-test-{uuid.uuid4().hex[:8]}"

    def __enter__(self) -> str:
        self._core.create_namespace({"metadata": {"name": self.name}})
        wait_until(self._takes_pods, 30)
        return self.name

    def __exit__(self, *_: object) -> None:
        with suppress(client.ApiException):
            self._core.delete_namespace(self.name)

    def _takes_pods(self) -> bool:
        """No pod can be created before its account is there and, in older clusters, has a token."""
        body = {"metadata": {"name": "pod"}, "spec": {"containers": [{"name": "main", "image": "x"}]}}
        try:
            self._core.create_namespaced_pod(self.name, body, dry_run="All")
        except client.ApiException:
            return False
        return True


ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@pytest.fixture(scope="session")
def trainer_crds(api: client.ApiClient) -> None:
    """The kinds of Kubeflow Trainer, as far as an API server has to know them: any field, and a status of its own."""
    install_trainer_crds(api)


def install_trainer_crds(api: client.ApiClient, version: str = VERSION, spec: dict[str, Any] | None = None) -> None:
    """Makes the kinds TrainJob and TrainingRuntime known to a cluster that lacks them.

    Args:
        api: A client that may do everything.
        version: In which version.
        spec: The schema of their specs; None for any fields.
    """
    extensions = client.ApiextensionsV1Api(api)
    for kind, plural in _KINDS.items():
        with suppress_conflict():
            extensions.create_custom_resource_definition(_definition(kind, plural, version, spec or ANYTHING))
        wait_until(lambda plural=plural: _is_served(api, version, plural), 30)


@contextmanager
def trainer_crds_of(api: client.ApiClient, **what: Any) -> Iterator[None]:
    """The same for the length of a `with` block, on a cluster of the test's own."""
    version = what.get("version", VERSION)
    install_trainer_crds(api, **what)
    try:
        yield
    finally:
        custom = client.CustomObjectsApi(api)
        for left in custom.list_cluster_custom_object(GROUP, version, PLURAL)["items"]:
            # Nobody else there lets go of what was deleted.
            place = (left["metadata"]["namespace"], PLURAL, left["metadata"]["name"])
            custom.patch_namespaced_custom_object(GROUP, version, *place, {"metadata": {"finalizers": None}})
        for plural in _KINDS.values():
            client.ApiextensionsV1Api(api).delete_custom_resource_definition(f"{plural}.{GROUP}")
            wait_until(lambda plural=plural: not _is_served(api, version, plural), 30)


_KINDS = {"TrainJob": PLURAL, "TrainingRuntime": "trainingruntimes"}


def _definition(kind: str, plural: str, version: str, spec: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"spec": spec, "status": ANYTHING}}
    served = {
        "name": version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    }
    names = {"kind": kind, "plural": plural, "singular": kind.lower()}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [served]},
    }


def _is_served(api: client.ApiClient, version: str, plural: str) -> bool:
    try:
        client.CustomObjectsApi(api).list_cluster_custom_object(GROUP, version, plural, limit=1)
    except client.ApiException:
        return False
    return True


class suppress_conflict(suppress):  # noqa: N801
    """Lets pass that an object is there already."""

    def __init__(self) -> None:
        super().__init__(client.ApiException)

    def __exit__(self, kind: type | None, error: Any, trace: Any) -> bool:
        return error is not None and getattr(error, "status", None) == 409


def token_of(api: client.ApiClient, namespace: str, account: str) -> str:
    """A token of a service account, bound to it and short-lived as those in its pods."""
    request = {"spec": {"audiences": ["https://kubernetes.default.svc"], "expirationSeconds": 600}}
    made = client.CoreV1Api(api).create_namespaced_service_account_token(account, namespace, request)
    return str(made.status.token)


def wait_until(condition: Callable[[], Any], timeout_s: float = 30.0, interval_s: float = 0.05) -> Any:
    """What `condition` returns once that is true."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(interval_s)
    return value


def make_node(
    api: client.ApiClient,
    name: str,
    amounts: dict[str, str],
    labels: dict[str, str],
    taints: Sequence[dict[str, str]] = (),
) -> None:
    """Makes a node that is Ready for as long as a heartbeat counts, 40 s.

    The cluster taints a new node until it has noticed that it is ready, and writes the whole list of taints when it
    does: ours come after that, and are looked at again.
    """
    core = client.CoreV1Api(api)
    core.create_node({"metadata": {"name": name, "labels": labels}})
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    ready = {"type": "Ready", "status": "True", "reason": "Test", "lastHeartbeatTime": now, "lastTransitionTime": now}
    amounts = amounts | {"pods": "110", "ephemeral-storage": "1Ti"}
    core.patch_node_status(name, {"status": {"capacity": amounts, "allocatable": amounts, "conditions": [ready]}})

    def found() -> set[tuple[str, str]]:
        return {(taint.key, taint.effect) for taint in core.read_node(name).spec.taints or []}

    wanted = {(taint["key"], taint["effect"]) for taint in taints}
    wait_until(lambda: not found(), 20)
    core.patch_node(name, {"spec": {"taints": list(taints)}})
    time.sleep(0.5)
    assert found() == wanted


class Trainer:
    """Plays Kubeflow Trainer in one namespace: makes the pods of a TrainJob and says how they and it fare.

    Args:
        api: A client that may do everything.
        namespace: Where the TrainJobs are.
    """

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self.namespace = namespace
        self.core = client.CoreV1Api(api)
        self.custom = client.CustomObjectsApi(api)

    def trainjobs(self, **labels: str) -> list[dict[str, Any]]:
        """The TrainJobs that bear the labels."""
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = self.custom.list_namespaced_custom_object(
            GROUP, VERSION, self.namespace, PLURAL, label_selector=selector
        )
        return list(found["items"])

    def get(self, name: str) -> dict[str, Any] | None:
        """A TrainJob; None if it is gone."""
        try:
            return dict(self.custom.get_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name))
        except client.ApiException as error:
            if error.status == 404:
                return None
            raise

    def is_deleted(self, name: str) -> bool:
        """Whether a TrainJob is gone, or goes when its pods have ended."""
        found = self.get(name)
        return found is None or "deletionTimestamp" in found["metadata"]

    def wait_for(self, name: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """The TrainJob of that name, once it is there."""
        found: dict[str, Any] = wait_until(lambda: self.get(name), timeout_s)
        return found

    @staticmethod
    def selector(name: str) -> str:
        """Selects the pods of a TrainJob."""
        return f"{JOBSET_LABEL}={name}"

    def make_pods(self, name: str, **pod_spec: Any) -> list[str]:
        """Makes a TrainJob's pods, as Pending; no scheduler looks at them unless `schedulerName` says so."""
        trainjob = self.wait_for(name)
        owner = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "TrainJob",
            "name": name,
            "uid": trainjob["metadata"]["uid"],
            "controller": True,
            "blockOwnerDeletion": True,
        }
        trainer = trainjob["spec"]["trainer"]
        pods = []
        for number in range(trainer["numNodes"]):
            pod = f"{name}-{WORKER_JOB}-0-{number}-{uuid.uuid4().hex[:5]}"
            container = {
                "name": WORKER_JOB,
                "image": trainer["image"],
                "command": trainer["command"],
                "resources": trainer.get("resourcesPerNode", {}),
            }
            body = {
                "metadata": {
                    "name": pod,
                    "labels": {JOBSET_LABEL: name, "batch.kubernetes.io/job-completion-index": str(number)},
                    "ownerReferences": [owner],
                },
                "spec": {"containers": [container], "restartPolicy": "Never", "schedulerName": "none"} | pod_spec,
            }
            self.core.create_namespaced_pod(self.namespace, body)
            pods.append(pod)
        return pods

    def set_pod(self, name: str, **status: Any) -> None:
        """Writes a pod's status."""
        self.core.patch_namespaced_pod_status(name, self.namespace, {"status": status})

    def hold(self, pod: str, reason: str, message: str) -> None:
        """Says why a pod's container does not start."""
        waiting = {"waiting": {"reason": reason, "message": message}}
        self.set_pod(pod, phase="Pending", containerStatuses=[_container(waiting)])

    def run_pods(self, pods: list[str]) -> None:
        """Says that pods run."""
        for pod in pods:
            self.set_pod(
                pod,
                phase="Running",
                startTime=_now(),
                containerStatuses=[_container({"running": {"startedAt": _now()}})],
            )

    def end_pod(self, pod: str, exit_code: int, reason: str = "Error", message: str = "") -> None:
        """Says that a pod's container ended, with a message as its last words."""
        ended = {"exitCode": exit_code, "reason": reason, "startedAt": _now(), "finishedAt": _now(), "message": message}
        phase = "Succeeded" if exit_code == 0 else "Failed"
        self.set_pod(pod, phase=phase, containerStatuses=[_container({"terminated": ended})])

    def set_condition(
        self, name: str, kind: str, reason: str, message: str = "", status: str = "True", since: str = ""
    ) -> float:
        """Writes a condition of a TrainJob.

        Returns:
            When that was, in seconds since the epoch.
        """
        condition = {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": since or _now(),
        }
        body = {"status": {"conditions": [condition]}}
        self.custom.patch_namespaced_custom_object_status(GROUP, VERSION, self.namespace, PLURAL, name, body)
        return time.time()

    def warn(self, kind: str, name: str, reason: str, message: str, at: str = "") -> None:
        """Tells of something that happened to an object."""
        event = {
            "metadata": {"generateName": "test-"},
            "involvedObject": {"kind": kind, "name": name, "namespace": self.namespace},
            "type": "Warning",
            "reason": reason,
            "message": message,
            "firstTimestamp": at or _now(),
            "lastTimestamp": at or _now(),
        }
        self.core.create_namespaced_event(self.namespace, event)

    def complete(self, name: str) -> float:
        """Says that a TrainJob has succeeded, as `set_condition` does."""
        return self.set_condition(name, "Complete", "AllJobsCompleted", "jobset completed successfully")

    def fail(
        self, name: str, reason: str = "FailedJobs", message: str = "jobset failed due to one or more job failures"
    ) -> float:
        """Says that a TrainJob has failed, as `set_condition` does."""
        return self.set_condition(name, "Failed", reason, message)

    def patch(self, name: str, change: dict[str, Any]) -> None:
        """Changes a TrainJob by a merge patch."""
        self.custom.patch_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name, change)

    def suspend(self, name: str, *, suspended: bool = True) -> None:
        """Says that a TrainJob must have no pods, or may have them again, as Kueue does."""
        self.patch(name, {"spec": {"suspend": suspended}})
        if not suspended:
            self.set_condition(name, "Suspended", "Resumed", "TrainJob is resumed", "False")

    def delete(self, name: str, **options: Any) -> None:
        """Deletes a TrainJob, as somebody with kubectl would."""
        self.custom.delete_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name, **options)


def _container(state: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": WORKER_JOB,
        "image": "train",
        "imageID": "",
        "ready": "running" in state,
        "restartCount": 0,
        "state": state,
    }


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
