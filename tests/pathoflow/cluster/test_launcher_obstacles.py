"""What keeps a TrainJob from running, or ends it: each is told within a minute, in one message with a remedy.

The slow ones take up to 50 seconds each, and go on side by side while the quick ones are tested.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from pathoflow.cluster.trainjob_spec import IDENTITY_ANNOTATION, WORKER_JOB
from pathoflow.errors import ClusterError, PathoflowError, Preempted, StageError
from tests.support.control_plane import kubeconfig_of
from tests.support.kube import Trainer, api, kubeconfig, namespace, new_namespace, token_of, trainer_crds, wait_until
from tests.support.launching import Launched, Launchpad, launchpad
from tests.support.s3_server import free_port

__all__ = ["api", "kubeconfig", "namespace", "trainer_crds"]

pytestmark = pytest.mark.cluster

TOKEN = "hf_" + "s3cretS3cret" * 3
CONTINUES = "Run the stage again: it continues from the last checkpoint."
LONG_AGO = "2026-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def trainer(api: client.ApiClient, namespace: str, trainer_crds: None) -> Trainer:
    return Trainer(api, namespace)


@pytest.fixture(scope="module")
def pad(
    tmp_path_factory: pytest.TempPathFactory, kubeconfig: Path, namespace: str, trainer_crds: None
) -> Iterator[Launchpad]:
    with launchpad(tmp_path_factory.mktemp("launched"), kubeconfig, namespace) as made:
        yield made


@dataclass
class Situation:
    """A launcher, and since when something has been wrong."""

    launched: Launched
    since: float
    pods: list[str]

    def error(self) -> PathoflowError:
        """The error with which it ended, within a minute."""
        found = self.launched.error(80)
        assert found is not None
        took_s = self.launched.launch.outcome.stat().st_mtime - self.since
        assert took_s < 60, f"{took_s:.0f} s: {found}"
        return found


class Situations:
    """Makes them.

    Args:
        pad: Where the launchers start.
        trainer: Plays Kubeflow Trainer.
        folder: For files.
    """

    def __init__(self, pad: Launchpad, trainer: Trainer, api: client.ApiClient, folder: Path) -> None:
        self.pad, self.trainer, self.api, self.folder = pad, trainer, api, folder

    def image_that_is_not_there(self) -> Situation:
        launched, pods = self._pods()
        waiting = {
            "reason": "ImagePullBackOff",
            "message": f'Back-off pulling image "https://me:{TOKEN}@registry/train"',
        }
        self.trainer.hold(pods[1], **waiting)
        return Situation(launched, time.time(), pods)

    def secret_that_is_missing(self) -> Situation:
        launched, pods = self._pods()
        self.trainer.hold(pods[0], reason="CreateContainerConfigError", message='secret "pathoflow-hub" not found')
        return Situation(launched, time.time(), pods)

    def no_node_that_fits(self) -> Situation:
        """The real scheduler looks for one."""
        launched = self.pad.start(gpus_per_node=8, node_selector={"pathoflow-test/not-there": "true"})
        pods = self.trainer.make_pods(
            launched.name, schedulerName="default-scheduler", nodeSelector={"pathoflow-test/not-there": "true"}
        )
        return Situation(launched, time.time(), pods)

    def node_that_the_autoscaler_adds(self) -> Situation:
        launched = self.pad.start(unschedulable_s=5)
        pods = self.trainer.make_pods(launched.name)
        unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "none fits"}
        self.trainer.set_pod(pods[0], conditions=[unschedulable])
        self.trainer.warn("Pod", pods[0], "TriggeredScaleUp", "pod triggered scale-up")
        return Situation(launched, time.time(), pods)

    def quota_that_is_used_up(self) -> Situation:
        """The real controller of Jobs asks for the pods."""
        launched = self.pad.start()
        name = self.trainer.wait_for(launched.name)["metadata"]["name"]
        container = {"name": "node", "image": "train", "resources": {"limits": {"example.com/quota": "1"}}}
        spec = {"containers": [container], "restartPolicy": "Never", "schedulerName": "none"}
        quota = {"metadata": {"name": "quota"}, "spec": {"hard": {"requests.example.com/quota": "0"}}}
        self.trainer.core.create_namespaced_resource_quota(self.trainer.namespace, quota)
        wait_until(
            lambda: self.trainer.core.read_namespaced_resource_quota("quota", self.trainer.namespace).status.hard
        )
        job = {"metadata": {"name": f"{name}-{WORKER_JOB}-0"}, "spec": {"template": {"spec": spec}}}
        client.BatchV1Api(self.api).create_namespaced_job(self.trainer.namespace, job)
        return Situation(launched, time.time(), [])

    def no_trainer(self) -> Situation:
        launched = self.pad.start()
        self.trainer.wait_for(launched.name)
        # An earlier TrainJob of this name had another reason.
        self.trainer.warn("Job", f"{launched.name}-{WORKER_JOB}-0", "FailedCreate", "exceeded quota", LONG_AGO)
        return Situation(launched, time.time(), [])

    def node_that_does_not_answer(self) -> Situation:
        launched, pods = self._pods(nodeName="lost-node")
        self.trainer.run_pods(pods)
        self.trainer.set_pod(pods[1], conditions=[{"type": "Ready", "status": "False"}])
        return Situation(launched, time.time(), pods)

    def no_cluster(self) -> Situation:
        file = self.folder / "no-cluster"
        file.write_text(kubeconfig_of({"server": f"http://127.0.0.1:{free_port()}"}, {}))
        return Situation(self.pad.start(kubeconfig=file), time.time(), [])

    def token_that_expires(self) -> Situation:
        core, place = self.trainer.core, self.trainer.namespace
        core.create_namespaced_service_account(place, {"metadata": {"name": "passing"}})
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
        subject = {"kind": "ServiceAccount", "name": "passing", "namespace": place}
        binding = {"metadata": {"name": "passing"}, "roleRef": role, "subjects": [subject]}
        client.RbacAuthorizationV1Api(self.api).create_namespaced_role_binding(place, binding)
        file = self._kubeconfig(token_of(self.api, place, "passing"))
        launched = self.pad.start(kubeconfig=file)
        launched.wait_for("waits for its pods")
        self.trainer.run_pods(self.trainer.make_pods(launched.name))
        core.delete_namespaced_service_account("passing", place)
        # The API server believes a token for ten seconds more.
        return Situation(launched, time.time() + 10, [])

    def _pods(self, **pod_spec: Any) -> tuple[Launched, list[str]]:
        launched = self.pad.start()
        return launched, self.trainer.make_pods(launched.name, **pod_spec)

    def _kubeconfig(self, token: str) -> Path:
        file = self.folder / f"token-{len(token)}"
        server = {"server": self.api.configuration.host, "certificate-authority": self.api.configuration.ssl_ca_cert}
        file.write_text(kubeconfig_of(server, {"token": token}))
        return file


@pytest.fixture(scope="module")
def situations(pad: Launchpad, trainer: Trainer, api: client.ApiClient, tmp_path_factory: pytest.TempPathFactory):
    return Situations(pad, trainer, api, tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module", autouse=True)
def slow(situations: Situations) -> dict[str, Situation]:
    """All that takes its time, at once."""
    makers: list[Callable[[], Situation]] = [
        situations.no_cluster,
        situations.no_node_that_fits,
        situations.no_trainer,
        situations.token_that_expires,
        situations.node_that_does_not_answer,
        situations.image_that_is_not_there,
        situations.secret_that_is_missing,
        situations.quota_that_is_used_up,
        situations.node_that_the_autoscaler_adds,
    ]
    return {maker.__name__: maker() for maker in makers}


def ran(pad: Launchpad, trainer: Trainer, **pod_spec: Any) -> tuple[Launched, list[str]]:
    """A launcher whose TrainJob's pods run."""
    launched = pad.start()
    pods = trainer.make_pods(launched.name, **pod_spec)
    trainer.run_pods(pods)
    return launched, pods


