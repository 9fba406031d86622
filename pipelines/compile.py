"""Compiles a recipe's pipeline to KFP's intermediate representation and reads the graph back from it."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml
from kfp import compiler

from pathoflow.cluster.settings import CHECKPOINTS_PATH, SOURCES_PATH, Cluster
from pathoflow.contract.recipe import Recipe
from pathoflow.errors import ConfigError
from pipelines.compute import SHARDS
from pipelines.finish import STAGES
from pipelines.patho_r1 import patho_r1


def compile_recipe(recipe: Recipe, cluster: Cluster | None = None, *, cache: bool = True) -> str:
    """Compiles the pipeline of a recipe to KFP IR YAML, the same text for the same recipe and the same cluster.

    Args:
        recipe: What is computed with how much.
        cluster: Where; without one the pipeline is what kfp.local runs on one machine.
        cache: Whether stages may reuse what they made in earlier runs on that cluster.

    Raises:
        ConfigError: The recipe asks for what only one machine has.
    """
    if cluster:
        _refuse_what_is_local(recipe, cluster)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        # KFP reads the source of all its callers at each setting of a task: a thread of its own has few.
        with ThreadPoolExecutor(max_workers=1) as alone:
            alone.submit(lambda: compiler.Compiler().compile(patho_r1(recipe, cluster), str(path))).result()
        text = path.read_text()
    if cluster:
        # KFP starts Python beneath a shell, which as process 1 would swallow the signal to stop.
        text = text.replace("_KFP_RUNTIME=true python3 -m", "_KFP_RUNTIME=true exec python3 -m")
    return text if cache or not cluster else _without_cache(text)


def _without_cache(ir: str) -> str:
    """The same pipeline, of which no task reuses anything.

    KFP's client can only switch off the tasks at the top, which is where the stages are not.
    """
    documents = list(yaml.safe_load_all(ir))
    for component in documents[0]["components"].values():
        for task in component.get("dag", {}).get("tasks", {}).values():
            task.pop("cachingOptions", None)
    return yaml.safe_dump_all(documents, sort_keys=False)


def graph_of(ir: str) -> dict[str, tuple[str, ...]]:
    """Each stage of a compiled pipeline with the stages whose outputs it takes, in an order that can be run.

    The loop over a stage's shards and the task that merges their parts are one stage.
    """
    tasks = _stage_tasks(_pipeline_spec(ir))
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
    tasks = _stage_tasks(spec)
    for task in [task for task, body in tasks.items() if _stage_of(body) not in stages]:
        del tasks[task]
    return yaml.safe_dump(spec, sort_keys=False)


def _refuse_what_is_local(recipe: Recipe, cluster: Cluster) -> None:
    for stage, config in recipe.stages.items():
        config.check_on_cluster()
        outside = [path for path in config.paths() if path.is_absolute()]
        if config.keeps_checkpoints:
            outside = [path for path in outside if not path.is_relative_to(CHECKPOINTS_PATH)]
        if outside and not cluster.sources_claim:
            raise ConfigError(
                f"{stage} reads {outside[0]}, and the cluster has no place for such files: put them on a volume, name "
                f"its claim as sources_claim in the overlay's parameters, and name the files as {SOURCES_PATH}/…."
            )
        if foreign := [path for path in outside if not path.is_relative_to(SOURCES_PATH)]:
            raise ConfigError(
                f"{stage} reads {foreign[0]}, which pods do not have: put it on the claim {cluster.sources_claim} and "
                f"name it as {SOURCES_PATH}/…."
            )


def _stage_tasks(spec: dict[str, Any]) -> dict[str, Any]:
    """The tasks of the stages: at the top, or on a cluster below the handler that cleans up after them."""
    tasks: dict[str, Any] = spec["root"]["dag"]["tasks"]
    if (guarded := tasks.get(STAGES)) is None:
        return tasks
    inner: dict[str, Any] = spec["components"][guarded["componentRef"]["name"]]["dag"]["tasks"]
    return inner


def _stage_of(task: dict[str, Any]) -> str:
    """The stage that a task, or the loop over its shards, belongs to."""
    name: str = task["taskInfo"]["name"]
    return name.removesuffix(SHARDS)


def _pipeline_spec(ir: str) -> dict[str, Any]:
    """The first YAML document; a second one holds the settings for Kubernetes."""
    spec: dict[str, Any] = next(iter(yaml.safe_load_all(ir)))
    return spec
