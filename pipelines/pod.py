"""Furnishes the pod of a stage: size, place, volumes, environment, identity, time and retries.

Kubeflow Pipelines makes the pod. What it has no field for, it sets itself (no privilege escalation, all capabilities
dropped, seccomp profile RuntimeDefault) or leaves to the cluster (a read-only root, the volumes' group); ADR 0008 says
who sets what. Every path that a stage writes to is a volume, so that a read-only root breaks nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from kfp import dsl, kubernetes

from pathoflow.cluster.settings import (
    CHECKPOINTS_CLAIM,
    CHECKPOINTS_PATH,
    COMPONENT_LABEL,
    EGRESS_LABEL,
    KFP_RUN_LABEL,
    METRICS_PORT,
    MLFLOW_SECRET,
    OBJECT_STORE_SECRET,
    PART_OF,
    PART_OF_LABEL,
    SECRET_KEYS,
    SOURCES_PATH,
    TORCHRUN_RUNTIME,
    TRUSTED_KEYS,
    USER_ID,
    Cluster,
)
from pathoflow.cluster.trainjob_spec import NODES, REQUEST, RUN_ID, TrainJobRequest
from pathoflow.contract.config import StageConfig
from pathoflow.contract.needs import Secret
from pathoflow.contract.recipe import Compute, Recipe

# Where quotas count, a pod without limits is refused.
_MODEST = Compute(cpu="1", memory="4Gi")
# Fetches inputs, writes the job, watches it and seals the output; the work is done elsewhere.
_LAUNCHER = Compute(cpu="1", memory="4Gi")
_LONGEST_S = 30 * 86_400
_KEYS_PATH = "/etc/pathoflow/trusted-keys"
_SECRETS_PATH = "/etc/pathoflow/secrets"


def furnish(task: dsl.PipelineTask, recipe: Recipe, stage: str, cluster: Cluster, image: str) -> None:
    """Gives the task of a stage all that its pod needs on a cluster."""
    config, compute = recipe.stages[stage], recipe.compute[stage]
    identify(task, cluster, stage)
    _serve(task, cluster, image)
    # The stage itself puts the run's id in: Kubernetes does so only from variables that stand before.
    task.set_env_variable(
        "PATHOFLOW_WORKDIR", f"{CHECKPOINTS_PATH}/${{{RUN_ID}}}/{stage}" if config.keeps_checkpoints else "/work"
    )
    task.set_env_variable("MLFLOW_EXPERIMENT_NAME", f"pathoflow-{recipe.name}")
    if config.keeps_checkpoints:
        task.set_env_variable("PATHOFLOW_METRICS_PORT", str(METRICS_PORT))
        kubernetes.mount_pvc(task, CHECKPOINTS_CLAIM, CHECKPOINTS_PATH)
        # Of several nodes each needs the base model.
        task.set_env_variable("HF_HOME", f"{CHECKPOINTS_PATH}/hub")
    _disclose(task, config.secrets())
    for kind in sorted(config.egress()):
        kubernetes.add_pod_label(task, f"{EGRESS_LABEL}{kind}", "allowed")
    if reads_outside(config) and cluster.sources_claim:
        kubernetes.mount_pvc(task, cluster.sources_claim, SOURCES_PATH)
    if config.writes_registry:
        _open_registry(task, cluster)
    task.set_caching_options(is_cached(config, image))
    size(task, compute if compute.nodes == 1 else _LAUNCHER)
    if compute.nodes > 1:
        _launch(task, compute, cluster, image)
    else:
        _settle(task, compute)
    _retry(task, compute)


def identify(task: dsl.PipelineTask, cluster: Cluster, component: str) -> None:
    """Gives a task what every pod of a run has: user, labels, writable folders and the run's id."""
    user = USER_ID if cluster.fixed_user == "true" else None
    kubernetes.set_security_context(task, run_as_user=user, run_as_group=user, run_as_non_root=True)
    kubernetes.add_pod_label(task, PART_OF_LABEL, PART_OF)
    kubernetes.add_pod_label(task, COMPONENT_LABEL, component)
    if cluster.image_pull_secret:
        kubernetes.set_image_pull_secrets(task, [cluster.image_pull_secret])
    for name, path in (("tmp", "/tmp"), ("work", "/work")):
        kubernetes.empty_dir_mount(task, volume_name=name, mount_path=path)
    task.set_env_variable("HOME", "/tmp")
    for name in (RUN_ID, "KFP_RUN_ID"):
        kubernetes.use_field_path_as_env(task, name, f"metadata.labels['{KFP_RUN_LABEL}']")


