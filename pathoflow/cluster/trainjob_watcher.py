"""Watches a TrainJob to its end, through lost connections, and inspects its pods from time to time."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kubernetes.client import ApiException
from urllib3.exceptions import ProtocolError, ReadTimeoutError

from pathoflow.cluster.api import explain
from pathoflow.cluster.api_retries import CANNOT_ANSWER, ApiRetries
from pathoflow.cluster.diagnosis import (
    Obstacle,
    condition,
    failure,
    has_ended,
    is_suspended,
    obstacle,
    past_deadline,
    progress,
    running_on,
    started_at,
    title,
)
from pathoflow.cluster.trainjob_client import Object, TrainJobClient
from pathoflow.cluster.trainjob_spec import ATTEMPT_ANNOTATION, TrainJobRequest, failure_file
from pathoflow.errors import ClusterError, PathoflowError, Preempted
from pathoflow.system.processes import raise_if_interrupted

# How often pods are looked at, by at most four requests.
_LOOK_S = 6.0
# A server that ends watches at once, or never remembers enough for one, is not to be asked ten times a second.
_SHORTEST_S = 2.0
_GONE = 410
_AWAY_S = 900.0
_DELETE_S = 15.0
_PROGRESS_S = 60.0
_LAST_LINES = 30
_DEADLINE_SLACK_S = 60.0


class TrainJobWatcher:
    """Watches one TrainJob.

    Args:
        trainjobs: Client of its namespace.
        trainjob: The TrainJob.
        request: Resources requested from the cluster.
        folder: The job's folder on the volume that all pods share.
        report: Directory of the stage's progress.
        retries: Retries while the server is unavailable.
        say: Prints one line for the user.
    """

    def __init__(
        self,
        trainjobs: TrainJobClient,
        trainjob: Object,
        request: TrainJobRequest,
        folder: Path,
        report: Path,
        retries: ApiRetries,
        say: Callable[[str], None],
    ) -> None:
        self._trainjobs = trainjobs
        self._trainjob = trainjob
        # From where a watch goes on; empty where the TrainJob must be read anew first.
        self._version = ""
        self._request = request
        self._folder = folder
        self._report = report
        self._retries = retries
        self._say = say
        self._reported: dict[str, str] = {}
        self._watch_at = self._look_at = 0.0
        self._progress_at = time.monotonic()
        self._obstacle, self._obstacle_since = "", 0.0
        # The nodes of pods that ran, and of those of them that were gone while the TrainJob was in order.
        self._ran: dict[str, str] = {}
        self._lost: dict[str, str] = {}

    def wait(self) -> None:
        """Returns once the TrainJob has succeeded.

        Raises:
            ClusterError: The cluster cannot run it, stays away, or somebody deleted it.
            Preempted: It was stopped on request, or lost a node.
            PathoflowError: It failed; the error is that of the node that failed first.
            KeyboardInterrupt: This process was told to stop.
        """
        while not self._is_over():
            raise_if_interrupted()
            try:
                self._follow()
                self._retries.end()
            except CANNOT_ANSWER as error:
                if isinstance(error, ApiException) and error.status == _GONE:
                    self._version = ""
                else:
                    self._retries.pause(error, f"follow {title(self._trainjob)}", _AWAY_S)

    @property
    def _name(self) -> str:
        return str(self._trainjob["metadata"]["name"])

    def _is_over(self) -> bool:
        if condition(self._trainjob, "Complete"):
            self._say(f"{title(self._trainjob)} succeeded.")
            return True
        if condition(self._trainjob, "Failed"):
            error = self._retries.call(self._failure, f"read the pods of {title(self._trainjob)}", for_s=_AWAY_S)
            if isinstance(error, Preempted):
                # The next attempt makes it anew. One that failed for good stays: who asks again gets the same answer.
                self._delete()
            raise error
        if "deletionTimestamp" in self._trainjob["metadata"]:
            raise self._deleted()
        return False

    def _follow(self) -> None:
        """Watches the TrainJob until it has ended or its pods are due for inspection."""
        time.sleep(max(0.0, self._watch_at - time.monotonic()))
        self._watch_at = time.monotonic() + _SHORTEST_S
        if not self._version:
            found, version = self._trainjobs.find(self._name)
            if found is None or found["metadata"]["uid"] != self._trainjob["metadata"]["uid"]:
                raise self._deleted()
            self._trainjob, self._version = found, version
            if self._needs_no_watch():
                return
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + _LOOK_S
            self._inspect_pods()
        self._relay_progress()
        self._watch(max(1, round(self._look_at - time.monotonic())))

    def _watch(self, for_s: int) -> None:
        """Watches the TrainJob for some seconds, until it has ended, or until the connection breaks."""
        try:
            for kind, trainjob in self._trainjobs.watch(self._name, self._version, for_s):
                self._version = trainjob["metadata"]["resourceVersion"]
                if kind == "BOOKMARK":
                    continue
                was_suspended, self._trainjob = is_suspended(self._trainjob), trainjob
                if self._needs_no_watch():
                    return
                if kind == "DELETED":
                    raise self._deleted()
                if was_suspended != is_suspended(trainjob):
                    self._look_at = 0.0
                    return
        except (ProtocolError, ReadTimeoutError):
            # As if it had ended; whether the server is there shows when it is asked again.
            return

    def _needs_no_watch(self) -> bool:
        ended = condition(self._trainjob, "Complete") or condition(self._trainjob, "Failed")
        return bool(ended) or "deletionTimestamp" in self._trainjob["metadata"]

    def _inspect_pods(self) -> None:
        """Inspects the pods, reports their progress, and ends a TrainJob that cannot run.

        Raises:
            ClusterError: Something holds the TrainJob up that waiting does not mend.
            Preempted: One of its nodes does not answer.
            StageError: It has taken too long.
        """
        pods = self._trainjobs.pods(self._name)
        self._track_nodes(pods)
        self._report_once("state", f"{title(self._trainjob)} {progress(self._trainjob, pods)}.")
        started = started_at(self._trainjob)
        limit_s = self._request.deadline_s
        if limit_s and started and time.time() - started > limit_s + _DEADLINE_SLACK_S:
            # Kubeflow Trainer should have ended it.
            self._delete()
            raise past_deadline(self._trainjob)
        warnings = self._trainjobs.warnings(self._name) if len(pods) < self._request.nodes else []
        self._check_obstacle(obstacle(self._trainjob, pods, warnings, self._request), pods)

    def _track_nodes(self, pods: list[Object]) -> None:
        """Remembers which pods ran, and which of them vanished before any ended: their nodes were lost."""
        if is_suspended(self._trainjob):
            # Kueue takes the pods away, and gives others when it is their turn again.
            self._ran, self._lost = {}, {}
            return
        if not any(has_ended(pod) for pod in pods):
            there = {pod["metadata"]["name"] for pod in pods}
            self._lost |= {pod: node for pod, node in self._ran.items() if pod not in there}
        self._ran |= running_on(pods)

    def _check_obstacle(self, found: Obstacle | None, pods: list[Object]) -> None:
        """Ends the TrainJob if an obstacle has lasted longer than its patience."""
        if found is None or found.key != self._obstacle:
            self._obstacle, self._obstacle_since = found.key if found else "", time.monotonic()
            return
        if time.monotonic() - self._obstacle_since < found.patience_s:
            self._report_once("obstacle", f"Waiting for up to {found.patience_s:.0f} s. {found.text}")
            return
        if found.key == "unschedulable" and self._is_scaling_up(pods):
            self._report_once("obstacle", f"{title(self._trainjob)} waits for a node that the autoscaler adds.")
            return
        self._delete()
        raise found.error(found.text)

    def _is_scaling_up(self, pods: list[Object]) -> bool:
        pending = [pod["metadata"]["name"] for pod in pods if pod["status"].get("phase") == "Pending"]
        reasons = {event.get("reason") for pod in pending[:1] for event in self._trainjobs.events(pod)}
        return "TriggeredScaleUp" in reasons

    def _failure(self) -> PathoflowError:
        pods = self._trainjobs.pods(self._name)
        there = {pod["metadata"]["name"] for pod in pods}
        gone = {pod: node for pod, node in self._ran.items() if pod not in there}
        return failure(self._trainjob, pods, self._lost, gone, self._node_report(), self._last_lines)

    def _node_report(self) -> Object | None:
        """Reads the report that the first failed node of this attempt left on the shared volume."""
        attempt = self._trainjob["metadata"].get("annotations", {}).get(ATTEMPT_ANNOTATION, "")
        try:
            told: Object = json.loads(failure_file(self._folder, attempt).read_bytes())
        except (OSError, ValueError):
            return None
        return told

    def _last_lines(self, pod: str) -> str:
        try:
            return self._trainjobs.log(pod, _LAST_LINES)
        except CANNOT_ANSWER as error:
            return f"(its log cannot be read: {explain(error, f'read the log of pod {pod}')})"

    def _delete(self) -> None:
        what = f"delete {title(self._trainjob)}"
        try:
            uid = self._trainjob["metadata"]["uid"]
            self._retries.call(lambda: self._trainjobs.delete(self._name, uid), what, for_s=_DELETE_S)
        except ClusterError as error:
            self._say(str(error))

    def _deleted(self) -> ClusterError:
        return ClusterError(
            f"{title(self._trainjob)} was deleted by somebody else: by hand, with its workflow, or by the exit handler."
            " Run the stage again: it continues from the last checkpoint."
        )

    def _relay_progress(self) -> None:
        """Reports the training's progress once a minute."""
        if time.monotonic() - self._progress_at < _PROGRESS_S:
            return
        self._progress_at = time.monotonic()
        with suppress(OSError, ValueError, KeyError):
            state = json.loads((self._report / "progress.json").read_bytes())
            shown = ", ".join(f"{name} {value}" for name, value in state["shown"].items())
            self._report_once("progress", f"{state['done']} of {state['total']} {state['unit']} ({shown}).")

    def _report_once(self, topic: str, text: str) -> None:
        """Reports a text unless it was the last one on its topic."""
        if self._reported.get(topic) != text:
            self._reported[topic] = text
            self._say(text)
