"""Reads a TrainJob's conditions, pods and events: its progress, its obstacles, and why it failed."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pathoflow.cluster.trainjob_spec import QUEUE_LABEL, TrainJobRequest
from pathoflow.errors import ClusterError, PathoflowError, Preempted, StageError, error_of

Object = dict[str, Any]

_CONTINUES = "Run the stage again: it continues from the last checkpoint."
_UNREACHABLE = "the pod is not ready although its container runs, as when its node does not answer"
_RESUMABLE = frozenset({Preempted.exit_code, 128 + signal.SIGTERM})
_OUT_OF_MEMORY = "OOMKilled"
# Reasons in a pod's own status with which it goes although its work was in order.
_DISRUPTIONS = frozenset({"Evicted", "NodeLost", "NodeShutdown", "Shutdown", "Terminated", "Preempting"})
_IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_CONTAINER_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
# Kubelet, the garbage collector of pods and the registry get that long to get over it.
_SHORT_S = 20.0
_NO_POD_S = 45.0
# Kubernetes itself gives a node that does not answer 40 s before it says so.
_NODE_S = 30.0


@dataclass(frozen=True)
class Obstacle:
    """Reason why a TrainJob does not run.

    Attributes:
        key: Identifies the cause: equal keys are the same obstacle.
        patience_s: Seconds after which it is an error.
        text: For the user: the object, the reason and the remedy.
        error: The error's type.
    """

    key: str
    patience_s: float
    text: str
    error: type[PathoflowError] = ClusterError


def title(trainjob: Object) -> str:
    """Returns a TrainJob's name in messages."""
    metadata = trainjob["metadata"]
    return f"TrainJob {metadata['namespace']}/{metadata['name']}"


def condition(trainjob: Object, kind: str) -> Object | None:
    """Returns the condition of a type, if it is true."""
    conditions = trainjob.get("status", {}).get("conditions", ())
    return next((found for found in conditions if found["type"] == kind and found["status"] == "True"), None)


def is_suspended(trainjob: Object) -> bool:
    """Returns whether a TrainJob may not have pods yet, or any more."""
    return bool(trainjob["spec"].get("suspend"))


def progress(trainjob: Object, pods: Sequence[Object]) -> str:
    """Describes a TrainJob's progress in a few words."""
    if is_suspended(trainjob):
        if queue := trainjob["metadata"].get("labels", {}).get(QUEUE_LABEL):
            return f"waits for admission by Kueue's queue {queue} (`kubectl get workloads` shows its turn)"
        name, namespace = trainjob["metadata"]["name"], trainjob["metadata"]["namespace"]
        patch = """--type merge -p '{"spec":{"suspend":false}}'"""
        return f"is suspended; `kubectl -n {namespace} patch trainjob {name} {patch}` lets it go on"
    if not pods:
        return "waits for its pods"
    num_running = sum(_phase(pod) == "Running" for pod in pods)
    num_asked = trainjob["spec"]["trainer"]["numNodes"]
    return f"has {num_running} of {num_asked} pods running"


def obstacle(
    trainjob: Object, pods: Sequence[Object], warnings: Sequence[Object], request: TrainJobRequest
) -> Obstacle | None:
    """Returns what holds a TrainJob up, if waiting will not help.

    Args:
        trainjob: The TrainJob.
        pods: Its pods.
        warnings: Events that warn about it.
        request: The resources requested.
    """
    if is_suspended(trainjob):
        return None
    where = title(trainjob)
    for pod in pods:
        if found := (
            _container_obstacle(pod, where) or _scheduling_obstacle(pod, where, request) or _node_obstacle(pod, where)
        ):
            return found
    if len(pods) >= request.nodes:
        return None
    for warning in warnings:
        # Events outlive what they tell of, and an earlier TrainJob may have had the same name.
        if _seen_at(warning) >= (started_at(trainjob) or 0) and (found := _creation_obstacle(warning, where)):
            return found
    if pods or QUEUE_LABEL in trainjob["metadata"].get("labels", {}):
        return None
    return Obstacle(
        "no pods",
        _NO_POD_S,
        f"{where} has no pods. Kubeflow Trainer's or JobSet's controller may not be running: "
        "see `pathoflow doctor` and their logs.",
    )


def _container_obstacle(pod: Object, where: str) -> Obstacle | None:
    for container in _containers(pod):
        waiting = container.get("state", {}).get("waiting") or {}
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        name = _name(pod)
        if reason in _IMAGE_REASONS:
            text = (
                f"Pod {name} of {where} cannot get the image {container.get('image')}: {reason}: {message}. "
                "Push the image, or correct its name, digest or pull secret in the overlay's parameters."
            )
            return Obstacle(f"image {name}", _SHORT_S, text)
        if reason in _CONTAINER_REASONS:
            text = (
                f"Pod {name} of {where} cannot start: {reason}: {message}. Create the secret or claim that it names; "
                "`pathoflow doctor` lists what is missing."
            )
            return Obstacle(f"container {name}", _SHORT_S, text)
    return None


