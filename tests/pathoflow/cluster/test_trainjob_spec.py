"""The TrainJob that a wish becomes."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath

import pytest
from kubeflow_trainer_api import models

from pathoflow.cluster.trainjob_spec import (
    ATTEMPT,
    IDENTITY_ANNOTATION,
    NODES,
    QUEUE_LABEL,
    REQUEST,
    TrainJobRequest,
    WorkerCommand,
    manifest,
)
from pathoflow.errors import ConfigError

REQUESTED = TrainJobRequest(
    nodes=2,
    gpus_per_node=8,
    cpu="64",
    memory="768Gi",
    shm="64Gi",
    image="registry/train@sha256:" + "0" * 64,
    namespace="ml",
    queue="training",
    node_selector={"nvidia.com/gpu.present": "true"},
    tolerations=[{"key": "nvidia.com/gpu"}],
    deadline_s=86_400,
)
WORK = WorkerCommand(
    stage="cpt",
    run_id="run-1",
    module="components.training.cpt.worker",
    config_type="components.training.cpt.config:CptConfig",
    job_file=PurePosixPath("/checkpoints/run-1/cpt/job.json"),
    job_digest="ab" * 32,
    processes_per_node=8,
    grace_s=600,
)
OWNER = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "run", "uid": "u", "controller": False}


def made(request=REQUESTED, work=WORK, attempt="one"):
    return manifest(request, work, OWNER, attempt)


def test_kubeflow_trainers_own_models_take_it_and_keep_every_field():
    trainjob = made()
    model = models.TrainerV1alpha1TrainJob.from_dict(trainjob)
    kept = json.loads(model.to_json())
    assert kept["spec"] == trainjob["spec"]
    assert kept["metadata"]["labels"] == trainjob["metadata"]["labels"]


def test_gpus_memory_queue_deadline_and_place_are_asked_for():
    trainjob = made()
    spec = trainjob["spec"]
    assert spec["trainer"]["resourcesPerNode"]["limits"] == {"cpu": "64", "memory": "768Gi", "nvidia.com/gpu": "8"}
    assert (spec["trainer"]["numNodes"], spec["trainer"]["numProcPerNode"]) == (2, 8)
    assert spec["activeDeadlineSeconds"] == 86_400
    assert trainjob["metadata"]["labels"][QUEUE_LABEL] == "training"
    (job,) = spec["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert pod["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    assert pod["terminationGracePeriodSeconds"] > WORK.grace_s
    assert pod["volumes"][0]["emptyDir"]["sizeLimit"] == "64Gi"


def test_the_name_follows_from_run_stage_and_spec_alone():
    name = made()["metadata"]["name"]
    assert made(attempt="two")["metadata"]["name"] == name
    assert (
        made(attempt="two")["metadata"]["annotations"][IDENTITY_ANNOTATION]
        == (made()["metadata"]["annotations"][IDENTITY_ANNOTATION])
    )
    others = [
        made(request=REQUESTED.model_copy(update={"nodes": 3})),
        made(work=WorkerCommand(**WORK.__dict__ | {"run_id": "run-2"})),
        made(work=WorkerCommand(**WORK.__dict__ | {"job_digest": "cd" * 32})),
    ]
    assert len({name, *(other["metadata"]["name"] for other in others)}) == 4


@pytest.mark.parametrize("stage", ["cpt", "a_stage_with_a_name_that_goes_on_and_on_and_on_and_on_and_on"])
def test_the_name_leaves_room_for_those_of_the_pods(stage):
    name = made(work=WorkerCommand(**WORK.__dict__ | {"stage": stage}))["metadata"]["name"]
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(f"{name}-node-0-63") <= 63


def test_kubernetes_takes_its_labels_and_annotations():
    metadata = made()["metadata"]
    for key in metadata["labels"] | metadata["annotations"]:
        assert re.fullmatch(r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-\w.]*[A-Za-z0-9])?", key)
    for value in metadata["labels"].values():
        assert re.fullmatch(r"[A-Za-z0-9]([-\w.]{,61}[A-Za-z0-9])?", value)


def test_no_secret_is_in_it_by_value():
    env = made(work=WorkerCommand(**WORK.__dict__ | {"offline": False}))["spec"]["trainer"]["env"]
    assert {variable["name"] for variable in env if "value" in variable} == {"PATHOFLOW_RUN_ID", ATTEMPT}
    (token,) = [variable for variable in env if "valueFrom" in variable]
    assert token["valueFrom"]["secretKeyRef"] == {"name": "pathoflow-hub", "key": "HF_TOKEN", "optional": True}


def test_the_environment_says_whether_there_is_more_than_one_node(monkeypatch):
    monkeypatch.delenv(NODES, raising=False)
    assert TrainJobRequest.from_environment() is None
    monkeypatch.setenv(NODES, "1")
    assert TrainJobRequest.from_environment() is None
    monkeypatch.setenv(NODES, "2")
    with pytest.raises(ConfigError, match="PATHOFLOW_TRAINJOB is not set"):
        TrainJobRequest.from_environment()
    monkeypatch.setenv(REQUEST, REQUESTED.model_dump_json())
    assert TrainJobRequest.from_environment() == REQUESTED
    monkeypatch.setenv(NODES, "3")
    with pytest.raises(ConfigError, match=r"PATHOFLOW_NODES is 3.*says 2"):
        TrainJobRequest.from_environment()
    monkeypatch.setenv(REQUEST, '{"nodes": 3, "image": "i", "namespace": "n", "gpus": 1}')
    with pytest.raises(ConfigError, match="gpus: Extra inputs"):
        TrainJobRequest.from_environment()
