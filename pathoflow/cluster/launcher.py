"""Starts a TrainJob, or takes up an existing one, and watches it to its end.

`python -m pathoflow.cluster.launcher <pid of the stage> <launch file>` is a small process beside the stage's, which
holds all that a stage imports. It exits with the code of the error whose words it leaves in the outcome file.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from kubernetes.client import ApiException

from pathoflow.cluster.api import connect, explain
from pathoflow.cluster.api_retries import ApiRetries
from pathoflow.cluster.diagnosis import condition
from pathoflow.cluster.launch_request import LaunchRequest
from pathoflow.cluster.redaction import without_secrets
from pathoflow.cluster.trainjob_client import Object, TrainJobClient
from pathoflow.cluster.trainjob_spec import GROUP, IDENTITY_ANNOTATION, JOBSET_LABEL, VERSION, manifest
from pathoflow.cluster.trainjob_watcher import TrainJobWatcher
from pathoflow.errors import ClusterError, PathoflowError, Preempted
from pathoflow.system.files import write_atomically
from pathoflow.system.processes import die_with_parent, interrupt, raise_if_interrupted

TRAINJOB_FILE = "trainjob.yaml"
_EXISTS, _NOT_FOUND = 409, 404
_STOP_S = 10.0
# Beyond the pods' time for a checkpoint.
_EARLIER_S, _POLL_S = 90.0, 2.0


class Launcher:
    """Launches one TrainJob.

    Args:
        launch: The launch to run.
        trainjobs: Client of the namespace.
        say: Prints one line for the user.
    """

    def __init__(self, launch: LaunchRequest, trainjobs: TrainJobClient, say: Callable[[str], None]) -> None:
        self._launch = launch
        self._trainjobs = trainjobs
        self._say = say
        self._retries = ApiRetries(say)
        self._manifest: Object = {}

    def run(self) -> None:
        """Returns once the TrainJob has succeeded, see `TrainJobWatcher.wait` for the errors."""
        owner = self._retries.call(self._owner, "read this pod")
        self._manifest = manifest(self._launch.request, self._launch.work, owner, uuid.uuid4().hex[:12])
        trainjob = self._create_or_take_up()
        self._keep(trainjob)
        TrainJobWatcher(
            self._trainjobs,
            trainjob,
            self._launch.request,
            Path(self._launch.work.job_file).parent,
            self._launch.report,
            self._retries,
            self._say,
        ).wait()

    def stop(self) -> str:
        """Deletes the TrainJob, whose pods then write a checkpoint; returns what became of it, in words."""
        if not self._manifest:
            return "Stopped on request before there was a TrainJob."
        try:
            # The patience for this run may have been used up by a server that is away.
            ApiRetries(self._say).call(
                lambda: self._trainjobs.delete(self._name), f"delete {self._title}", for_s=_STOP_S
            )
        except ClusterError as error:
            return f"Stopped on request, but {self._title} goes on. {error} Run the stage again to take it up."
        return (
            f"Stopped on request and deleted {self._title}, whose pods have {self._launch.work.grace_s} s to write a "
            "checkpoint. Run the stage again to continue."
        )

    @property
    def _name(self) -> str:
        return str(self._manifest["metadata"]["name"])

    @property
    def _title(self) -> str:
        return f"TrainJob {self._launch.request.namespace}/{self._name}"

    def _create_or_take_up(self) -> Object:
        deadline = time.monotonic() + self._launch.work.grace_s + _EARLIER_S
        told = False
        while True:
            raise_if_interrupted()
            if made := self._created():
                self._say(f"Created {self._title} on {self._launch.request.nodes} nodes.")
                return made
            found, _ = self._retries.call(lambda: self._trainjobs.find(self._name), f"read {self._title}")
            if found and "deletionTimestamp" not in found["metadata"]:
                return self._taken_up(found)
            if time.monotonic() > deadline:
                place = f"kubectl -n {self._launch.request.namespace}"
                raise ClusterError(
                    f"{self._title} of an earlier attempt was deleted and does not go. If a node of its pods is gone, "
                    f"delete them: {place} delete pod --force --selector {JOBSET_LABEL}={self._name}. Else look at its "
                    f"finalizers: {place} get trainjob {self._name} -o yaml"
                )
            if found and not told:
                self._say(f"Waiting for the pods of an earlier {self._title} to end.")
                told = True
            time.sleep(_POLL_S)

    def _created(self) -> Object | None:
        """Creates the TrainJob and returns it as the API server has it; None if there is one already."""
        try:
            made = self._retries.call(
                lambda: self._trainjobs.create(self._manifest), f"create {self._title}", expected=(_EXISTS, _NOT_FOUND)
            )
        except ApiException as error:
            if error.status == _EXISTS:
                return None
            raise self._unknown_kind(error) from error
        if "runtimePatches" not in made["spec"]:
            # An API server drops what it does not know, without a word.
            self._retries.call(lambda: self._trainjobs.delete(self._name), f"delete {self._title}")
            raise ClusterError(
                f"{self._title} lost its runtimePatches: the cluster's Kubeflow Trainer is older than 2.2. Upgrade it; "
                "see `pathoflow doctor`."
            )
        return made

    def _unknown_kind(self, error: ApiException) -> ClusterError:
        explained = explain(error, f"create {self._title}")
        versions = self._retries.call(self._trainjobs.served_versions, f"list the versions of {GROUP}")
        if versions and VERSION not in versions:
            return ClusterError(
                f"{explained} It serves {GROUP} in {', '.join(versions)}, and this pathoflow speaks {VERSION}: install "
                "a Kubeflow Trainer that serves it, or a pathoflow for that version."
            )
        return explained

    def _taken_up(self, found: Object) -> Object:
        wanted = self._manifest["metadata"]["annotations"][IDENTITY_ANNOTATION]
        if found["metadata"].get("annotations", {}).get(IDENTITY_ANNOTATION) != wanted:
            raise ClusterError(
                f"{self._title} is there already and is not what this stage wants. Delete it and run the stage again: "
                f"kubectl -n {self._launch.request.namespace} delete trainjob {self._name}"
            )
        again = " It has failed: delete it to have another try." if condition(found, "Failed") else ""
        self._say(f"Took up {self._title}, which was there.{again}")
        return found

    def _owner(self) -> Object | None:
        """Returns an owner reference to this pod's workflow, with which the TrainJob is deleted."""
        pod = os.environ.get("KFP_POD_NAME")
        if not pod:
            return None
        references: list[Object] = []
        with _ignored(403, _NOT_FOUND):
            references = self._trainjobs.pod(pod)["metadata"].get("ownerReferences", [])
        for reference in references:
            if reference["kind"] == "Workflow":
                return {name: reference[name] for name in ("apiVersion", "kind", "name", "uid")}
        self._say(f"No workflow found that pod {pod} belongs to: the TrainJob will not be deleted with it.")
        return None

    def _keep(self, trainjob: Object) -> None:
        """Writes the TrainJob to a file, for the record."""
        folder = self._launch.report / "attachments"
        folder.mkdir(parents=True, exist_ok=True)
        kept = {key: trainjob[key] for key in ("apiVersion", "kind", "metadata", "spec")}
        kept["metadata"] = {key: value for key, value in kept["metadata"].items() if key != "managedFields"}
        write_atomically(folder / TRAINJOB_FILE, yaml.safe_dump(kept, sort_keys=False))


