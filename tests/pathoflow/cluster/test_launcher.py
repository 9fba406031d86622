"""The launcher as a process, on a real API server where the test plays Kubeflow Trainer: from the wish to its end."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from pathoflow.cluster.cleanup import clean_up
from pathoflow.cluster.launcher import TRAINJOB_FILE
from pathoflow.cluster.settings import RUNNER_ACCOUNT
from pathoflow.cluster.trainjob_spec import ATTEMPT_ANNOTATION, QUEUE_LABEL, failure_file
from pathoflow.errors import ClusterError, ConfigError, Preempted, StageError
from tests.manifests.rendering import shipped
from tests.support.control_plane import kubeconfig_of
from tests.support.kube import (
    Trainer,
    api,
    kubeconfig,
    namespace,
    suppress_conflict,
    token_of,
    trainer_crds,
    wait_until,
)
from tests.support.kubelet import Kubelet
from tests.support.launching import Launched, Launchpad, launchpad

__all__ = ["api", "kubeconfig", "namespace", "trainer_crds"]

pytestmark = pytest.mark.cluster

TOKEN = "hf_" + "s3cretS3cret" * 3


WORKFLOWS = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "workflows.argoproj.io"},
    "spec": {
        "group": "argoproj.io",
        "names": {"kind": "Workflow", "plural": "workflows", "singular": "workflow"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


@pytest.fixture(scope="module", autouse=True)
def workflows(api: client.ApiClient) -> None:
    """Argo's kind. The cluster takes up to half a minute until it deletes what belongs to one of a new kind."""
    with suppress_conflict():
        client.ApiextensionsV1Api(api).create_custom_resource_definition(WORKFLOWS)


@pytest.fixture
def pad(tmp_path: Path, kubeconfig: Path, namespace: str, trainer_crds: None) -> Iterator[Launchpad]:
    with launchpad(tmp_path, kubeconfig, namespace) as made:
        yield made


@pytest.fixture
def trainer(api: client.ApiClient, namespace: str, trainer_crds: None) -> Trainer:
    return Trainer(api, namespace)


def running(trainer: Trainer, launched: Launched, **pod_spec: Any) -> list[str]:
    """The pods of a launcher's TrainJob, which run."""
    pods = trainer.make_pods(launched.name, **pod_spec)
    trainer.run_pods(pods)
    return pods


def attempt_of(trainer: Trainer, launched: Launched) -> str:
    attempt: str = trainer.wait_for(launched.name)["metadata"]["annotations"][ATTEMPT_ANNOTATION]
    return attempt


def test_it_makes_a_trainjob_and_tells_how_it_goes_until_that_has_succeeded(pad, trainer):
    launched = pad.start()
    launched.wait_for("waits for its pods")
    running(trainer, launched)
    launched.wait_for("has 2 of 2 pods running", 12)
    trainer.complete(launched.name)
    assert launched.end(10) == 0
    assert launched.said().splitlines() == [
        f"Created {launched.title} on 2 nodes.",
        f"{launched.title} waits for its pods.",
        f"{launched.title} has 2 of 2 pods running.",
        f"{launched.title} succeeded.",
    ]
    kept = yaml.safe_load((launched.launch.report / "attachments" / TRAINJOB_FILE).read_text())
    assert kept["spec"] == trainer.get(launched.name)["spec"]
    assert kept["kind"] == "TrainJob"