def _scheduling_obstacle(pod: Object, where: str, request: TrainJobRequest) -> Obstacle | None:
    for found in pod.get("status", {}).get("conditions", ()):
        if (found["type"], found["status"], found.get("reason")) == ("PodScheduled", "False", "Unschedulable"):
            wanted = {request.gpu_resource: request.gpus_per_node or None, "cpu": request.cpu, "memory": request.memory}
            amounts = (
                ", ".join(f"{amount} {name}" for name, amount in wanted.items() if amount) or "what the runtime asks"
            )
            text = (
                f"No node takes pod {_name(pod)} of {where}: {found.get('message', 'no message')}. Each of "
                f"{request.nodes} pods wants {amounts}: free or add such nodes, ask for less in the recipe's compute "
                "block, or have a Kueue queue that waits for its turn."
            )
            return Obstacle("unschedulable", request.unschedulable_s, text)
    return None


def _node_obstacle(pod: Object, where: str) -> Obstacle | None:
    if not _is_unreachable(pod):
        return None
    return Obstacle(f"node {_name(pod)}", _NODE_S, _lost(where, pod, _UNREACHABLE), Preempted)


def _creation_obstacle(warning: Object, where: str) -> Obstacle | None:
    reason, message = warning.get("reason", ""), warning.get("message", "")
    involved = warning.get("involvedObject", {})
    about = f"{involved.get('kind', 'object')} {involved.get('name', '')}".strip()
    if reason not in ("FailedCreate", "JobCreationFailed", "TrainJobResourcesCreationFailed"):
        return None
    remedy = "See `pathoflow doctor`."
    if "exceeded quota" in message:
        remedy = "The namespace's ResourceQuota is used up: wait, free some, or ask for more."
    elif "forbidden" in message:
        remedy = "The namespace's policies refuse such pods: compare the runtime with manifests/components/trainjobs."
    return Obstacle(f"creation {reason}", _SHORT_S, f"{where} gets no pods. {about}: {reason}: {message}. {remedy}")


def failure(
    trainjob: Object,
    pods: Sequence[Object],
    lost: Mapping[str, str],
    gone: Mapping[str, str],
    told: Object | None,
    last_lines: Callable[[str], str],
) -> PathoflowError:
    """Returns the user's error of a failed TrainJob; `Preempted` where another attempt will go on.

    Args:
        trainjob: A TrainJob that has failed.
        pods: Those of its pods that are left.
        lost: Nodes of the pods that were gone before the TrainJob failed, by the pods' names.
        gone: Nodes of all pods that ran and are gone: when one fails, those of the others are taken away.
        told: Report of the first failed node on the shared volume.
        last_lines: The last lines of a pod's log.
    """
    where = title(trainjob)
    failed = condition(trainjob, "Failed") or {}
    reason, message = failed.get("reason", ""), failed.get("message", "")
    if reason == "DeadlineExceeded":
        return past_deadline(trainjob)
    if reason == "TrainingRuntimeNotSupported":
        return ClusterError(f"{where} failed: {message}. Apply manifests/components/trainjobs.")
    if found := _out_of_memory(where, pods) or _disrupted(where, pods) or _gone(where, lost):
        return found
    # The pod of which words were left was the first; of the others, that which ended first.
    ended = sorted(
        (pod for pod in pods if _exit_code(pod)),
        key=lambda pod: (not _told_of(pod, told), _ended_at(pod), _exit_code(pod) in _RESUMABLE),
    )
    if ended:
        return _ended_badly(where, ended[0], told, last_lines)
    return (
        (told and _as_told(f"{where} failed", told))
        or _gone(where, gone)
        or StageError(f"{where} failed: {reason}: {message}. Its pods are gone; the cluster's events may tell more.")
    )


def _out_of_memory(where: str, pods: Sequence[Object]) -> PathoflowError | None:
    for pod in pods:
        if any(state.get("reason") == _OUT_OF_MEMORY for state in _endings(pod)):
            return StageError(
                f"{where} failed: pod {_name(pod)}{_on_node(pod)} ran out of memory (OOMKilled). Raise the recipe's "
                "compute.memory, or lower batch_size_per_process, pack_tokens or data_workers."
            )
    return None


def _disrupted(where: str, pods: Sequence[Object]) -> PathoflowError | None:
    for pod in pods:
        if disruption := _disruption(pod):
            return Preempted(_lost(where, pod, disruption))
    return None


def _gone(where: str, lost: Mapping[str, str]) -> PathoflowError | None:
    for pod_name, node in lost.items():
        return Preempted(
            f"{where} lost pod {pod_name} on node {node}: the pod is gone without having ended, as when its node is "
            f"deleted or not reachable. {_CONTINUES}"
        )
    return None


def past_deadline(trainjob: Object) -> PathoflowError:
    """Returns the error of a TrainJob that took too long, with its remedy."""
    limit_s = trainjob["spec"].get("activeDeadlineSeconds")
    return StageError(
        f"{title(trainjob)} took longer than its deadline of {limit_s} s and was ended. Raise the recipe's "
        "compute.deadline_s; a new run of this pipeline run's work directory continues from the last checkpoint."
    )


