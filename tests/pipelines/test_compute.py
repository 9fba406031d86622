"""What a recipe asks for lands in the pipeline for a cluster, and nothing of it in the one for this machine."""

import pytest
import yaml
from kfp import compiler, dsl

from pathoflow.cluster.settings import Cluster
from pathoflow.contract.recipe import load_recipe
from pathoflow.errors import ConfigError
from pathoflow.inference.endpoint import Endpoint
from pipelines.compute import place
from tests.support.overlays import parameters
from tests.support.toy.config import ToyConfig

CLUSTER = Cluster.model_validate(parameters())


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def toy(config: str, output: dsl.Output[dsl.Dataset]) -> None:
    """The toy stage."""


@pytest.fixture
def compiled(toy_recipe, tmp_path):
    """The documents of the pipeline that holds the toy stage of the recipe."""

    def compile_toy(
        content: str, cluster: Cluster | None = None, config_type: type[ToyConfig] = ToyConfig
    ) -> list[dict]:
        (toy_recipe / "toy.yaml").write_text(content)
        (toy_recipe / "toy_model.yaml").unlink(missing_ok=True)
        recipe = load_recipe(str(toy_recipe), {"toy": config_type})

        @dsl.pipeline(name="toys")
        def pipeline() -> None:
            place(toy, recipe, {}, cluster)

        compiler.Compiler().compile(pipeline, str(tmp_path / "toys.yaml"))
        return list(yaml.safe_load_all((tmp_path / "toys.yaml").read_text()))

    return compile_toy


def executor(documents: list[dict]) -> dict:
    return documents[0]["deploymentSpec"]["executors"]["exec-toy"]["container"]


def pod(documents: list[dict]) -> dict:
    return documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-toy"]


def test_a_recipe_that_asks_for_nothing_gets_a_plain_pipeline(compiled):
    documents = compiled("text: told")
    assert len(documents) == 1
    task = documents[0]["root"]["dag"]["tasks"]["toy"]
    assert task["taskInfo"]["name"] == "toy"
    assert '"text":"told"' in task["inputs"]["parameters"]["config"]["runtimeValue"]["constant"]
    assert "resources" not in executor(documents)


EVERYTHING = """
compute:
  cpu: "8"
  memory: 64Gi
  gpus_per_node: 4
  shm: 16Gi
  node_selector: {pool: a100}
  tolerations: [{key: gpu}]
  deadline_s: 3600
  retries: 2
"""


def test_on_one_machine_it_asks_for_nothing(compiled):
    documents = compiled(EVERYTHING)
    assert len(documents) == 1
    assert executor(documents)["image"] == "pathoflow-train:0.1.0"
    assert not executor(documents).keys() & {"resources", "env"}
    assert "retryPolicy" not in documents[0]["root"]["dag"]["tasks"]["toy"]