def _serve(task: dsl.PipelineTask, cluster: Cluster, image: str) -> None:
    """Names the services that a stage uses, and the secrets that open them."""
    variables = {
        "PATHOFLOW_DVC_REMOTE": cluster.dvc_remote,
        "MLFLOW_TRACKING_URI": cluster.mlflow,
        "AWS_ENDPOINT_URL": cluster.object_store,
        "AWS_ENDPOINT_URL_S3": cluster.object_store,
        "MLFLOW_S3_ENDPOINT_URL": cluster.object_store,
        "PATHOFLOW_IMAGE_DIGEST": image.partition("@")[2],
    }
    for name, value in variables.items():
        if value:
            task.set_env_variable(name, value)
    for secret in (OBJECT_STORE_SECRET, MLFLOW_SECRET):
        kubernetes.use_secret_as_env(task, secret, {key: key for key in SECRET_KEYS[secret]})


def is_cached(config: StageConfig, image: str) -> bool:
    """Returns whether Kubeflow Pipelines may reuse what the stage made in an earlier run.

    Its key holds the configuration, the image and which artifacts came in. That tells all there is to know if the image
    is named by digest, since the code is in it, and if nothing is read from outside, whose bytes the key does not
    hold.
    """
    return config.can_be_reused and "@sha256:" in image and not reads_outside(config)


def reads_outside(config: StageConfig) -> bool:
    """Returns whether a configuration names absolute paths: those of a recipe's own files are relative."""
    return any(path.is_absolute() for path in config.paths())


def _disclose(task: dsl.PipelineTask, secrets: Iterable[Secret]) -> None:
    """Gives a stage the secrets that it declares, and no other."""
    for secret in secrets:
        if secret.is_file:
            kubernetes.use_secret_as_volume(
                task, secret.secret, f"{_SECRETS_PATH}/{secret.secret}", optional=not secret.is_required
            )
            task.set_env_variable(secret.variable, f"{_SECRETS_PATH}/{secret.secret}/{secret.key}")
        else:
            kubernetes.use_secret_as_env(
                task, secret.secret, {secret.key: secret.variable}, optional=not secret.is_required
            )


def _open_registry(task: dsl.PipelineTask, cluster: Cluster) -> None:
    """Says where the registry is, and gives the keys that count."""
    kubernetes.use_config_map_as_volume(task, TRUSTED_KEYS, _KEYS_PATH)
    task.set_env_variable("PATHOFLOW_TRUSTED_KEYS", _KEYS_PATH)
    task.set_env_variable("PATHOFLOW_REGISTRY", cluster.registry)
    task.set_env_variable("PATHOFLOW_ACTOR", "pipeline")


def size(task: dsl.PipelineTask, compute: Compute) -> None:
    """Asks for CPU, memory, GPUs and shared memory."""
    cpu, memory = compute.cpu or _MODEST.cpu, compute.memory or _MODEST.memory
    task.set_cpu_request(cpu).set_cpu_limit(cpu)
    task.set_memory_request(memory).set_memory_limit(memory)
    if compute.gpus_per_node:
        task.set_accelerator_type(compute.gpu_resource).set_accelerator_limit(compute.gpus_per_node)
    if compute.shm:
        kubernetes.empty_dir_mount(
            task, volume_name="shm", mount_path="/dev/shm", medium="Memory", size_limit=compute.shm
        )


def _settle(task: dsl.PipelineTask, compute: Compute) -> None:
    """Says on which nodes the pod may run, and for how long."""
    for key, value in sorted(compute.node_selector.items()):
        kubernetes.add_node_selector(task, key, value)
    for toleration in compute.tolerations:
        kubernetes.add_toleration(task, toleration.key, toleration.operator, toleration.value, toleration.effect)
    if compute.deadline_s:
        kubernetes.set_timeout(task, compute.deadline_s)


def _launch(task: dsl.PipelineTask, compute: Compute, cluster: Cluster, image: str) -> None:
    """Makes the pod the launcher of a TrainJob.

    It needs no GPU and no place of its own, and no deadline: the TrainJob has one, which begins when Kueue lets it in.
    """
    request = TrainJobRequest(
        nodes=compute.nodes,
        gpus_per_node=compute.gpus_per_node,
        gpu_resource=compute.gpu_resource,
        cpu=compute.cpu,
        memory=compute.memory,
        shm=compute.shm,
        image=image,
        namespace=cluster.namespace,
        # RL, too: its processes write their rollouts themselves, and leave a server of them alone.
        runtime=TORCHRUN_RUNTIME,
        queue=compute.queue or cluster.queue,
        node_selector=compute.node_selector,
        tolerations=compute.tolerations,
        deadline_s=compute.deadline_s,
    )
    task.set_env_variable(NODES, str(compute.nodes))
    task.set_env_variable(REQUEST, request.model_dump_json(exclude_none=True))


def _retry(task: dsl.PipelineTask, compute: Compute) -> None:
    if not compute.retries:
        return
    # KFP hands the longest duration on to Argo, which counts it from the start of the first attempt. With KFP's own
    # hour, whatever fails later is not tried again: https://github.com/argoproj/argo-workflows/issues/16857
    longest_s = (compute.deadline_s or _LONGEST_S) * (compute.retries + 1)
    task.set_retry(compute.retries, backoff_duration="60s", backoff_factor=1.0, backoff_max_duration=f"{longest_s}s")
