"""`pathoflow submit` against a server that speaks Kubeflow Pipelines' routes over real HTTP."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from components import catalogue
from pathoflow.cluster.settings import PLACEHOLDER_DIGEST, Cluster
from pathoflow.contract.code import REPOSITORY
from pathoflow.contract.recipe import Recipe, load_recipe
from pathoflow.errors import ClusterError, ConfigError
from pipelines import submit
from pipelines.submit import Submission, start
from tests.support.certificates import make_certificate
from tests.support.kfp_server import RUN_ID, KfpServer, kfp_server
from tests.support.overlays import parameters, write_overlay
from tools.golden import compiled

CLUSTER = Cluster.model_validate(parameters())
SECRET = "token-of-the-user"


@pytest.fixture(autouse=True)
def no_token(monkeypatch):
    monkeypatch.delenv("KFP_TOKEN", raising=False)
    monkeypatch.delenv("KFP_CA_CERT", raising=False)
    monkeypatch.setattr(submit, "_TOKEN_FILES", ())


@pytest.fixture
def server():
    with kfp_server() as running:
        yield running


@pytest.fixture(scope="module")
def recipe():
    return load_recipe("smoke", catalogue(), ("register.signing=key",))


@pytest.fixture(autouse=True)
def compiled_once(monkeypatch, recipe):
    """Lends out what was compiled before: no test here is about how."""

    def lend(asked: Recipe, cluster: Cluster, *, cache: bool) -> str:
        assert asked is recipe
        assert cache
        return compiled("smoke", ("register.signing=key",), cluster)

    monkeypatch.setattr(submit, "compile_recipe", lend)


@pytest.fixture
def submission(server, recipe) -> Submission:
    return Submission(recipe, CLUSTER, server.url)


def test_a_run_is_started_in_the_experiment_of_its_recipe(server, submission, monkeypatch):
    server.token = SECRET
    monkeypatch.setenv("KFP_TOKEN", f" {SECRET}\n")
    told = start(submission)
    assert told.endswith(f"{server.url}/#/runs/details/{RUN_ID}")
    assert SECRET not in told
    [run] = server.runs
    assert server.experiments == {("pathoflow-smoke", None): run["experiment_id"]}
    assert run["service_account"] == "pathoflow-runner"
    assert run["display_name"].startswith("smoke 20")
    assert run["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "patho-r1-smoke"
    executors = run["pipeline_spec"]["platform_spec"]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors["exec-sft"]["securityContext"]["runAsNonRoot"] is True
    start(replace(submission, run_name="again"))
    assert len(server.experiments) == 1
    assert server.runs[1]["experiment_id"] == run["experiment_id"]
    assert server.runs[1]["display_name"] == "again"


def test_where_each_user_has_a_namespace_it_is_named(server, submission):
    server.multi_user = True
    start(replace(submission, experiment="mine"))
    assert list(server.experiments) == [("mine", "ml")]


def test_a_pod_uses_the_token_of_its_account(server, submission, monkeypatch, tmp_path):
    server.token = SECRET
    (tmp_path / "token").write_text(SECRET)
    monkeypatch.setattr(submit, "_TOKEN_FILES", (tmp_path / "absent", tmp_path / "token"))
    start(submission)
    assert len(server.runs) == 1


def test_a_dry_run_asks_and_starts_nothing(server, submission):
    assert "Nothing was started" in start(submission, dry_run=True)
    assert server.runs == []
    assert server.experiments == {}
    server.token = SECRET
    with pytest.raises(ClusterError, match="401"):
        start(submission, dry_run=True)


def test_images_that_nobody_pushed_are_refused(server, submission):
    cluster = CLUSTER.model_copy(update={"rl_image": f"registry.example/rl@{PLACEHOLDER_DIGEST}"})
    with pytest.raises(ConfigError, match=r"rl_image: the digest is a placeholder\. Push your images"):
        start(replace(submission, cluster=cluster))
    assert server.runs == []


@pytest.mark.parametrize(
    ("refusal", "remedy"),
    [
        ((401, "token has expired"), "token has expired .*put a new one into KFP_TOKEN"),
        ((403, "User 'me' is not authorized"), "not authorized .*contributor"),
        ((404, "page not found"), "give --host the one whose"),
        ((500, "Internal Server Error"), "logs of ml-pipeline"),
    ],
)
def test_what_the_server_refuses_is_one_message(server, submission, refusal, remedy):
    server.refuse = refusal
    with pytest.raises(ClusterError, match=remedy) as caught:
        start(submission)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 11


def test_a_token_that_the_server_repeats_is_not_shown(server, submission, monkeypatch):
    server.token = "another"
    monkeypatch.setenv("KFP_TOKEN", SECRET)
    with pytest.raises(ClusterError, match="401") as caught:
        start(submission)
    assert SECRET not in str(caught.value)


def test_a_login_page_is_told_from_the_api(server, submission):
    server.page = "<html>Log in</html>"
    with pytest.raises(ClusterError, match=r"answers with a page.*KFP_TOKEN.*port-forward"):
        start(submission)


def test_no_server_is_told_with_the_way_to_it(submission):
    with pytest.raises(ClusterError, match=r"does not answer.*kubectl port-forward --namespace kubeflow"):
        start(replace(submission, host="http://localhost:1"))
    with pytest.raises(ClusterError, match="exists only inside the cluster"):
        start(replace(submission, host="http://ml-pipeline.kubeflow.svc.invalid:8888"))


def test_a_certificate_is_checked_against_the_bundle_that_is_named(submission, tmp_path, monkeypatch):
    with kfp_server(make_certificate(tmp_path / "server.pem")) as server:
        over_tls = replace(submission, host=server.url)
        with pytest.raises(ClusterError, match=r"certificate of https://localhost:\d+ does not hold.*KFP_CA_CERT"):
            start(over_tls)
        monkeypatch.setenv("KFP_CA_CERT", str(tmp_path / "server.pem"))
        start(over_tls)
        assert len(server.runs) == 1


def test_the_command_line_prints_the_address_and_exits_11_if_refused(server: KfpServer, tmp_path):
    overlay = write_overlay(tmp_path)

    def command(*more: str) -> subprocess.CompletedProcess[str]:
        arguments = ["submit", "--recipe", "smoke", "--cluster", str(overlay), "--host", server.url, *more]
        code = "import sys; from pathoflow.cli import main; sys.argv[0] = 'pathoflow'; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )

    done = command("--set", "register.signing=key", "--run-name", "first", "--no-cache")
    assert done.returncode == 0, done.stderr
    assert f"/#/runs/details/{RUN_ID}" in done.stdout
    tasks = server.runs[0]["pipeline_spec"]["pipeline_spec"]["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    assert not any(task.get("cachingOptions") for task in tasks.values())
    server.refuse = (403, "no")
    refused = command("--set", "register.signing=key")
    assert refused.returncode == 11
    assert refused.stderr.count("error:") == 1
    assert "Traceback" not in refused.stderr
