"""Reads and writes TrainJobs, their pods, events and logs: plain dictionaries, little memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kubernetes import client, watch

from pathoflow.cluster.trainjob_spec import GROUP, JOBSET_LABEL, PLURAL, VERSION, WORKER_JOB

_CONNECT_S, _READ_S = 5, 10
_NOT_FOUND, _CONFLICT = 404, 409

Object = dict[str, Any]


class TrainJobClient:
    """Client for the TrainJobs of one namespace.

    Args:
        api: Client of the API server.
        namespace: Their namespace.
    """

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self._api = api
        self._custom = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)
        self._place = (GROUP, VERSION, namespace, PLURAL)
        self._namespace = namespace
        self._limits = {"_request_timeout": (_CONNECT_S, _READ_S)}

    def create(self, manifest: Object) -> Object:
        """Creates a TrainJob and returns it as the API server has it."""
        made: Object = self._custom.create_namespaced_custom_object(*self._place, manifest, **self._limits)
        return made

    def find(self, name: str) -> tuple[Object | None, str]:
        """Returns the TrainJob, or None if there is none, and the resource version to watch it from.

        The version is the whole list's: the TrainJob's own may be older than all that the server remembers.
        """
        found = self._custom.list_namespaced_custom_object(*self._place, field_selector=_named(name), **self._limits)
        # Items of a list do not repeat of what kind they are.
        items = [{"apiVersion": f"{GROUP}/{VERSION}", "kind": "TrainJob"} | item for item in found["items"]]
        return next(iter(items), None), str(found["metadata"]["resourceVersion"])

    def delete(self, name: str, uid: str | None = None) -> None:
        """Deletes a TrainJob, which stays until its pods have ended: they may be writing a checkpoint.

        Args:
            name: Its name.
            uid: Delete only the TrainJob with this uid, not a later one of the same name.
        """
        options: Object = {"propagationPolicy": "Foreground"}
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            self._custom.delete_namespaced_custom_object(*self._place, name, body=options, **self._limits)
        except client.ApiException as error:
            # A kind that is missing is no TrainJob that is.
            is_missing = error.status == _NOT_FOUND and name in str(error.body)
            if not is_missing and not (uid and error.status == _CONFLICT):
                raise

    def watch(self, name: str, version: str, for_s: int) -> Iterator[tuple[str, Object]]:
        """Yields changes of a TrainJob since a resource version: `MODIFIED`, `DELETED`, `BOOKMARK` and the object.

        Raises:
            ApiException: With status 410, that the version is too old.
        """
        events = watch.Watch().stream(
            self._custom.list_namespaced_custom_object,
            *self._place,
            field_selector=_named(name),
            resource_version=version,
            allow_watch_bookmarks=True,
            timeout_seconds=for_s,
            # A connection that is dead without a word is noticed soon after the watch should have ended.
            _request_timeout=(_CONNECT_S, for_s + _CONNECT_S),
        )
        for event in events:
            yield event["type"], event["raw_object"]

    def pods(self, name: str) -> list[Object]:
        """Returns the pods of a TrainJob."""
        answer = self._core.list_namespaced_pod(
            self._namespace, label_selector=f"{JOBSET_LABEL}={name}", _preload_content=False, **self._limits
        )
        return list(json.loads(answer.data)["items"])

    def warnings(self, name: str) -> list[Object]:
        """Returns the warnings about a TrainJob, its JobSet, which bears its name, and the Job of its workers."""
        return [
            event
            for involved in (name, f"{name}-{WORKER_JOB}-0")
            for event in self.events(involved)
            if event.get("type") == "Warning"
        ]

    def events(self, involved: str) -> list[Object]:
        """Returns the events of the objects with a name."""
        answer = self._core.list_namespaced_event(
            self._namespace, field_selector=f"involvedObject.name={involved}", _preload_content=False, **self._limits
        )
        return list(json.loads(answer.data)["items"])

    def log(self, pod: str, lines: int) -> str:
        """Returns the last lines of a pod's worker."""
        answer = self._core.read_namespaced_pod_log(
            pod, self._namespace, container=WORKER_JOB, tail_lines=lines, _preload_content=False, **self._limits
        )
        return str(answer.data.decode(errors="replace"))

    def pod(self, name: str) -> Object:
        """Returns a pod of the namespace."""
        answer = self._core.read_namespaced_pod(name, self._namespace, _preload_content=False, **self._limits)
        found: Object = json.loads(answer.data)
        return found

    def served_versions(self) -> list[str]:
        """Returns the versions of Kubeflow Trainer's API that the cluster serves; empty where it is not installed."""
        groups = client.ApisApi(self._api).get_api_versions(**self._limits).groups
        return [version.version for group in groups if group.name == GROUP for version in group.versions]


def _named(name: str) -> str:
    return f"metadata.name={name}"