def test_the_node_that_failed_first_is_quoted_with_its_exit_code_and_without_secrets(pad, trainer):
    """From what it left on the shared volume, or with its pod."""
    left = {code: pad.start() for code in (2, 7, 11, 139)}
    alone = pad.start()
    for code, launched in left.items():
        pods = running(trainer, launched)
        # A Job's pod has a host name without the letters at the end of the pod's name.
        told = {"pod": pods[1].rpartition("-")[0], "exit_code": code, "message": f"Broke with {TOKEN}."}
        file = failure_file(launched.launch.outcome.parent, attempt_of(trainer, launched))
        file.write_text(json.dumps(told))
        trainer.end_pod(pods[0], 1)
        trainer.end_pod(pods[1], code)
        trainer.fail(launched.name)
        left[code] = (launched, pods[1])
    (first, second) = running(trainer, alone)
    trainer.end_pod(first, 143)
    trainer.end_pod(second, 3, message=f"It broke; password={TOKEN}")
    trainer.fail(alone.name)

    kinds = {2: ConfigError, 7: StageError, 11: ClusterError, 139: StageError}
    for code, (launched, pod) in left.items():
        error = launched.error()
        assert type(error) is kinds[code]
        assert str(error) == f"{launched.title} failed in pod {pod}: Broke with [hidden]."
        # Who asks again gets the same answer.
        assert trainer.get(launched.name)
    again = pad.again(left[7][0])
    assert str(again.error()) == str(left[7][0].error())
    assert "It has failed: delete it to have another try." in again.said()
    assert str(alone.error()) == f"{alone.title} failed in pod {second}: It broke; password=[hidden]"
    assert alone.end() == 3
    assert TOKEN not in alone.said()


def test_the_last_lines_of_its_log_are_quoted_where_it_left_no_words(pad, trainer, api, tmp_path):
    with Kubelet(api, tmp_path) as kubelet:
        launched = pad.start()
        pods = running(trainer, launched, nodeName=kubelet.node)
        kubelet.logs[pods[0]] = [f"line {number}" for number in range(100)] + [
            f"HF_TOKEN={TOKEN}",
            "Segmentation fault",
        ]
        trainer.end_pod(pods[0], 139)
        trainer.fail(launched.name)
        error = launched.error()
        lines = str(error).splitlines()
    assert isinstance(error, StageError)
    assert lines[0] == (
        f"{launched.title} failed in pod {pods[0]} on node {kubelet.node}, which ended with exit code 139 (SIGSEGV). "
        "Its last lines:"
    )
    assert lines[1:] == [f"line {number}" for number in range(72, 100)] + ["HF_TOKEN=[hidden]", "Segmentation fault"]


def test_a_log_that_cannot_be_read_is_told_beside_the_failure(pad, trainer):
    launched = pad.start()
    pods = running(trainer, launched, nodeName="not-there")
    trainer.end_pod(pods[0], 3)
    trainer.fail(launched.name)
    text = str(launched.error())
    assert f"failed in pod {pods[0]} on node not-there, which ended with exit code 3. Its last lines:" in text
    assert "(its log cannot be read: Could not read the log of pod" in text


@pytest.mark.parametrize("code", [75, 143])
def test_what_stopped_on_request_is_made_anew_by_the_next_attempt(pad, trainer, code):
    launched = pad.start()
    pods = running(trainer, launched)
    attempt = attempt_of(trainer, launched)
    trainer.end_pod(pods[0], code)
    trainer.end_pod(pods[1], code)
    trainer.fail(launched.name)
    assert launched.end() == Preempted.exit_code
    assert str(launched.error()) == (
        f"{launched.title} was stopped on request, in pod {min(pods)}. "
        "Run the stage again: it continues from the last checkpoint."
    )
    again = pad.again(launched)
    again.wait_for(f"Created {again.title}")
    assert attempt_of(trainer, again) != attempt


def test_a_launcher_that_is_killed_leaves_the_trainjob_to_the_next(pad, trainer):
    launched = pad.start()
    running(trainer, launched)
    attempt = attempt_of(trainer, launched)
    launched.process.kill()
    again = pad.again(launched)
    again.wait_for("has 2 of 2 pods running")
    assert attempt_of(trainer, again) == attempt
    trainer.complete(again.name)
    assert again.end() == 0
    assert f"Took up {again.title}, which was there." in again.said()
    # One that comes after the end finds that it was one.
    assert pad.again(launched).end() == 0


