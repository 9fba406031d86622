"""Compiles a recipe's pipeline to KFP's intermediate representation and reads the graph back from it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler

from pathoflow.recipe import Recipe
from pipelines.compute import SHARDS
from pipelines.patho_r1 import patho_r1


def compile_recipe(recipe: Recipe) -> str:
    """The pipeline of a recipe as KFP IR YAML, the same text for the same recipe."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "pipeline.yaml")
        compiler.Compiler().compile(patho_r1(recipe), path)
        return Path(path).read_text()


def graph_of(ir: str) -> dict[str, tuple[str, ...]]:
    """Each stage of a compiled pipeline with the stages whose outputs it takes, in an order that can be run.

    The loop over a stage's shards and the task that merges their parts are one stage.
    """
    tasks = _pipeline_spec(ir)["root"]["dag"]["tasks"]
    names = {task: _stage_of(body) for task, body in tasks.items()}
    found: dict[str, dict[str, None]] = {}
    for task, body in tasks.items():
        of_stage = found.setdefault(names[task], {})
        for artifact in body.get("inputs", {}).get("artifacts", {}).values():
            source = names[artifact["taskOutputArtifact"]["producerTask"]]
            if source != names[task]:
                of_stage[source] = None
    sources = {stage: tuple(of_stage) for stage, of_stage in found.items()}
    ordered: dict[str, tuple[str, ...]] = {}

    def visit(stage: str) -> None:
        for source in sources[stage]:
            visit(source)
        ordered.setdefault(stage, sources[stage])

    for stage in sources:
        visit(stage)
    return ordered


def ancestors(graph: dict[str, tuple[str, ...]], stage: str) -> set[str]:
    """The stages that `stage` stands on.

    >>> sorted(ancestors({"a": (), "b": ("a",), "c": ("b",)}, "c"))
    ['a', 'b']
    """
    return set(graph[stage]).union(*(ancestors(graph, source) for source in graph[stage]))


def descendants(graph: dict[str, tuple[str, ...]], stage: str) -> set[str]:
    """The stages that stand on `stage`.

    >>> sorted(descendants({"a": (), "b": ("a",), "c": ("b",)}, "a"))
    ['b', 'c']
    """
    return {other for other in graph if stage in ancestors(graph, other)}


def restrict(ir: str, stages: set[str]) -> str:
    """The same pipeline with only `stages`, which must be closed under what they stand on."""
    spec = _pipeline_spec(ir)
    tasks = spec["root"]["dag"]["tasks"]
    for task in [task for task, body in tasks.items() if _stage_of(body) not in stages]:
        del tasks[task]
    return yaml.safe_dump(spec, sort_keys=False)


def _stage_of(task: dict[str, Any]) -> str:
    """The stage that a task, or the loop over its shards, belongs to."""
    name: str = task["taskInfo"]["name"]
    return name.removesuffix(SHARDS)


def _pipeline_spec(ir: str) -> dict[str, Any]:
    """The first YAML document; a second one holds the settings for Kubernetes."""
    spec: dict[str, Any] = next(iter(yaml.safe_load_all(ir)))
    return spec
