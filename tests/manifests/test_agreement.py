"""What the code takes for granted about an installation is what the manifests install."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import pytest

from pathoflow.cluster import settings
from pathoflow.cluster.settings import load_cluster
from pathoflow.cluster.trainjob_spec import WORKER_JOB, TrainJobRequest, WorkerCommand, spec
from pathoflow.contract.recipe import Toleration
from tests.manifests.rendering import MANIFESTS, OVERLAYS, Object, name_of, rendered

WITH_TRAINJOBS = ("multi-node", "openshift")


def runtimes(overlay: str) -> dict[str, Object]:
    return {t["metadata"]["name"]: t for t in rendered(overlay) if t["kind"] == "TrainingRuntime"}


def jobs_of(runtime: Object) -> dict[str, Any]:
    """The replicated jobs of a runtime, by name."""
    return {job["name"]: job for job in runtime["spec"]["template"]["spec"]["replicatedJobs"]}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_accounts_and_claims(overlay: str) -> None:
    names = {name_of(thing) for thing in rendered(overlay)}
    assert {f"ServiceAccount/{settings.RUNNER_ACCOUNT}", f"ServiceAccount/{settings.TRAINER_ACCOUNT}"} <= names
    assert f"PersistentVolumeClaim/{settings.CHECKPOINTS_CLAIM}" in names
    (claim,) = [t for t in rendered(overlay) if t["kind"] == "PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany" if overlay in WITH_TRAINJOBS else "ReadWriteOnce"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_fixed_users(overlay: str) -> None:
    (mlflow,) = [t for t in rendered(overlay) if t["kind"] == "Deployment"]
    fixed = load_cluster(MANIFESTS / "overlays" / overlay).fixed_user == "true"
    user = mlflow["spec"]["template"]["spec"]["securityContext"].get("runAsUser")
    assert user == (settings.USER_ID if fixed else None)


@pytest.mark.parametrize("overlay", WITH_TRAINJOBS)
def test_runtimes(overlay: str) -> None:
    assert set(runtimes(overlay)) == {settings.TORCHRUN_RUNTIME, settings.ROLLOUT_RUNTIME}
    for runtime in runtimes(overlay).values():
        job = jobs_of(runtime)[WORKER_JOB]
        assert job["template"]["metadata"]["labels"]["trainer.kubeflow.org/trainjob-ancestor-step"] == "trainer"
        pod = job["template"]["spec"]["template"]["spec"]
        assert pod["serviceAccountName"] == settings.TRAINER_ACCOUNT
        (container,) = pod["containers"]
        assert container["name"] == WORKER_JOB
        assert container["ports"] == [{"name": "metrics", "containerPort": settings.METRICS_PORT, "protocol": "TCP"}]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounts == {
            "checkpoints": settings.CHECKPOINTS_PATH,
            "shm": "/dev/shm",
            "tmp": "/tmp",
            "work": "/work",
        }
        claims = [v["persistentVolumeClaim"]["claimName"] for v in pod["volumes"] if "persistentVolumeClaim" in v]
        assert claims == [settings.CHECKPOINTS_CLAIM]


@pytest.mark.parametrize("name", [settings.TORCHRUN_RUNTIME, settings.ROLLOUT_RUNTIME])
def test_what_a_trainjob_patches_is_in_its_runtime(name: str) -> None:
    request = TrainJobRequest(
        nodes=2,
        gpus_per_node=8,
        shm="64Gi",
        image="train",
        namespace="pathoflow",
        runtime=name,
        node_selector={"a": "b"},
        tolerations=(Toleration(key="c"),),
    )
    work = WorkerCommand("cpt", "run", "worker", "config:Config", PurePath("/checkpoints/job.json"), "0", 8, 60)
    made = spec(request, work)
    runtime = runtimes("multi-node")[made["runtimeRef"]["name"]]
    (patch,) = made["runtimePatches"]
    patched = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    assert patched
    for job in patched:
        pod = jobs_of(runtime)[job["name"]]["template"]["spec"]["template"]["spec"]
        change = job["template"]["spec"]["template"]["spec"]
        for key in ("containers", "volumes"):
            # One of another name would be added, not changed.
            assert {entry["name"] for entry in change[key]} <= {entry["name"] for entry in pod[key]}


def test_the_rollouts_server_is_there_before_the_trainer_and_no_part_of_success() -> None:
    runtime = runtimes("multi-node")[settings.ROLLOUT_RUNTIME]
    jobs = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert [job["name"] for job in jobs] == ["rollout", WORKER_JOB]
    assert jobs[1]["dependsOn"] == [{"name": "rollout", "status": "Ready"}]
    policy = runtime["spec"]["template"]["spec"]["successPolicy"]
    assert policy == {"operator": "All", "targetReplicatedJobs": [WORKER_JOB]}
