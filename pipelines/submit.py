"""Starts a recipe's run at a Kubeflow Pipelines API server."""

from __future__ import annotations

import json
import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kfp_server_api as kfp_api
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2
from urllib3.exceptions import HTTPError, MaxRetryError, SSLError

from pathoflow.cluster.settings import RUNNER_ACCOUNT, Cluster
from pathoflow.contract.recipe import Recipe
from pathoflow.errors import ClusterError, ConfigError
from pipelines.compile import compile_recipe

TOKEN = "KFP_TOKEN"
CA_CERT = "KFP_CA_CERT"
# First the token that is made for Kubeflow Pipelines, which a PodDefault mounts, then the account's own.
_TOKEN_FILES = (
    Path("/var/run/secrets/kubeflow/pipelines/token"),
    Path("/var/run/secrets/kubernetes.io/serviceaccount/token"),
)
_TIMEOUT_S = (10, 60)
_REMEDIES = {
    401: f"The token has expired or is for another server: put a new one into {TOKEN}.",
    403: "The account may not do that in this namespace: let whoever owns the profile add it as a contributor.",
    404: "That is not the address of Kubeflow Pipelines: give --host the one whose /apis/v2beta1/healthz answers.",
    413: "The pipeline is too large for the proxy before the server: raise the proxy's limit.",
    429: "The server is busy: try again in a minute.",
}


@dataclass(frozen=True)
class Submission:
    """A run to start: recipe, cluster and names.

    Attributes:
        recipe: What is computed.
        cluster: Where.
        host: Address of Kubeflow Pipelines.
        experiment: Experiment of the run; None for the recipe's own.
        run_name: Name of the run; None for the recipe's and the time.
        cache: Whether stages may reuse what they made in earlier runs.
    """

    recipe: Recipe
    cluster: Cluster
    host: str
    experiment: str | None = None
    run_name: str | None = None
    cache: bool = True


def start(submission: Submission, *, dry_run: bool = False) -> str:
    """Starts a run and says where to watch it.

    Args:
        submission: What to start.
        dry_run: Do all but start it: compile, parse, and ask the server for the experiments that the token may see.

    Raises:
        ConfigError: The overlay still names images that nobody pushed, or the recipe does not fit a cluster.
        ClusterError: The server does not answer, or refuses.
    """
    recipe, cluster = submission.recipe, submission.cluster
    if names := cluster.placeholders():
        raise ConfigError(
            f"{', '.join(names)}: the digest is a placeholder. Push your images and write their digests into the "
            "overlay's parameters; see manifests/README.md."
        )
    body = request_body(compile_recipe(recipe, cluster, cache=submission.cache))
    server = Server(submission.host, cluster.kfp_namespace)
    namespace = cluster.namespace if server.has_many_users() else None
    experiment = submission.experiment or f"pathoflow-{recipe.name}"
    name = submission.run_name or f"{recipe.name} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
    found = server.find_experiment(experiment, namespace)
    what = f"{name!r} of recipe {recipe.name} in experiment {experiment}, namespace {cluster.namespace}"
    if dry_run:
        return f"Would start {what}, as {RUNNER_ACCOUNT}, at {server.host}. Nothing was started."
    run_id = server.create_run(name, body, found or server.create_experiment(experiment, namespace))
    return f"Started {what}.\n{server.host}/#/runs/details/{run_id}"


def request_body(ir: str) -> dict[str, Any]:
    """A compiled pipeline as the server takes it, once KFP's own parser has accepted it."""
    pipeline, platform = yaml.safe_load_all(ir)
    parsed = (
        json_format.ParseDict(pipeline, pipeline_spec_pb2.PipelineSpec()),
        json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec()),
    )
    return dict(zip(("pipeline_spec", "platform_spec"), map(json_format.MessageToDict, parsed), strict=True))


def token_of_environment() -> str | None:
    """The bearer token: the user's, or in a pod its service account's; None for a server that asks for none."""
    if token := os.environ.get(TOKEN, "").strip():
        return token
    return next((path.read_text().strip() for path in _TOKEN_FILES if path.is_file()), None)


