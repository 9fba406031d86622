"""Cleans up after a run on a cluster, however it ended, and reports its end."""

from __future__ import annotations

import re
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubernetes import client
from urllib3.exceptions import HTTPError

from pathoflow.cluster.api import explain
from pathoflow.cluster.settings import COMPONENT_LABEL, KFP_RUN_LABEL, PART_OF, PART_OF_LABEL
from pathoflow.cluster.trainjob_spec import GROUP, PLURAL, RUN_LABEL, VERSION, label_value
from pathoflow.errors import ClusterError

FINISH = "finish"
"""Component label of the pod that cleans up."""
_STALE_S = 30 * 86_400
_TIMEOUT_S = 30
_RUN_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Argo's name of a pod's node, and the number of the attempt at its end.
_NODE_NAME = "workflows.argoproj.io/node-name"
_ATTEMPT = re.compile(r"\(\d+\)$")
_REMEDIES = {
    "OOMKilled": "It took more memory than compute.memory allows: raise that, or lower batch size or workers.",
    "Evicted": "Its node ran short of memory or disk. Retry the run: it goes on from the last checkpoint.",
    "DeadlineExceeded": "It took longer than compute.deadline_s: raise that, and retry the run.",
    "ImagePullBackOff": "Check the image's digest in the overlay, and the pull secret.",
    "ErrImagePull": "Check the image's digest in the overlay, and the pull secret.",
    "Unschedulable": "No node fits: see `pathoflow doctor --cluster … --recipe …`.",
}


@dataclass(frozen=True)
class Failure:
    """Failed pod of a stage.

    Attributes:
        stage: The stage.
        pod: The pod's name.
        reason: Kubernetes's reason.
        message: Message of the stage, or else of Kubernetes.
        attempts: Number of pods that tried it.
    """

    stage: str
    pod: str
    reason: str
    message: str
    attempts: int = 1


@dataclass
class CleanupReport:
    """Record of what was removed, and of what could not be."""

    trainjobs: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    freed_bytes: int = 0
    faults: list[str] = field(default_factory=list)


def delete_trainjobs(api: client.ApiClient, namespace: str, run_id: str, cleaning: CleanupReport) -> None:
    """Deletes the TrainJobs that a run left behind, with their pods."""
    custom = client.CustomObjectsApi(api)
    what = f"{GROUP}/{VERSION} in {namespace}"
    try:
        found = custom.list_namespaced_custom_object(
            GROUP,
            VERSION,
            namespace,
            PLURAL,
            label_selector=f"{RUN_LABEL}={label_value(run_id)}",
            _request_timeout=_TIMEOUT_S,
        )
        for item in found["items"]:
            name = item["metadata"]["name"]
            what = f"TrainJob {namespace}/{name}"
            custom.delete_namespaced_custom_object(
                GROUP,
                VERSION,
                namespace,
                PLURAL,
                name,
                propagation_policy="Background",
                _request_timeout=_TIMEOUT_S,
            )
            cleaning.trainjobs.append(name)
    except (client.ApiException, HTTPError) as error:
        # A cluster without Kubeflow Trainer has none of them.
        if getattr(error, "status", None) != 404:
            cleaning.faults.append(str(explain(error, f"delete {what}")))


def active_runs(api: client.ApiClient, namespace: str) -> set[str]:
    """Returns the ids of the runs that still have unfinished pods."""
    pods = client.CoreV1Api(api).list_namespaced_pod(
        namespace,
        label_selector=f"{KFP_RUN_LABEL},{PART_OF_LABEL}={PART_OF}",
        field_selector="status.phase!=Succeeded,status.phase!=Failed",
        _request_timeout=_TIMEOUT_S,
    )
    return {pod.metadata.labels[KFP_RUN_LABEL] for pod in pods.items}