def test_two_launchers_at_once_make_one_trainjob(pad, trainer):
    one = pad.start()
    two = pad.again(one)
    for launched in (one, two):
        launched.wait_for("waits for its pods")
    assert sorted(launched.said().split()[0] for launched in (one, two)) == ["Created", "Took"]
    running(trainer, one)
    trainer.complete(one.name)
    assert (one.end(), two.end()) == (0, 0)


def test_told_to_stop_it_deletes_the_trainjob_and_the_next_waits_for_its_pods(pad, trainer, api, tmp_path):
    with Kubelet(api, tmp_path) as kubelet:
        launched = pad.start()
        pods = running(trainer, launched, nodeName=kubelet.node)
        uid = trainer.get(launched.name)["metadata"]["uid"]
        launched.terminate()
        assert launched.end(10) == Preempted.exit_code
        words = str(launched.error())
        assert words.startswith(f"Stopped on request and deleted {launched.title}, whose pods have 20 s to write a")
        # The pods have not ended: as long as they have not, the TrainJob stays.
        assert trainer.get(launched.name)["metadata"]["finalizers"] == ["foregroundDeletion"]
        again = pad.again(launched)
        again.wait_for(f"Waiting for the pods of an earlier {again.title} to end.")
        for pod in pods:
            trainer.core.delete_namespaced_pod(pod, trainer.namespace, grace_period_seconds=0)
        again.wait_for(f"Created {again.title}")
        assert trainer.get(launched.name)["metadata"]["uid"] != uid


def test_it_ends_when_somebody_else_deletes_the_trainjob(pad, trainer, api, tmp_path):
    by_hand, by_exit_task = pad.start(), pad.start()
    for launched in (by_hand, by_exit_task):
        launched.wait_for("waits for its pods")
    trainer.delete(by_hand.name)
    report = tmp_path / "report.md"
    clean_up(api, trainer.namespace, "toy", by_exit_task.launch.work.run_id, "FAILED", tmp_path, report)
    assert f"TrainJobs deleted: {by_exit_task.name}" in report.read_text()
    for launched in (by_hand, by_exit_task):
        error = launched.error(10)
        assert isinstance(error, ClusterError)
        assert f"{launched.title} was deleted by somebody else" in str(error)
        assert "Run the stage again" in str(error)


def test_it_ends_at_once_when_the_trainjob_waits_for_pods_that_are_to_end(pad, trainer, api, tmp_path):
    with Kubelet(api, tmp_path) as kubelet:
        launched = pad.start()
        launched.wait_for("waits for its pods")
        running(trainer, launched, nodeName=kubelet.node)
        trainer.delete(launched.name, propagation_policy="Foreground")
        assert "was deleted by somebody else" in str(launched.error(10))
        assert trainer.get(launched.name)


def test_a_trainjob_in_kueues_queue_waits_for_its_turn_and_again_when_it_loses_it(pad, trainer):
    launched = pad.start(queue="training")
    launched.wait_for(f"Created {launched.title}")
    assert trainer.get(launched.name)["metadata"]["labels"][QUEUE_LABEL] == "training"
    trainer.suspend(launched.name)
    launched.wait_for("waits for admission by Kueue's queue training (`kubectl get workloads` shows its turn)", 12)
    trainer.suspend(launched.name, suspended=False)
    running(trainer, launched)
    launched.wait_for("has 2 of 2 pods running", 12)
    trainer.suspend(launched.name)
    for pod in trainer.core.list_namespaced_pod(
        trainer.namespace, label_selector=trainer.selector(launched.name)
    ).items:
        trainer.core.delete_namespaced_pod(pod.metadata.name, trainer.namespace, grace_period_seconds=0)
    wait_until(lambda: launched.said().count("waits for admission") == 2, 12)
    trainer.suspend(launched.name, suspended=False)
    launched.wait_for("waits for its pods")
    pods = running(trainer, launched)
    # The pods that Kueue took away are not lost.
    trainer.end_pod(pods[0], 7, message="It broke.")
    trainer.fail(launched.name)
    assert str(launched.error()) == f"{launched.title} failed in pod {pods[0]}: It broke."


