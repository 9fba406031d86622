"""The graph that is read back from a compiled pipeline."""

from __future__ import annotations

import pytest
import yaml

from pipelines.compile import ancestors, descendants, graph_of, restrict


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