def remove_scratch(
    checkpoints: Path, run_id: str, at_work: set[str], cleaning: CleanupReport, *, succeeded: bool
) -> None:
    """Removes scratch that no run resumes from.

    A run that succeeded has published its outputs: its folder is deleted. A failed one keeps outputs and checkpoints,
    so that a retry of the same run resumes, and loses downloads and unfinished outputs. Folders of other runs are
    deleted when nothing in them changed for 30 days and the run has no pod left.

    Args:
        checkpoints: The volume; each run has a folder there, named by its id.
        run_id: The run that ended.
        at_work: Runs that have not ended.
        cleaning: Records what was removed.
        succeeded: Whether the run did.
    """
    if not checkpoints.is_dir():
        return
    own = checkpoints / run_id
    doomed = []
    if succeeded and own.is_dir() and _RUN_ID.fullmatch(run_id):
        doomed.append(own)
    elif own.is_dir():
        doomed += [path for name in ("fetched", "staging") for path in own.glob(f"*/.pathoflow/{name}")]
    for folder in checkpoints.iterdir():
        other = folder.is_dir() and _RUN_ID.fullmatch(folder.name) and folder.name not in at_work | {run_id}
        if other and time.time() - _last_touched(folder) > _STALE_S:
            doomed.append(folder)
    for folder in doomed:
        size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
        try:
            shutil.rmtree(folder)
        except OSError as error:
            cleaning.faults.append(f"Could not remove {folder}: {error}.")
        else:
            cleaning.folders.append(str(folder.relative_to(checkpoints)))
            cleaning.freed_bytes += size


def _last_touched(folder: Path) -> float:
    newest = folder.stat().st_mtime
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            newest = max(newest, path.lstat().st_mtime)
    return newest


def failures_of(api: client.ApiClient, namespace: str, run_id: str) -> list[Failure]:
    """Returns the stages whose last pod failed or cannot start, in the order of their failures.

    Raises:
        ClusterError: The pods cannot be listed.
    """
    try:
        pods = client.CoreV1Api(api).list_namespaced_pod(
            namespace,
            label_selector=f"{KFP_RUN_LABEL}={run_id},{PART_OF_LABEL}={PART_OF}",
            _request_timeout=_TIMEOUT_S,
        )
    except (client.ApiException, HTTPError) as error:
        raise explain(error, f"list the pods of run {run_id} in {namespace}") from error
    attempts: dict[str, list[Any]] = {}
    for pod in sorted(pods.items, key=lambda pod: (pod.metadata.creation_timestamp, pod.metadata.name)):
        node = (pod.metadata.annotations or {}).get(_NODE_NAME, pod.metadata.labels.get(COMPONENT_LABEL, ""))
        attempts.setdefault(_ATTEMPT.sub("", node), []).append(pod)
    found = [failure for tried in attempts.values() if (failure := _failure(tried[-1], len(tried)))]
    return [failure for failure in found if failure.stage != FINISH]


def _failure(pod: Any, attempts: int) -> Failure | None:
    reason, message = _end_of(pod)
    if not reason:
        return None
    stage = pod.metadata.labels.get(COMPONENT_LABEL, "?")
    return Failure(stage, pod.metadata.name, reason, message, attempts)


def _end_of(pod: Any) -> tuple[str, str]:
    """Returns why a pod failed or cannot start: Kubernetes's reason and the message; both empty for any other pod."""
    status = pod.status
    containers = sorted(status.container_statuses or [], key=lambda container: container.name != "main")
    if status.phase == "Failed":
        for container in containers:
            ended = container.state.terminated
            if ended and ended.exit_code:
                reason = status.reason or ended.reason or "Error"
                return reason, (ended.message or status.message or f"Exit code {ended.exit_code}.").strip()
        return status.reason or "Failed", (status.message or "").strip()
    if status.phase == "Pending":
        for container in [*(status.init_container_statuses or []), *containers]:
            waiting = container.state.waiting
            if waiting and waiting.reason in _REMEDIES:
                return waiting.reason, (waiting.message or "").strip()
        for condition in status.conditions or []:
            if condition.type == "PodScheduled" and condition.status == "False":
                return condition.reason or "Unschedulable", (condition.message or "").strip()
    return "", ""