def test_without_the_shipped_role_it_is_forbidden_and_with_it_all_of_it_is_allowed(pad, trainer, api, tmp_path):
    place = trainer.namespace
    trainer.core.create_namespaced_service_account(place, shipped("ServiceAccount", RUNNER_ACCOUNT, place))
    as_runner = tmp_path / "runner"
    server = {"server": api.configuration.host, "certificate-authority": api.configuration.ssl_ca_cert}
    as_runner.write_text(kubeconfig_of(server, {"token": token_of(api, place, RUNNER_ACCOUNT)}))
    refused = pad.start(kubeconfig=as_runner)
    error = refused.error()
    assert isinstance(error, ClusterError)
    assert str(error).startswith(f"Could not create {refused.title}: trainjobs.trainer.kubeflow.org is forbidden")
    assert str(error).endswith("apply the Role in manifests/base, or check the service account.")

    rights = client.RbacAuthorizationV1Api(api)
    rights.create_namespaced_role(place, shipped("Role", RUNNER_ACCOUNT, place))
    rights.create_namespaced_role_binding(place, shipped("RoleBinding", RUNNER_ACCOUNT, place))

    def allowed() -> Launched | None:
        launched = pad.start(kubeconfig=as_runner, environment={"KFP_POD_NAME": f"gone-{uuid.uuid4().hex[:4]}"})
        wait_until(lambda: "waits for its pods" in launched.said() or launched.process.poll())
        return launched if launched.process.poll() is None else None

    launched = wait_until(allowed)
    with Kubelet(api, tmp_path) as kubelet:
        pods = running(trainer, launched, nodeName=kubelet.node)
        kubelet.logs[pods[0]] = ["Out of luck"]
        trainer.end_pod(pods[0], 75)
        trainer.end_pod(pods[1], 75)
        trainer.fail(launched.name)
        assert launched.end() == Preempted.exit_code
        # It was allowed to delete it.
        wait_until(lambda: trainer.is_deleted(launched.name))
        by_log = pad.start(kubeconfig=as_runner)
        pods = running(trainer, by_log, nodeName=kubelet.node)
        kubelet.logs[pods[0]] = ["Out of luck"]
        trainer.end_pod(pods[0], 3)
        trainer.fail(by_log.name)
        assert str(by_log.error()).endswith("Its last lines:\nOut of luck")


def test_the_trainjob_goes_with_the_workflow_of_its_launchers_pod(pad, trainer, workflows):
    place = ("argoproj.io", "v1alpha1", trainer.namespace, "workflows")
    body = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"name": "run"}}

    workflow = trainer.custom.create_namespaced_custom_object(*place, body)
    owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "run"}
    owner |= {"uid": workflow["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True}
    pod = {
        "metadata": {"name": "run-toy", "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "main", "image": "cpu"}], "schedulerName": "none"},
    }
    trainer.core.create_namespaced_pod(trainer.namespace, pod)
    launched = pad.start(environment={"KFP_POD_NAME": "run-toy"})
    stranger = pad.start(environment={"KFP_POD_NAME": "gone"})
    launched.wait_for("waits for its pods")
    (reference,) = trainer.get(launched.name)["metadata"]["ownerReferences"]
    assert reference == {name: owner[name] for name in ("apiVersion", "kind", "name", "uid")}
    stranger.wait_for("No workflow found that pod gone belongs to")
    trainer.custom.delete_namespaced_custom_object(*place, "run")
    assert "was deleted by somebody else: by hand, with its workflow" in str(launched.error(30))
    assert trainer.get(launched.name) is None
    stranger.wait_for("waits for its pods")
