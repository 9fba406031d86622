"""A real API server takes what each overlay renders, in a dry run."""

from __future__ import annotations

from pathlib import Path

import pytest
from kubernetes import client
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import ResourceNotFoundError

from tests.manifests.rendering import OVERLAYS, name_of, render_with

pytestmark = pytest.mark.cluster

# A server knows these only with an operator, or from a version on: PodDisruptionBudget and CronJob in these versions
# came with 1.21.
MAY_BE_UNKNOWN = {
    "policy/v1 PodDisruptionBudget",
    "batch/v1 CronJob",
    "kueue.x-k8s.io/v1beta2 ResourceFlavor",
    "kueue.x-k8s.io/v1beta2 ClusterQueue",
    "kueue.x-k8s.io/v1beta2 LocalQueue",
    "kueue.x-k8s.io/v1beta2 WorkloadPriorityClass",
    "route.openshift.io/v1 Route",
    "monitoring.coreos.com/v1 PodMonitor",
    "monitoring.coreos.com/v1 ServiceMonitor",
    "monitoring.coreos.com/v1 PrometheusRule",
}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_server_takes_it(
    overlay: str, api: client.ApiClient, namespace: str, trainer_crds: None, tmp_path: Path
) -> None:
    server = DynamicClient(api, cache_file=str(tmp_path / "discovery.json"))
    taken, unknown = [], set()
    for thing in render_with(overlay, {"namespace": namespace}, tmp_path / "manifests"):
        try:
            resource = server.resources.get(api_version=thing["apiVersion"], kind=thing["kind"])
        except ResourceNotFoundError:
            unknown.add(f"{thing['apiVersion']} {thing['kind']}")
            continue
        # The namespace of the test is there already.
        where = {"namespace": namespace} if thing["kind"] != "Namespace" else {}
        body = thing if where else thing | {"metadata": thing["metadata"] | {"name": f"{namespace}-new"}}
        made = resource.create(body=body, query_params=[("dryRun", "All")], **where)
        assert made.metadata.name == body["metadata"]["name"]
        taken.append(name_of(thing))
    assert unknown <= MAY_BE_UNKNOWN
    assert {"Deployment/pathoflow-mlflow", "StatefulSet/pathoflow-postgres", "Role/pathoflow-runner"} <= set(taken)
    print(f"{overlay}: {len(taken)} taken; unknown to this server: {', '.join(sorted(unknown)) or 'none'}")