class _ignored(suppress):  # noqa: N801
    """Suppresses API errors with these status codes."""

    def __init__(self, *codes: int) -> None:
        super().__init__(ApiException)
        self._codes = codes

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> bool:
        return isinstance(error, ApiException) and error.status in self._codes


def _say(line: str) -> None:
    print(without_secrets(line), file=sys.stderr, flush=True)


def _ask_to_stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    interrupt(number, frame)


def main(launch: LaunchRequest) -> int:
    """Runs a launch and returns its exit code."""
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    launch.outcome.unlink(missing_ok=True)
    launcher: Launcher | None = None
    try:
        launcher = Launcher(launch, TrainJobClient(connect(retries=0), launch.request.namespace), _say)
        launcher.run()
    except KeyboardInterrupt:
        words = launcher.stop() if launcher else "Stopped on request before there was a TrainJob."
        code = Preempted.exit_code
        _say(words)
    except PathoflowError as error:
        words, code = str(error), error.exit_code
    else:
        return 0
    # What pods, events and logs say passes here, or through `_say`, and nowhere else.
    write_atomically(launch.outcome, without_secrets(words))
    return code


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _ask_to_stop)
    exit_code = Preempted.exit_code
    with suppress(KeyboardInterrupt):
        die_with_parent(int(sys.argv[1]))
        exit_code = main(LaunchRequest.load(Path(sys.argv[2])))
    # To take the interpreter apart takes a second, for which the stage would wait.
    os._exit(exit_code)