def describe_end(
    recipe: str,
    run_id: str,
    namespace: str,
    state: str,
    failures: list[Failure],
    cleaning: CleanupReport,
    told: str = "",
) -> str:
    """Describes a run's end in Markdown: the stage that failed, why, what to do, where to look, what was removed.

    Args:
        recipe: The recipe's name.
        run_id: The run's id.
        namespace: Where its pods are.
        state: The run's final state in Kubeflow Pipelines.
        failures: From `failures_of`.
        cleaning: The report of the clean-up.
        told: Kubeflow Pipelines' message about the end.
    """
    when = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    lines = [f"# {recipe}: {state.lower() or 'ended'}", "", f"Run {run_id}, {when}."]
    for failure in failures:
        tries = f" in {failure.attempts} attempts" if failure.attempts > 1 else ""
        lines += ["", f"## {failure.stage} failed{tries}: {failure.reason}", ""]
        if failure.message:
            lines += ["```", failure.message, "```", ""]
        if remedy := _REMEDIES.get(failure.reason):
            lines += [remedy, ""]
        lines += [f"Its log: `kubectl logs --namespace {namespace} {failure.pod} --container main`"]
    if not failures and state != "SUCCEEDED":
        lines += ["", told or "No pod of a stage failed: look at the run's drivers and at its workflow."]
    if state != "SUCCEEDED":
        lines += [
            "",
            "Mend the cause and retry this run in Kubeflow Pipelines: finished stages are kept, and training "
            "goes on from its last complete checkpoint.",
        ]
    lines += ["", "## Cleaned up", ""]
    lines += [f"- TrainJobs deleted: {', '.join(cleaning.trainjobs) or 'none'}"]
    lines += [f"- folders removed: {', '.join(cleaning.folders) or 'none'} ({cleaning.freed_bytes / 1e9:.1f} GB)"]
    lines += [f"- {fault}" for fault in cleaning.faults]
    return "\n".join(lines) + "\n"


def clean_up(
    api: client.ApiClient,
    namespace: str,
    recipe: str,
    run_id: str,
    state: str,
    checkpoints: Path,
    report: Path,
    told: str = "",
) -> None:
    """Cleans up after a run, and writes and prints its report.

    Args:
        api: A client with the rights of the pipeline's account.
        namespace: Where the run's pods and TrainJobs are.
        recipe: The recipe's name.
        run_id: The run's id.
        state: `SUCCEEDED`, `FAILED` or `CANCELLED`; empty where Kubeflow Pipelines did not say.
        checkpoints: The volume with the runs' scratch.
        report: Gets the report.
        told: Kubeflow Pipelines' message about the end.

    Raises:
        ClusterError: Something could not be cleaned up; the report was written all the same.
    """
    cleaning = CleanupReport()
    failures: list[Failure] = []
    try:
        failures = failures_of(api, namespace, run_id)
    except ClusterError as error:
        cleaning.faults.append(str(error))
    succeeded = state in ("SUCCEEDED", "COMPLETE") and not failures
    state = "SUCCEEDED" if succeeded else (state if state not in ("", "SUCCEEDED", "COMPLETE") else "FAILED")
    delete_trainjobs(api, namespace, run_id, cleaning)
    try:
        at_work = active_runs(api, namespace)
    except (client.ApiException, HTTPError) as error:
        cleaning.faults.append(str(explain(error, f"list the pods in {namespace}")))
    else:
        remove_scratch(checkpoints, run_id, at_work, cleaning, succeeded=succeeded)
    text = describe_end(recipe, run_id, namespace, state, failures, cleaning, told)
    print(text)
    report.write_text(text)
    if cleaning.faults:
        raise ClusterError(f"Not all could be cleaned up after run {run_id}: {' '.join(cleaning.faults)}")