def _ended_badly(where: str, pod: Object, told: Object | None, last_lines: Callable[[str], str]) -> PathoflowError:
    code = _exit_code(pod)
    if code in _RESUMABLE and told is not None and told["exit_code"] == code:
        # A training that stood still says so.
        return _as_told(f"{where} ended itself in pod {told['pod']}", told)
    if code in _RESUMABLE:
        return Preempted(f"{where} was stopped on request, in pod {_name(pod)}{_on_node(pod)}. {_CONTINUES}")
    beginning = f"{where} failed in pod {_name(pod)}{_on_node(pod)}"
    if told is not None and _told_of(pod, told):
        return _as_told(beginning, told)
    for ended in _endings(pod):
        # A worker pod leaves its last words there, which need no kubelet to be read.
        if message := ended.get("message"):
            return error_of(code, f"{beginning}: {message}")
    words = last_lines(_name(pod)).strip() or "(nothing)"
    return error_of(code, f"{beginning}, which ended with exit code {code}{_signal(code)}. Its last lines:\n{words}")


def _as_told(beginning: str, told: Object) -> PathoflowError:
    return error_of(told["exit_code"], f"{beginning}: {told['message']}")


def _told_of(pod: Object, told: Object | None) -> bool:
    """Returns whether the report on the shared volume is about this pod."""
    # A Job's pod has a host name of its own, and the pod's name goes on with five letters.
    return told is not None and f"{_name(pod)}-".startswith(f"{told['pod']}-")


def started_at(trainjob: Object) -> float | None:
    """Returns when a TrainJob's deadline began to count, in seconds since the epoch; None while it is suspended."""
    if is_suspended(trainjob):
        return None
    resumed = [
        found["lastTransitionTime"]
        for found in trainjob.get("status", {}).get("conditions", ())
        if (found["type"], found["status"]) == ("Suspended", "False")
    ]
    return _seconds([trainjob["metadata"]["creationTimestamp"], *resumed][-1])


def running_on(pods: Sequence[Object]) -> dict[str, str]:
    """Returns the nodes of running pods, by the pods' names."""
    running = (pod for pod in pods if _phase(pod) == "Running" and not _is_unreachable(pod))
    return {_name(pod): pod["spec"].get("nodeName", "?") for pod in running}


def has_ended(pod: Object) -> bool:
    """Returns whether a pod, or its container, has ended."""
    return _phase(pod) in ("Succeeded", "Failed") or any(_endings(pod))


def _is_unreachable(pod: Object) -> bool:
    """Returns whether the cluster lost a running pod. Nothing else makes a pod without probes unready."""
    conditions = pod.get("status", {}).get("conditions", ())
    unready = any((found["type"], found["status"]) == ("Ready", "False") for found in conditions)
    runs = any("running" in container.get("state", {}) for container in _containers(pod))
    return unready and runs and _phase(pod) == "Running" and "deletionTimestamp" not in pod["metadata"]


def _disruption(pod: Object) -> str | None:
    status = pod.get("status", {})
    for found in status.get("conditions", ()):
        if found["type"] == "DisruptionTarget" and found["status"] == "True":
            return f"{found.get('reason', 'disrupted')}: {found.get('message', '')}".rstrip(": .")
    if _is_unreachable(pod):
        return _UNREACHABLE
    if status.get("reason") in _DISRUPTIONS:
        return f"{status['reason']}: {status.get('message', '')}".rstrip(": .")
    return None


def _seen_at(event: Object) -> float:
    """Returns when an event was last seen, in seconds since the epoch."""
    series = event.get("series") or {}
    told = (event.get("lastTimestamp"), series.get("lastObservedTime"), event.get("eventTime"))
    return _seconds(next(filter(None, told), event["metadata"]["creationTimestamp"]))


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()


def _endings(pod: Object) -> Iterator[Object]:
    for container in _containers(pod):
        for state in ("state", "lastState"):
            if ended := container.get(state, {}).get("terminated"):
                yield ended


def _exit_code(pod: Object) -> int:
    """Returns the exit code of a failed pod; 0 for any other."""
    if _phase(pod) not in ("Failed", "Running"):
        return 0
    return next((int(ended["exitCode"]) for ended in _endings(pod) if ended.get("exitCode")), 0)


def _ended_at(pod: Object) -> str:
    return min((ended.get("finishedAt") or "9" for ended in _endings(pod)), default="9")


def _containers(pod: Object) -> list[Object]:
    status = pod.get("status", {})
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _lost(where: str, pod: Object, why: str) -> str:
    return f"{where} lost pod {_name(pod)}{_on_node(pod)}: {why}. {_CONTINUES}"


def _on_node(pod: Object) -> str:
    node = pod.get("spec", {}).get("nodeName")
    return f" on node {node}" if node else ""


def _signal(code: int) -> str:
    try:
        return f" ({signal.Signals(code - 128).name})"
    except ValueError:
        return ""


def _name(pod: Object) -> str:
    return str(pod["metadata"]["name"])


def _phase(pod: Object) -> str:
    return str(pod.get("status", {}).get("phase", "Unknown"))
