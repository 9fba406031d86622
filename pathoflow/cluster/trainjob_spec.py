"""Builds the TrainJob of a training over several nodes; equal requests give equal specs."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pathoflow.cluster.settings import TORCHRUN_RUNTIME
from pathoflow.contract.needs import HUB_SECRET
from pathoflow.contract.recipe import Toleration
from pathoflow.errors import ConfigError

GROUP = "trainer.kubeflow.org"
VERSION = "v1alpha1"
PLURAL = "trainjobs"

REQUEST = "PATHOFLOW_TRAINJOB"
"""Environment variable with the `TrainJobRequest` of a stage, as JSON."""
NODES = "PATHOFLOW_NODES"
"""Environment variable with the stage's number of nodes; a launcher is needed above 1."""
RUN_ID = "PATHOFLOW_RUN_ID"
"""Environment variable with the pipeline run's id."""
ATTEMPT = "PATHOFLOW_ATTEMPT"
"""Environment variable that tells the pods of one TrainJob from those of the next with the same name."""

RUN_LABEL = "pathoflow/run-id"
STAGE_LABEL = "pathoflow/stage"
IDENTITY_ANNOTATION = "pathoflow/spec-identity"
ATTEMPT_ANNOTATION = "pathoflow/attempt"
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
JOBSET_LABEL = "jobset.sigs.k8s.io/jobset-name"
"""On each pod of a TrainJob, with the TrainJob's name."""
WORKER_JOB = "node"
"""The runtime's replicated job of the workers, and their container."""
_MANAGER = "pathoflow/launcher"
# Pods are called <TrainJob>-node-0-<number>, which must be a DNS label, too.
_MAX_STAGE = 30
_HASH_LENGTH = 12


class TrainJobRequest(BaseModel):
    """Resources that a stage on several nodes requests.

    `pathoflow compile --cluster` writes it into the environment of the stage's pod.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: int = Field(ge=2, le=64, description="Pods, each on a node of its own.")
    gpus_per_node: int = Field(0, ge=0, le=16, description="GPUs of each pod.")
    gpu_resource: str = Field("nvidia.com/gpu", description="Extended resource name of the GPUs.")
    cpu: str | None = Field(None, pattern=r"^\d+(\.\d+)?m?$", description="CPU request and limit of each pod.")
    memory: str | None = Field(None, pattern=r"^\d+[KMGT]i?$", description="Memory request and limit of each pod.")
    shm: str | None = Field(None, pattern=r"^\d+[MG]i$", description="Size of /dev/shm; null leaves it to the runtime.")
    image: str = Field(min_length=1, description="Image of the pods.")
    namespace: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", description="Namespace of the TrainJob.")
    runtime: str = Field(TORCHRUN_RUNTIME, description="TrainingRuntime in that namespace.")
    queue: str = Field("", description="Kueue LocalQueue that admits the TrainJob; empty where there is no Kueue.")
    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels that the nodes must carry.")
    tolerations: tuple[Toleration, ...] = Field((), description="Taints that the pods accept.")
    deadline_s: int | None = Field(None, ge=60, description="Longest time from start to end, in seconds.")
    unschedulable_s: int = Field(
        45,
        ge=5,
        le=86_400,
        description="How long pods may wait for a node that fits before that is an error, in seconds. Neither waiting "
        "in a Kueue queue nor for a node that the cluster's autoscaler is adding counts.",
    )

    @classmethod
    def from_environment(cls) -> TrainJobRequest | None:
        """Reads the request from the environment; None for a stage on one node.

        Raises:
            ConfigError: The variables contradict each other, or the request is wrong.
        """
        nodes = os.environ.get(NODES, "1")
        if nodes in ("", "1"):
            return None
        if not (text := os.environ.get(REQUEST)):
            raise ConfigError(
                f"{NODES} is {nodes}, but {REQUEST} is not set. Compile the pipeline anew with --cluster."
            )
        try:
            request = cls.model_validate_json(text)
        except ValidationError as error:
            faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
            raise ConfigError(f"{REQUEST}: {faults}. Compile the pipeline anew with --cluster.") from error
        if nodes != str(request.nodes):
            raise ConfigError(f"{NODES} is {nodes}, and {REQUEST} says {request.nodes}. Compile the pipeline anew.")
        return request


@dataclass(frozen=True)
class WorkerCommand:
    """Work of a TrainJob's pods.

    Attributes:
        stage: The stage's name.
        run_id: The pipeline run's id.
        module: The worker's module.
        config_type: Module and name of the class of the stage's configuration, with a colon between.
        job_file: The job's file on the volume that all pods share.
        job_digest: SHA-256 of that file, which each pod compares.
        processes_per_node: Processes that torchrun starts in each pod.
        grace_s: Seconds in which a pod that is told to stop writes a checkpoint.
        offline: Whether downloads from the model hub are forbidden.
        environment: More variables of the pods; nothing secret.
    """

    stage: str
    run_id: str
    module: str
    config_type: str
    job_file: PurePath
    job_digest: str
    processes_per_node: int
    grace_s: int
    offline: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)


def spec(request: TrainJobRequest, work: WorkerCommand) -> dict[str, Any]:
    """Builds the TrainJob's `spec`; equal requests give equal specs."""
    resources = {"cpu": request.cpu, "memory": request.memory}
    resources[request.gpu_resource] = str(request.gpus_per_node) if request.gpus_per_node else None
    amounts = {name: amount for name, amount in resources.items() if amount}
    environment = {RUN_ID: work.run_id, **work.environment}
    mode = "offline" if work.offline else "online"
    trainer: dict[str, Any] = {
        "image": request.image,
        "command": ["python", "-m", "pathoflow.training.node"],
        "args": [work.module, work.config_type, str(work.job_file), work.job_digest, mode],
        "numNodes": request.nodes,
        "numProcPerNode": work.processes_per_node,
        "env": [{"name": name, "value": value} for name, value in sorted(environment.items())],
    }
    if not work.offline:
        token = {"name": HUB_SECRET, "key": "HF_TOKEN", "optional": True}
        trainer["env"].append({"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": token}})
    if amounts:
        trainer["resourcesPerNode"] = {"requests": amounts, "limits": amounts}
    made: dict[str, Any] = {
        "runtimeRef": {"apiGroup": GROUP, "kind": "TrainingRuntime", "name": request.runtime},
        "trainer": trainer,
        "runtimePatches": [{"manager": _MANAGER, "trainingRuntimeSpec": {"template": _template(request, work)}}],
    }
    if request.deadline_s:
        made["activeDeadlineSeconds"] = request.deadline_s
    return made