def test_what_it_asks_for_is_asked_for(compiled):
    documents = compiled(EVERYTHING, CLUSTER)
    assert executor(documents)["image"] == CLUSTER.train_image
    resources = executor(documents)["resources"]
    assert resources["resourceCpuLimit"] == resources["resourceCpuRequest"] == "8"
    assert resources["resourceMemoryLimit"] == resources["resourceMemoryRequest"] == "64Gi"
    assert resources["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert resources["accelerator"]["resourceCount"] == "4"
    kubernetes = pod(documents)
    assert kubernetes["nodeSelector"]["labels"] == {"pool": "a100"}
    assert kubernetes["tolerations"] == [{"effect": "NoSchedule", "key": "gpu", "operator": "Exists"}]
    assert kubernetes["activeDeadlineSeconds"] == "3600"
    mounts = {mount["mountPath"]: mount for mount in kubernetes["emptyDirMounts"]}
    assert mounts.keys() == {"/tmp", "/work", "/dev/shm"}
    assert (mounts["/dev/shm"]["medium"], mounts["/dev/shm"]["sizeLimit"]) == ("Memory", "16Gi")


def test_a_retry_comes_even_after_the_whole_deadline(compiled):
    retry = compiled(EVERYTHING, CLUSTER)[0]["root"]["dag"]["tasks"]["toy"]["retryPolicy"]
    assert retry["maxRetryCount"] == 2
    assert int(retry["backoffMaxDuration"].removesuffix("s")) >= 3 * 3600


def test_every_pod_has_limits_a_user_labels_and_services(compiled):
    documents = compiled("", CLUSTER)
    assert executor(documents)["image"] == CLUSTER.cpu_image
    assert executor(documents)["resources"].keys() >= {"resourceCpuLimit", "resourceMemoryLimit"}
    kubernetes = pod(documents)
    assert kubernetes["securityContext"] == {"runAsUser": "10001", "runAsGroup": "10001", "runAsNonRoot": True}
    assert kubernetes["podMetadata"]["labels"] == {
        "app.kubernetes.io/part-of": "pathoflow",
        "app.kubernetes.io/component": "toy",
    }
    plain = {variable["name"]: variable["value"] for variable in executor(documents)["env"]}
    assert plain["PATHOFLOW_WORKDIR"] == "/work"
    assert plain["HOME"] == "/tmp"
    assert plain["PATHOFLOW_DVC_REMOTE"] == "s3://data/dvc"
    assert plain["PATHOFLOW_IMAGE_DIGEST"] == f"sha256:{64 * 'a'}"
    assert {(field["name"], field["fieldPath"]) for field in kubernetes["fieldPathAsEnv"]} == {
        ("PATHOFLOW_RUN_ID", "metadata.labels['pipeline/runid']"),
        ("KFP_RUN_ID", "metadata.labels['pipeline/runid']"),
    }
    assert {secret["secretName"] for secret in kubernetes["secretAsEnv"]} == {
        "pathoflow-object-store",
        "pathoflow-mlflow",
    }


def test_where_the_cluster_gives_out_users_none_is_named(compiled):
    cluster = CLUSTER.model_copy(update={"fixed_user": "false"})
    assert pod(compiled("", cluster))["securityContext"] == {"runAsNonRoot": True}


def test_a_result_is_only_reused_if_the_key_tells_all(compiled):
    def is_cached(cluster: Cluster) -> bool:
        return compiled("", cluster)[0]["root"]["dag"]["tasks"]["toy"]["cachingOptions"].get("enableCache", False)

    assert is_cached(CLUSTER)
    assert not is_cached(CLUSTER.model_copy(update={"cpu_image": "pathoflow-cpu:0.1.0"}))


class AskingConfig(ToyConfig):
    """A stage that asks a model behind an endpoint."""

    endpoint: Endpoint | None = None


def test_the_key_of_an_endpoint_is_mounted_by_name_and_the_pod_is_let_out(compiled):
    asking = "endpoint: {url: https://models.example/v1, model: qwen, api_key_variable: QWEN_KEY}"
    kubernetes = pod(compiled(asking, CLUSTER, AskingConfig))
    (mounted,) = (entry for entry in kubernetes["secretAsEnv"] if entry["secretName"] == "pathoflow-endpoint-keys")
    assert mounted["keyToEnv"] == [{"envVar": "QWEN_KEY", "secretKey": "QWEN_KEY"}]
    assert not mounted.get("optional")
    assert kubernetes["podMetadata"]["labels"]["pathoflow/egress-endpoint"] == "allowed"
    silent = pod(compiled("", CLUSTER, AskingConfig))
    assert "pathoflow-endpoint-keys" not in {entry["secretName"] for entry in silent["secretAsEnv"]}
    assert not any(label.startswith("pathoflow/egress") for label in silent["podMetadata"]["labels"])


def test_a_stage_that_has_no_use_for_gpus_gets_none(compiled, monkeypatch):
    monkeypatch.setattr(ToyConfig, "can_use_gpus", False)
    with pytest.raises(ConfigError, match=r"toy\.yaml: compute\.gpus_per_node: toy has no use for GPUs"):
        compiled(EVERYTHING)


def test_a_stage_that_the_recipe_lacks_is_told(toy_recipe):
    (toy_recipe / "toy.yaml").unlink()
    (toy_recipe / "toy_model.yaml").unlink()
    recipe = load_recipe(str(toy_recipe), {"toy": ToyConfig})

    with pytest.raises(ConfigError, match=r"toys lacks toy\.yaml"):

        @dsl.pipeline(name="toys")
        def pipeline() -> None:
            place(toy, recipe, {})