def test_memory_that_was_not_enough(pad, trainer):
    launched, pods = ran(pad, trainer, nodeName="node-7")
    trainer.end_pod(pods[0], 1)
    trainer.end_pod(pods[1], 137, reason="OOMKilled")
    trainer.fail(launched.name)
    error = launched.error()
    assert type(error) is StageError
    assert str(error) == (
        f"{launched.title} failed: pod {pods[1]} on node node-7 ran out of memory (OOMKilled). Raise the recipe's "
        "compute.memory, or lower batch_size_per_process, pack_tokens or data_workers."
    )


def test_a_pod_that_was_evicted_or_disrupted(pad, trainer):
    evicted, pods = ran(pad, trainer, nodeName="node-7")
    trainer.set_pod(pods[0], phase="Failed", reason="Evicted", message="The node was low on resource: memory. ")
    trainer.end_pod(pods[1], 1)
    trainer.fail(evicted.name)
    preempted, others = ran(pad, trainer)
    disruption = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": "for x"}
    trainer.end_pod(others[0], 1)
    trainer.set_pod(others[1], phase="Failed", conditions=[disruption])
    trainer.fail(preempted.name)
    for launched, words in (
        (evicted, f"lost pod {pods[0]} on node node-7: Evicted: The node was low on resource: memory. {CONTINUES}"),
        (preempted, f"lost pod {others[1]}: PreemptionByScheduler: for x. {CONTINUES}"),
    ):
        error = launched.error()
        assert type(error) is Preempted
        assert str(error) == f"{launched.title} {words}"
        # The next attempt makes it anew.
        wait_until(lambda launched=launched: trainer.is_deleted(launched.name))