def _template(request: TrainJobRequest, work: WorkerCommand) -> dict[str, Any]:
    """Builds the differences from the runtime's pods."""
    # A minute more than the workers take, in which torchrun ends them and this pod's last words are written.
    pod: dict[str, Any] = {"terminationGracePeriodSeconds": work.grace_s + 60}
    if request.node_selector:
        pod["nodeSelector"] = dict(sorted(request.node_selector.items()))
    if request.tolerations:
        pod["tolerations"] = [toleration.model_dump(exclude_none=True) for toleration in request.tolerations]
    if request.shm:
        pod["volumes"] = [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": request.shm}}]
        mount = {"name": "shm", "mountPath": "/dev/shm"}
        pod["containers"] = [{"name": WORKER_JOB, "volumeMounts": [mount]}]
    job = {"spec": {"template": {"metadata": {"labels": _labels(work)}, "spec": pod}}}
    return {"spec": {"replicatedJobs": [{"name": WORKER_JOB, "template": job}]}}


def _labels(work: WorkerCommand) -> dict[str, str]:
    return {
        "app.kubernetes.io/part-of": "pathoflow",
        "app.kubernetes.io/component": _dns(work.stage),
        RUN_LABEL: label_value(work.run_id),
        STAGE_LABEL: work.stage,
    }


def identity(made: dict[str, Any]) -> str:
    """Returns the SHA-256 of a spec."""
    return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()


def manifest(
    request: TrainJobRequest, work: WorkerCommand, owner: dict[str, Any] | None, attempt: str
) -> dict[str, Any]:
    """Builds the whole TrainJob.

    Its name follows from the run, the stage and the spec, so that the same request again finds the existing TrainJob.

    Args:
        request: Resources requested from the cluster.
        work: Work of the pods.
        owner: Owner reference to the workflow with which the TrainJob is deleted; None for none.
        attempt: Distinguishes this TrainJob from an earlier one of the same name. It is no part of the identity.
    """
    made = spec(request, work)
    digest = identity(made)
    metadata: dict[str, Any] = {
        "name": name_of(work.run_id, work.stage, digest),
        "namespace": request.namespace,
        "labels": _labels(work) | ({QUEUE_LABEL: request.queue} if request.queue else {}),
        "annotations": {IDENTITY_ANNOTATION: digest, ATTEMPT_ANNOTATION: attempt},
    }
    if owner is not None:
        metadata["ownerReferences"] = [owner]
    made["trainer"]["env"].append({"name": ATTEMPT, "value": attempt})
    return {"apiVersion": f"{GROUP}/{VERSION}", "kind": "TrainJob", "metadata": metadata, "spec": made}


def name_of(run_id: str, stage: str, digest: str) -> str:
    """Returns the TrainJob's name: a DNS label.

    >>> name_of("run-1", "cpt", "ab12")
    'cpt-7331a862e5b1'
    """
    hashed = hashlib.sha256("\n".join((run_id, stage, digest)).encode()).hexdigest()
    return f"{_dns(stage)}-{hashed[:_HASH_LENGTH]}"


def label_value(text: str) -> str:
    """Turns a text into a label's value: characters that are not allowed become `_`.

    >>> label_value("smoke/1 (again)")
    'smoke_1__again'
    """
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)[:63].strip("_.-")


def _dns(text: str) -> str:
    """Turns a text into the beginning of a DNS label."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:_MAX_STAGE].strip("-")


def failure_file(folder: Path, attempt: str) -> Path:
    """Returns the path of the report that the first failed node of an attempt leaves beside the job's file."""
    return folder / f"failure-{attempt}.json"
