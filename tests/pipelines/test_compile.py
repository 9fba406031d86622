"""The graph that is read back from a compiled pipeline."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from components import catalogue
from pathoflow.recipe import Compute, load_recipe
from pipelines.compile import ancestors, compile_recipe, descendants, graph_of, restrict


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
    plain = graph_of(compile_recipe(recipe))
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
