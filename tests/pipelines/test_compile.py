"""The graph that is read back from a compiled pipeline."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from components import catalogue
from pathoflow.cluster.settings import Cluster
from pathoflow.cluster.trainjob_spec import NODES, REQUEST, TrainJobRequest
from pathoflow.contract.recipe import Compute, load_recipe
from pathoflow.errors import ConfigError
from pipelines.compile import ancestors, compile_recipe, descendants, graph_of, restrict
from tests.support.overlays import parameters
from tests.support.toy.config import ToyConfig
from tools.golden import TWO_NODES, compiled

CLUSTER = Cluster.model_validate(parameters())


def task(name: str, **inputs: str) -> dict:
    artifacts = {key: {"taskOutputArtifact": {"producerTask": producer}} for key, producer in inputs.items()}
    body: dict = {"taskInfo": {"name": name}}
    return body | ({"inputs": {"artifacts": artifacts, "parameters": {}}} if artifacts else {})


@pytest.fixture
def ir() -> str:
    """A diamond and a stage that stands alone, the last stage first; the second document is Kubernetes' own."""
    tasks = {
        "final-scores": task("final_scores", tuned="tuned", atlas="atlas", clip="clip"),
        "tuned": task("tuned", atlas="atlas"),
        "clip": task("clip", atlas="atlas"),
        "atlas": task("atlas"),
        "alone": task("alone"),
    }
    pipeline = {"pipelineInfo": {"name": "diamond"}, "root": {"dag": {"tasks": tasks}}, "schemaVersion": "2.1.0"}
    return yaml.safe_dump_all([pipeline, {"platforms": {"kubernetes": {}}}], sort_keys=False)


def test_each_stage_comes_after_its_inputs_under_its_own_name(ir):
    graph = graph_of(ir)
    assert graph == {
        "final_scores": ("tuned", "atlas", "clip"),
        "tuned": ("atlas",),
        "clip": ("atlas",),
        "atlas": (),
        "alone": (),
    }
    order = list(graph)
    assert all(order.index(source) < order.index(stage) for stage, sources in graph.items() for source in sources)


def test_the_loop_over_shards_and_the_merge_are_one_stage():
    recipe = load_recipe("smoke", catalogue())
    plain = graph_of(compiled("smoke"))
    compute = {"textbook_pairs": Compute(shards=3), "public_pairs": Compute(shards=2)}
    ir = compile_recipe(replace(recipe, compute={**recipe.compute, **compute}))
    assert graph_of(ir) == plain
    tasks = yaml.safe_load(ir)["root"]["dag"]["tasks"]
    loops = {body["taskInfo"]["name"]: body for body in tasks.values() if "parameterIterator" in body}
    assert loops.keys() == {"textbook_pairs.shards", "public_pairs.shards"}
    assert loops["textbook_pairs.shards"]["parameterIterator"]["items"]["raw"] == '["1/3", "2/3", "3/3"]'
    part = restrict(ir, {"teaching_atlas", "public_pairs"})
    assert graph_of(part) == {"teaching_atlas": (), "public_pairs": ("teaching_atlas",)}
    assert len(yaml.safe_load(part)["root"]["dag"]["tasks"]) == 3


def test_what_a_stage_stands_on_and_what_stands_on_it(ir):
    graph = graph_of(ir)
    assert ancestors(graph, "final_scores") == {"tuned", "clip", "atlas"}
    assert ancestors(graph, "atlas") == set()
    assert descendants(graph, "atlas") == {"tuned", "clip", "final_scores"}
    assert descendants(graph, "final_scores") == descendants(graph, "alone") == set()


def test_a_part_of_the_pipeline_is_a_pipeline(ir):
    part = restrict(ir, {"atlas", "clip"})
    assert graph_of(part) == {"atlas": (), "clip": ("atlas",)}
    assert yaml.safe_load(part)["pipelineInfo"] == {"name": "diamond"}
    assert graph_of(restrict(ir, set(graph_of(ir)))) == graph_of(ir)


def smoke(*overrides: str, cluster: Cluster = CLUSTER) -> list[dict]:
    return documents("smoke", ("register.signing=key", *overrides), cluster)


def documents(recipe: str, overrides: tuple[str, ...] = (), cluster: Cluster = CLUSTER) -> list[dict]:
    return list(yaml.load_all(compiled(recipe, overrides, cluster), yaml.CSafeLoader))


def executors(pipeline: list[dict]) -> dict[str, tuple[dict, dict]]:
    """The container and the Kubernetes settings of each task."""
    kubernetes = pipeline[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {
        name.removeprefix("exec-").replace("-", "_"): (executor["container"], kubernetes[name])
        for name, executor in pipeline[0]["deploymentSpec"]["executors"].items()
    }


def environment(container: dict) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container["env"]}


@pytest.fixture(scope="module")
def multi_node() -> list[dict]:
    """The 7B recipe with its training on two nodes."""
    return documents("paper_7b", TWO_NODES)


def test_the_graph_for_a_cluster_is_the_same_graph():
    on_cluster = compiled("smoke", ("register.signing=key",), CLUSTER)
    assert graph_of(on_cluster) == graph_of(compiled("smoke"))
    part = restrict(on_cluster, {"teaching_atlas", "public_pairs"})
    assert graph_of(part) == {"teaching_atlas": (), "public_pairs": ("teaching_atlas",)}


