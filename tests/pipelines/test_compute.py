"""What a recipe asks for on a cluster lands in the compiled pipeline, and nothing else does."""

import pytest
import yaml
from kfp import compiler, dsl

from pathoflow.errors import ConfigError
from pathoflow.recipe import load_recipe
from pipelines.compute import place
from tests.toy.config import ToyConfig


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def toy(config: str, output: dsl.Output[dsl.Dataset]) -> None:
    """The toy stage."""


@pytest.fixture
def compiled(toy_recipe, tmp_path):
    """The documents of the pipeline that holds the toy stage of the recipe."""

    def compile_toy(content: str, about: str = "") -> list[dict]:
        (toy_recipe / "toy.yaml").write_text(content)
        (toy_recipe / "toy_model.yaml").unlink(missing_ok=True)
        with (toy_recipe / "recipe.yaml").open("a") as file:
            file.write(about)
        recipe = load_recipe(str(toy_recipe), {"toy": ToyConfig})

        @dsl.pipeline(name="toys")
        def pipeline() -> None:
            place(toy, recipe, {})

        compiler.Compiler().compile(pipeline, str(tmp_path / "toys.yaml"))
        return list(yaml.safe_load_all((tmp_path / "toys.yaml").read_text()))

    return compile_toy


def executor(documents: list[dict]) -> dict:
    return documents[0]["deploymentSpec"]["executors"]["exec-toy"]["container"]


def test_a_recipe_that_asks_for_nothing_gets_a_plain_pipeline(compiled):
    documents = compiled("text: told")
    assert len(documents) == 1
    task = documents[0]["root"]["dag"]["tasks"]["toy"]
    assert task["taskInfo"]["name"] == "toy"
    assert '"text":"told"' in task["inputs"]["parameters"]["config"]["runtimeValue"]["constant"]
    assert "resources" not in executor(documents)


def test_what_it_asks_for_is_asked_for(compiled):
    documents = compiled(
        """
compute:
  cpu: "8"
  memory: 64Gi
  gpus_per_node: 4
  shm: 16Gi
  node_selector: {pool: a100}
  tolerations: [{key: gpu}]
  deadline_s: 3600
  retries: 2
""",
        "image: data:1\ntrain_image: train:1\n",
    )
    assert executor(documents)["image"] == "train:1"
    resources = executor(documents)["resources"]
    assert resources["resourceCpuLimit"] == resources["resourceCpuRequest"] == "8"
    assert resources["resourceMemoryLimit"] == "64Gi"
    assert resources["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert resources["accelerator"]["resourceCount"] == "4"
    assert documents[0]["root"]["dag"]["tasks"]["toy"]["retryPolicy"]["maxRetryCount"] == 2
    kubernetes = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-toy"]
    assert kubernetes["nodeSelector"]["labels"] == {"pool": "a100"}
    assert kubernetes["tolerations"] == [{"effect": "NoSchedule", "key": "gpu", "operator": "Exists"}]
    assert kubernetes["activeDeadlineSeconds"] == "3600"
    [shm] = kubernetes["emptyDirMounts"]
    assert (shm["mountPath"], shm["medium"], shm["sizeLimit"]) == ("/dev/shm", "Memory", "16Gi")


def test_stages_without_gpus_get_the_other_image(compiled):
    assert executor(compiled("", "image: data:1\ntrain_image: train:1\n"))["image"] == "data:1"


def test_a_stage_that_the_recipe_lacks_is_told(toy_recipe):
    (toy_recipe / "toy.yaml").unlink()
    (toy_recipe / "toy_model.yaml").unlink()
    recipe = load_recipe(str(toy_recipe), {"toy": ToyConfig})

    with pytest.raises(ConfigError, match=r"toys lacks toy\.yaml"):

        @dsl.pipeline(name="toys")
        def pipeline() -> None:
            place(toy, recipe, {})