def test_a_pod_that_is_gone_before_any_failed_went_with_its_node(pad, trainer):
    launched, pods = ran(pad, trainer, nodeName="node-7")
    launched.wait_for("has 2 of 2 pods running", 12)
    trainer.core.delete_namespaced_pod(pods[1], trainer.namespace, grace_period_seconds=0)
    launched.wait_for("has 1 of 2 pods running", 20)
    # What the other says of it is no reason of its own.
    trainer.end_pod(pods[0], 7, message="Connection closed by peer.")
    trainer.fail(launched.name)
    error = launched.error()
    assert type(error) is Preempted
    assert str(error).startswith(f"{launched.title} lost pod {pods[1]} on node node-7: the pod is gone")


def test_a_pod_that_is_taken_away_because_another_failed_is_not_the_reason(pad, trainer):
    launched, pods = ran(pad, trainer)
    launched.wait_for("has 2 of 2 pods running", 12)
    trainer.end_pod(pods[0], 7, message="It broke.")
    trainer.core.delete_namespaced_pod(pods[1], trainer.namespace, grace_period_seconds=0)
    trainer.fail(launched.name)
    assert str(launched.error()) == f"{launched.title} failed in pod {pods[0]}: It broke."


def test_a_deadline_that_has_passed(pad, trainer):
    by_trainer, by_launcher = pad.start(deadline_s=60), pad.start(deadline_s=60)
    trainer.run_pods(trainer.make_pods(by_trainer.name))
    trainer.fail(by_trainer.name, "DeadlineExceeded", "TrainJob exceeded its active deadline")
    by_launcher.wait_for("waits for its pods")
    # A trainer that does not know deadlines lets it go on.
    trainer.set_condition(by_launcher.name, "Suspended", "Resumed", status="False", since=LONG_AGO)
    for launched in (by_trainer, by_launcher):
        error = launched.error(20)
        assert type(error) is StageError
        assert str(error).startswith(f"{launched.title} took longer than its deadline of 60 s and was ended. Raise")
    wait_until(lambda: trainer.is_deleted(by_launcher.name))


def test_a_runtime_that_is_not_there(pad, trainer):
    launched = pad.start()
    trainer.wait_for(launched.name)
    trainer.fail(launched.name, "TrainingRuntimeNotSupported", "unsupported runtime: pathoflow-torchrun")
    error = launched.error()
    assert type(error) is ClusterError
    assert str(error) == (
        f"{launched.title} failed: unsupported runtime: pathoflow-torchrun. Apply manifests/components/trainjobs."
    )


def test_a_failure_of_which_nothing_is_left(pad, trainer):
    launched = pad.start()
    trainer.wait_for(launched.name)
    trainer.fail(launched.name, message=f"somebody had {TOKEN}")
    assert str(launched.error()) == (
        f"{launched.title} failed: FailedJobs: somebody had [hidden]. Its pods are gone; the cluster's events may tell "
        "more."
    )


def test_a_trainjob_of_the_same_name_that_wants_something_else(pad, trainer, api):
    launched = pad.start()
    launched.wait_for("waits for its pods")
    trainer.patch(launched.name, {"metadata": {"annotations": {IDENTITY_ANNOTATION: "another"}}})
    error = pad.again(launched).error()
    assert type(error) is ClusterError
    assert "is there already and is not what this stage wants. Delete it" in str(error)


def test_a_quota_of_trainjobs(pad, trainer, api, trainer_crds):
    core = client.CoreV1Api(api)
    with new_namespace(api) as place:
        hard = {"count/trainjobs.trainer.kubeflow.org": "0"}
        core.create_namespaced_resource_quota(place, {"metadata": {"name": "trainjobs"}, "spec": {"hard": hard}})
        # What the controller of quotas writes, which looks for new kinds now and then.
        core.patch_namespaced_resource_quota_status("trainjobs", place, {"status": {"hard": hard, "used": hard}})
        launched = pad.start(namespace=place)
        error = launched.error()
    assert type(error) is ClusterError
    assert str(error).startswith(f"Could not create {launched.title}: trainjobs.trainer.kubeflow.org")
    assert "exceeded quota: trainjobs" in str(error)
    assert str(error).endswith("The namespace's ResourceQuota is used up: wait, free some, or ask for more.")


def test_a_cluster_without_the_namespace(pad):
    launched = pad.start(namespace="not-there")
    error = launched.error()
    assert type(error) is ClusterError
    assert str(error) == (
        f'Could not create {launched.title}: namespaces "not-there" not found (404 Not Found). Is it the right '
        "cluster, and is the namespace that of the overlay's parameters?"
    )


