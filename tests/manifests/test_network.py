"""Who reaches whom: every flow that is needed passes at both ends, and nothing else does."""

from __future__ import annotations

import itertools

import pytest

from pathoflow.cluster.settings import EGRESS_LABEL
from tests.manifests.network import End, passes
from tests.manifests.pods import pipelines_of, pods_of, pods_of_pipeline
from tests.manifests.rendering import OVERLAYS, Object, parameters, rendered

INTERNET, PRIVATE, OTHER = "93.184.216.34", "192.168.7.7", "somewhere-else"
SHARED = {"local", "single-gpu", "openshift"}
WITH_TRAINJOBS = {"multi-node", "openshift"}


def policies_of(overlay: str) -> list[Object]:
    return [thing for thing in rendered(overlay) if thing["kind"] == "NetworkPolicy"]


def ends_of(overlay: str) -> dict[str, End]:
    """Every pod of ours by its component, and whom they deal with."""
    told = parameters(overlay)
    namespace, kfp = told["namespace"], told["kfp_namespace"]
    pods = pods_of(rendered(overlay)) + [pod for path in pipelines_of(overlay) for pod in pods_of_pipeline(path)]
    labels = [{key: pod.labels[key] for key in pod.labels if not key.startswith(EGRESS_LABEL)} for pod in pods]
    ends = {
        ("run" if pod.kind == "Run" else pod.component): End(kept, namespace)
        for pod, kept in zip(pods, labels, strict=True)
    }
    # What a recipe's stages declare, whatever the recipes that are kept for this overlay do.
    run = ends["run"].labels
    allowed = {kind: {f"{EGRESS_LABEL}{kind}": "allowed"} for kind in ("hub", "endpoint")}
    ends |= {f"run to {kind}": End(run | label, namespace) for kind, label in allowed.items()}
    openshift = overlay == "openshift"
    dns = End({"dns.operator.openshift.io/daemonset-dns": "default"}, "openshift-dns")
    return ends | {
        "kfp": End({"app": "ml-pipeline"}, kfp),
        "artifacts": End({"app": "seaweedfs"}, kfp),
        # Argo starts pods of runs for KFP's driver, too, with none of our labels.
        "driver": End({"workflows.argoproj.io/workflow": "run"}, namespace),
        "dns": dns if openshift else End({"k8s-app": "kube-dns"}, "kube-system"),
        "prometheus": End({"app": "prometheus"}, told["monitoring_namespace"]),
        "router": End({}, "openshift-ingress", "", {"policy-group.network.openshift.io/ingress": ""}),
        "store": End(address=told["object_store_cidr"].replace("0.0.0", "0.0.9").partition("/")[0]),
        "api": End(address=told["api_server_cidr"].replace("0.0", "0.9").partition("/")[0]),
        "hub": End(address=INTERNET),
        "intranet": End(address=PRIVATE),
        "stranger": End({"app": "x"}, OTHER),
    }


def needed(overlay: str) -> set[tuple[str, str, int]]:
    """Each flow that pathoflow needs on this cluster."""
    told = parameters(overlay)
    store = int(told["object_store"].rpartition(":")[2])
    dns = 5353 if overlay == "openshift" else 53
    runs = ("run", "run to hub", "run to endpoint", "driver")
    ours = [*runs, "mlflow", "postgres", "checkpoints"]
    flows = {(who, "mlflow", 5000) for who in (*runs, "kfp")} | {("mlflow", "postgres", 5432)}
    flows |= {("run to hub", "hub", 443), ("run to endpoint", "hub", 443)}
    for who in runs:
        flows |= {(who, "store", store), (who, "api", 443), (who, "api", 6443)}
        # KFP's services differ by port: how their pods are labelled is KFP's to change.
        flows |= set(itertools.product([who], ["kfp", "artifacts"], [8080, 8333, 8443, 8887, 8888, 9000]))
        flows |= {("prometheus", who, 9464)}
    flows |= {("mlflow", "store", store)}
    if overlay == "local":
        flows |= {("mlflow", "artifacts", 8333)}
    else:
        ours.append("backup")
        flows |= {("backup", "postgres", 5432), ("backup", "store", store)}
    if overlay in WITH_TRAINJOBS:
        ours += ["trainer", "rollout"]
        flows |= {("trainer", "hub", 443), ("prometheus", "trainer", 9464)}
    if overlay == "openshift":
        flows |= {("router", "mlflow", 5000)}
    return flows | {(who, "dns", dns) for who in ours}


PORTS = (53, 5353, 443, 5000, 5432, 6443, 8000, 8080, 8333, 8443, 8887, 8888, 9000, 9464, 12345)
# Both ends are KFP's own or outside: not ours to judge.
NOT_OURS = {"kfp", "artifacts", "dns", "prometheus", "router", "store", "api", "hub", "intranet", "stranger"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_exactly_the_flows_that_are_needed_pass(overlay: str) -> None:
    ends, policies, wanted = ends_of(overlay), policies_of(overlay), needed(overlay)
    trainers = {"trainer", "rollout"}
    wrong = []
    for source, target, port in itertools.product(ends, ends, PORTS):
        if {source, target} <= NOT_OURS:
            continue
        want = (source, target, port) in wanted
        # NCCL takes any port.
        want |= source in trainers and target in trainers and (source, target) != ("rollout", "rollout")
        # One range of addresses is what the object store and the API server may share.
        if target in ("store", "api") and _overlap(overlay):
            want |= any((source, other, port) in wanted for other in ("store", "api"))
        protocol = "UDP" if target == "dns" else "TCP"
        if passes(policies, ends[source], ends[target], port, protocol) != want:
            wrong.append((source, target, port, "should pass" if want else "should not pass"))
    assert wrong == []


def _overlap(overlay: str) -> bool:
    told = parameters(overlay)
    return told["object_store_cidr"] == told["api_server_cidr"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_other_pods_of_a_shared_namespace_are_left_alone(overlay: str) -> None:
    namespace, policies = parameters(overlay)["namespace"], policies_of(overlay)
    service = End({"app": "mysql"}, namespace)
    for there in (End({"app": "x"}, OTHER), End(address=INTERNET), End({"app": "y"}, namespace)):
        assert passes(policies, service, there, 3306) is (overlay in SHARED)
    # They come no nearer to what is ours by that.
    postgres = End(
        {"app.kubernetes.io/name": "pathoflow-postgres", "app.kubernetes.io/part-of": "pathoflow"}, namespace
    )
    assert not passes(policies, service, postgres, 5432)
