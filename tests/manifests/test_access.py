"""The shipped Role on a real API server: what the runner's own token may do, and what it may not."""

from __future__ import annotations

import pytest
from kubernetes import client, watch

from pathoflow.cluster.settings import RUNNER_ACCOUNT, TRAINER_ACCOUNT
from pathoflow.cluster.trainjob_spec import GROUP, PLURAL, VERSION
from tests.manifests.rendering import shipped
from tests.support.kube import api, kubeconfig, namespace, new_namespace, token_of, trainer_crds, wait_until

__all__ = ["api", "kubeconfig", "namespace", "trainer_crds"]

pytestmark = pytest.mark.cluster

TRAINJOB = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "TrainJob", "metadata": {"name": "cpt"}, "spec": {}}
ALLOWED = [
    ("create get list watch delete", GROUP, PLURAL, ""),
    ("create patch", "argoproj.io", "workflowtaskresults", ""),
    ("get list watch", "", "pods", ""),
    ("get", "", "pods/log", ""),
    ("list", "", "events", ""),
    ("get", "", "configmaps", "kfp-launcher"),
    ("get", "", "secrets", "mlpipeline-minio-artifact"),
]
FORBIDDEN = [
    ("update patch deletecollection", GROUP, PLURAL, ""),
    ("create update", GROUP, "trainingruntimes", ""),
    ("list watch", "", "secrets", ""),
    ("get", "", "secrets", "pathoflow-mlflow-server"),
    ("get", "", "secrets", "pathoflow-postgres"),
    ("update patch", "", "secrets", "mlpipeline-minio-artifact"),
    ("get list", "", "configmaps", "pathoflow-parameters"),
    ("create update patch delete", "", "pods", ""),
    ("create", "", "pods/exec", ""),
    ("create", "", "serviceaccounts/token", ""),
    ("create", "", "persistentvolumeclaims", ""),
    ("create", "batch", "jobs", ""),
    ("create patch", "apps", "deployments", ""),
    ("create get patch delete", "argoproj.io", "workflows", ""),
    ("create bind escalate", "rbac.authorization.k8s.io", "roles", ""),
    ("impersonate", "", "serviceaccounts", ""),
]


def client_of(api: client.ApiClient, namespace: str, account: str) -> client.ApiClient:
    """A client with a token of a service account."""
    settings = client.Configuration()
    settings.host, settings.ssl_ca_cert = api.configuration.host, api.configuration.ssl_ca_cert
    settings.api_key["authorization"] = f"Bearer {token_of(api, namespace, account)}"
    return client.ApiClient(settings)


def may(api: client.ApiClient, verb: str, group: str, resource: str, name: str, namespace: str) -> bool:
    resource, _, sub = resource.partition("/")
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": resource, "name": name}
    attributes |= {"subresource": sub} if sub else {}
    review = client.AuthorizationV1Api(api).create_self_subject_access_review(
        {"spec": {"resourceAttributes": attributes}}
    )
    return bool(review.status.allowed)


@pytest.fixture(scope="module")
def runner(api: client.ApiClient, namespace: str, trainer_crds: None) -> client.ApiClient:
    """The runner, before it has any right."""
    for account in (RUNNER_ACCOUNT, TRAINER_ACCOUNT):
        client.CoreV1Api(api).create_namespaced_service_account(
            namespace, shipped("ServiceAccount", account, namespace)
        )
    return client_of(api, namespace, RUNNER_ACCOUNT)


@pytest.fixture(scope="module")
def before(runner: client.ApiClient, namespace: str) -> int:
    """The status with which a TrainJob is refused without the Role."""
    with pytest.raises(client.ApiException) as refused:
        client.CustomObjectsApi(runner).create_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL, TRAINJOB)
    return int(refused.value.status)


@pytest.fixture(scope="module")
def permitted(before: int, api: client.ApiClient, runner: client.ApiClient, namespace: str) -> client.ApiClient:
    """The runner with the shipped Role."""
    rights = client.RbacAuthorizationV1Api(api)
    rights.create_namespaced_role(namespace, shipped("Role", RUNNER_ACCOUNT, namespace))
    rights.create_namespaced_role_binding(namespace, shipped("RoleBinding", RUNNER_ACCOUNT, namespace))
    # The API server learns of new rights by a watch of its own.
    wait_until(lambda: may(runner, "create", GROUP, PLURAL, "", namespace))
    return runner


def test_without_the_role_there_is_no_trainjob(before: int) -> None:
    assert before == 403


def test_with_the_role_it_makes_watches_and_deletes_one(permitted: client.ApiClient, namespace: str) -> None:
    custom = client.CustomObjectsApi(permitted)
    place = (GROUP, VERSION, namespace, PLURAL)
    custom.create_namespaced_custom_object(*place, TRAINJOB)
    assert [item["metadata"]["name"] for item in custom.list_namespaced_custom_object(*place)["items"]] == ["cpt"]
    stream = watch.Watch().stream(custom.list_namespaced_custom_object, *place, timeout_seconds=20)
    assert next(iter(stream))["object"]["metadata"]["name"] == "cpt"
    custom.delete_namespaced_custom_object(*place, "cpt")


def test_it_may_do_what_its_tasks_need(permitted: client.ApiClient, namespace: str) -> None:
    refused = [
        (verb, *what)
        for verbs, *what in ALLOWED
        for verb in verbs.split()
        if not may(permitted, verb, *what, namespace)
    ]
    assert refused == []


def test_it_may_do_nothing_else(permitted: client.ApiClient, namespace: str) -> None:
    granted = [
        (verb, *what) for verbs, *what in FORBIDDEN for verb in verbs.split() if may(permitted, verb, *what, namespace)
    ]
    assert granted == []


def test_it_may_do_nothing_elsewhere(permitted: client.ApiClient, api: client.ApiClient) -> None:
    with new_namespace(api) as other:
        everything = [(verb, *what) for verbs, *what in ALLOWED for verb in verbs.split()]
        assert [what for what in everything if may(permitted, *what, other)] == []
        with pytest.raises(client.ApiException) as refused:
            client.CustomObjectsApi(permitted).create_namespaced_custom_object(GROUP, VERSION, other, PLURAL, TRAINJOB)
        assert refused.value.status == 403


def test_it_reads_no_secret_but_the_key_of_the_artifacts(
    permitted: client.ApiClient, api: client.ApiClient, namespace: str
) -> None:
    core = client.CoreV1Api(api)
    for name in ("mlpipeline-minio-artifact", "pathoflow-mlflow-server"):
        core.create_namespaced_secret(namespace, {"metadata": {"name": name}, "stringData": {"key": "value"}})
    own = client.CoreV1Api(permitted)
    assert own.read_namespaced_secret("mlpipeline-minio-artifact", namespace).data
    for read in (
        lambda: own.read_namespaced_secret("pathoflow-mlflow-server", namespace),
        lambda: own.list_namespaced_secret(namespace),
    ):
        with pytest.raises(client.ApiException) as refused:
            read()
        assert refused.value.status == 403


def test_a_trainer_may_do_nothing(permitted: client.ApiClient, api: client.ApiClient, namespace: str) -> None:
    trainer = client_of(api, namespace, TRAINER_ACCOUNT)
    everything = [(verb, *what) for verbs, *what in ALLOWED + FORBIDDEN for verb in verbs.split()]
    assert [what for what in everything if may(trainer, *what, namespace)] == []