class Server:
    """A Kubeflow Pipelines API server.

    Args:
        host: Its address.
        namespace: Where its services are, for the remedy if it does not answer.
    """

    def __init__(self, host: str, namespace: str) -> None:
        self.host = host.rstrip("/")
        self._namespace = namespace
        self._token = token_of_environment()
        configuration = kfp_api.Configuration(host=self.host)
        configuration.ssl_ca_cert = os.environ.get(CA_CERT) or None
        configuration.retries = 1
        if self._token:
            configuration.api_key = {"authorization": self._token}
            configuration.api_key_prefix = {"authorization": "Bearer"}
        self._api = kfp_api.ApiClient(configuration)

    def has_many_users(self) -> bool:
        """Returns whether each user of the server has a namespace."""
        answer = self._ask("reach Kubeflow Pipelines", "GET", "/apis/v2beta1/healthz")
        return bool(answer.get("multi_user"))

    def find_experiment(self, name: str, namespace: str | None) -> str | None:
        """The id of an experiment; None if there is none of that name."""
        predicate = {"operation": "EQUALS", "key": "name", "stringValue": name}
        query = [("filter", json.dumps({"predicates": [predicate]}))]
        query += [("namespace", namespace)] if namespace else []
        answer = self._ask(f"look up experiment {name}", "GET", "/apis/v2beta1/experiments", query=query)
        found = [item for item in answer.get("experiments") or () if item.get("storage_state") != "ARCHIVED"]
        return str(found[0]["experiment_id"]) if found else None

    def create_experiment(self, name: str, namespace: str | None) -> str:
        """Makes an experiment and returns its id."""
        body = {"display_name": name} | ({"namespace": namespace} if namespace else {})
        answer = self._ask(f"create experiment {name}", "POST", "/apis/v2beta1/experiments", body=body)
        return str(answer["experiment_id"])

    def create_run(self, name: str, pipeline: dict[str, Any], experiment_id: str) -> str:
        """Starts a run and returns its id."""
        body = {
            "display_name": name,
            "experiment_id": experiment_id,
            "pipeline_spec": pipeline,
            "runtime_config": {},
            "service_account": RUNNER_ACCOUNT,
        }
        return str(self._ask(f"start run {name}", "POST", "/apis/v2beta1/runs", body=body)["run_id"])

    def _ask(
        self, what: str, method: str, path: str, *, query: list[tuple[str, str]] | None = None, body: Any = None
    ) -> dict[str, Any]:
        """One request; what can go wrong with it becomes one message with its remedy.

        Raises:
            ClusterError: The server does not answer, refuses, or is no such server.
        """
        try:
            response = self._api.call_api(
                path,
                method,
                query_params=query,
                body=body,
                header_params={"Accept": "application/json", "Content-Type": "application/json"},
                auth_settings=["Bearer"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=_TIMEOUT_S,
            )
            answer = json.loads(response.data)
        except kfp_api.ApiException as error:
            raise self._refused(error, what) from None
        except HTTPError as error:
            raise self._unreachable(error, what) from None
        except ValueError:
            raise ClusterError(
                f"Could not {what}: {self.host} answers with a page, not with data. It is another service, or a login "
                f"stands before it: put a token into {TOKEN}, or go around it: {self._forward()}."
            ) from None
        return answer if isinstance(answer, dict) else {}

    def _refused(self, error: kfp_api.ApiException, what: str) -> ClusterError:
        try:
            told = json.loads(error.body)
            message = str(told.get("message") or told.get("error") or "")
        except (TypeError, ValueError, AttributeError):
            message = ""
        if self._token:
            message = message.replace(self._token, "…")
        reason = f"{message} ({error.status} {error.reason})" if message else f"{error.status} {error.reason}"
        remedy = _REMEDIES.get(error.status, "See the logs of ml-pipeline." if error.status >= 500 else "")
        return ClusterError(f"Could not {what} at {self.host}: {reason}. {remedy}".rstrip())

    def _unreachable(self, error: HTTPError, what: str) -> ClusterError:
        cause = error.reason if isinstance(error, MaxRetryError) else error
        if isinstance(cause, SSLError | ssl.SSLError):
            remedy = f"If the certificate is your company's own, name its CA bundle in {CA_CERT}."
            return ClusterError(f"Could not {what}: the certificate of {self.host} does not hold ({cause}). {remedy}")
        inside = urlsplit(self.host).hostname or ""
        why = "that address exists only inside the cluster" if ".svc" in inside else "is it up, and the address right"
        return ClusterError(
            f"Could not {what}: {self.host} does not answer ({cause}); {why}? From outside: {self._forward()}."
        )

    def _forward(self) -> str:
        port = f"kubectl port-forward --namespace {self._namespace} service/ml-pipeline-ui 8080:80"
        return f"`{port}` and --host http://localhost:8080"