def test_a_context_that_does_not_exist_and_a_kubeconfig_that_is_none(pad, kubeconfig, tmp_path):
    wrong, broken = tmp_path / "wrong", tmp_path / "broken"
    wrong.write_text(kubeconfig.read_text().replace("current-context: test", "current-context: other"))
    broken.write_text("clusters: [")
    for file, known in ((wrong, "test"), (broken, "none"), (tmp_path / "missing", "none")):
        error = pad.start(kubeconfig=file).error()
        assert type(error) is ClusterError
        assert str(error).startswith("No cluster to talk to: ")
        assert f"Known contexts: {known}. Set KUBECONFIG" in str(error)


def test_a_token_that_the_cluster_does_not_know(pad, situations):
    launched = pad.start(kubeconfig=situations._kubeconfig("expired"))
    error = launched.error()
    assert type(error) is ClusterError
    assert str(error) == (
        f"Could not create {launched.title}: Unauthorized (401 Unauthorized). The token has expired or belongs to "
        "another cluster: log in again."
    )


def test_an_image_that_is_not_there(slow, trainer):
    case = slow["image_that_is_not_there"]
    error = case.error()
    assert type(error) is ClusterError
    assert str(error) == (
        f"Pod {case.pods[1]} of {case.launched.title} cannot get the image train: ImagePullBackOff: Back-off pulling "
        'image "https://[hidden]@registry/train". Push the image, or correct its name, digest or pull secret in the '
        "overlay's parameters."
    )
    # Nothing is left that holds GPUs while nobody waits for it.
    assert trainer.is_deleted(case.launched.name)


def test_a_secret_that_is_missing(slow):
    case = slow["secret_that_is_missing"]
    error = case.error()
    assert type(error) is ClusterError
    assert f"Pod {case.pods[0]} of {case.launched.title} cannot start: CreateContainerConfigError: secret" in str(error)
    assert "Create the secret" in str(error)


def test_no_node_that_fits(slow):
    case = slow["no_node_that_fits"]
    error = case.error()
    assert type(error) is ClusterError
    assert str(error).startswith(f"No node takes pod {min(case.pods)} of {case.launched.title}: ")
    assert "didn't match" in str(error) or "no nodes available" in str(error)
    assert "Each of 2 pods wants 8 nvidia.com/gpu: free or add such nodes" in str(error)


def test_a_quota_that_is_used_up(slow):
    case = slow["quota_that_is_used_up"]
    error = case.error()
    assert type(error) is ClusterError
    assert f"{case.launched.title} gets no pods. Job {case.launched.name}-node-0: FailedCreate: " in str(error)
    assert "exceeded quota: quota" in str(error)
    assert str(error).endswith("The namespace's ResourceQuota is used up: wait, free some, or ask for more.")


def test_nobody_who_makes_pods(slow):
    case = slow["no_trainer"]
    error = case.error()
    assert type(error) is ClusterError
    assert str(error) == (
        f"{case.launched.title} has no pods. Kubeflow Trainer's or JobSet's controller may not be running: "
        "see `pathoflow doctor` and their logs."
    )


def test_a_node_that_does_not_answer(slow, trainer):
    case = slow["node_that_does_not_answer"]
    error = case.error()
    assert type(error) is Preempted
    assert str(error) == (
        f"{case.launched.title} lost pod {case.pods[1]} on node lost-node: the pod is not ready although its container "
        f"runs, as when its node does not answer. {CONTINUES}"
    )
    assert trainer.is_deleted(case.launched.name)


def test_no_cluster(slow):
    error = slow["no_cluster"].error()
    assert type(error) is ClusterError
    title = slow["no_cluster"].launched.title
    assert str(error).startswith(f"Could not create {title}: the API server does not answer (")
    assert "Connection refused" in str(error)
    assert str(error).endswith("Is the cluster up, and the context right?")


def test_a_token_that_expires(slow):
    case = slow["token_that_expires"]
    error = case.error()
    assert type(error) is ClusterError
    assert str(error) == (
        f"Could not follow {case.launched.title}: Unauthorized (401 Unauthorized). The token has expired or belongs to "
        "another cluster: log in again."
    )


def test_a_node_that_the_autoscaler_adds_is_waited_for(slow):
    case = slow["node_that_the_autoscaler_adds"]
    case.launched.wait_for("waits for a node that the autoscaler adds")
    assert case.launched.process.poll() is None


def test_each_is_told_in_one_message_and_without_secrets(slow, pad):
    for case in slow.values():
        words = case.launched.launch.outcome.read_text() if case.launched.launch.outcome.is_file() else ""
        assert words.count(case.launched.title) <= 1
        assert TOKEN not in words + case.launched.said()