def test_the_exit_task_runs_after_all_and_is_never_cached():
    of_cluster = smoke()
    tasks = of_cluster[0]["root"]["dag"]["tasks"]
    assert tasks.keys() == {"exit-handler-1", "finish"}
    assert tasks["finish"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert tasks["finish"]["dependentTasks"] == ["exit-handler-1"]
    assert tasks["finish"]["cachingOptions"] == {}
    container, kubernetes = executors(of_cluster)["finish"]
    assert container["image"] == CLUSTER.cpu_image
    assert "secretAsEnv" not in kubernetes
    assert [mount["mountPath"] for mount in kubernetes["pvcMount"]] == ["/checkpoints"]


def test_a_launcher_has_no_gpu_and_its_trainjob_has_them_all(multi_node):
    for stage, (container, kubernetes) in executors(multi_node).items():
        has_gpus = "accelerator" in container["resources"]
        assert has_gpus == (stage in {"pathoclip", "vqa_benchmarks"}), stage
        if stage not in {"cpt", "sft", "rl"}:
            assert NODES not in environment(container)
            continue
        assert not kubernetes.keys() & {"nodeSelector", "tolerations", "activeDeadlineSeconds"}
        request = TrainJobRequest.model_validate_json(environment(container)[REQUEST])
        assert environment(container)[NODES] == "2" == str(request.nodes)
        assert (request.gpus_per_node, request.queue, request.namespace) == (8, "training", "ml")
        assert request.image == container["image"] == CLUSTER.train_image
        assert request.runtime == "pathoflow-torchrun"
        assert request.node_selector == {"nvidia.com/gpu.present": "true"}


def test_training_works_on_the_checkpoint_claim_and_nothing_else_does(multi_node):
    for stage, (container, kubernetes) in executors(multi_node).items():
        claims = {mount["constant"] for mount in kubernetes.get("pvcMount", [])}
        trains = stage in {"pathoclip", "cpt", "sft", "rl"}
        assert claims == ({"pathoflow-checkpoints"} if trains or stage == "finish" else set()), stage
        if stage != "finish":
            place = f"/checkpoints/${{PATHOFLOW_RUN_ID}}/{stage}" if trains else "/work"
            assert environment(container)["PATHOFLOW_WORKDIR"] == place


def test_only_the_registration_gets_the_key(multi_node):
    for stage, (container, kubernetes) in executors(multi_node).items():
        assert ("secretAsVolume" in kubernetes) == (stage == "register"), stage
        assert stage == "finish" or ("PATHOFLOW_SIGNING_KEY" in environment(container)) == (stage == "register")


def test_no_reuse_if_nobody_wants_it(multi_node):
    def cached(pipeline: list[dict]) -> set[str]:
        tasks = pipeline[0]["components"]["comp-exit-handler-1"]["dag"]["tasks"]
        return {name for name, task in tasks.items() if task.get("cachingOptions", {}).get("enableCache")}

    assert cached(multi_node) >= {"cpt", "corpus"}
    assert "register" not in cached(multi_node)
    recipe = load_recipe("smoke", catalogue(), ("register.signing=key",))
    assert cached(list(yaml.safe_load_all(compile_recipe(recipe, CLUSTER, cache=False)))) == set()


def test_what_pods_cannot_read_is_refused():
    with pytest.raises(ConfigError, match=r"textbook_pairs reads /sources/a\.pdf.*sources_claim"):
        smoke("textbook_pairs.books=[/sources/a.pdf]")
    sources = CLUSTER.model_copy(update={"sources_claim": "books"})
    with pytest.raises(ConfigError, match=r"reads /home/me/a\.pdf, which pods do not have"):
        smoke("textbook_pairs.books=[/home/me/a.pdf]", cluster=sources)
    allowed = smoke("textbook_pairs.books=[/sources/a.pdf]", cluster=sources)
    _, kubernetes = executors(allowed)["textbook_pairs"]
    assert [(mount["constant"], mount["mountPath"]) for mount in kubernetes["pvcMount"]] == [("books", "/sources")]
    task = allowed[0]["components"]["comp-exit-handler-1"]["dag"]["tasks"]["textbook-pairs"]
    assert task["cachingOptions"] == {}


def test_a_key_that_proves_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"--set register\.signing=key"):
        documents("smoke")


def test_nodes_that_cannot_share_the_processes_evenly_are_refused_before_anything_is_compiled():
    with pytest.raises(ConfigError, match=r"cpt\.num_processes is 8, which 3 nodes cannot share evenly"):
        load_recipe("paper_7b", catalogue(), ["cpt.compute.nodes=3"])


def test_only_training_takes_several_nodes(toy_recipe):
    (toy_recipe / "toy_model.yaml").unlink()
    (toy_recipe / "toy.yaml").write_text("compute: {nodes: 2, gpus_per_node: 8}")
    with pytest.raises(ConfigError, match=r"toy\.yaml: compute\.nodes: toy runs on one node"):
        load_recipe(str(toy_recipe), {"toy": ToyConfig})
