"""Adds one stage to the pipeline with its configuration, image and what its pod asks for."""

from __future__ import annotations

from typing import Any

from kfp import dsl, kubernetes
from kfp.dsl.base_component import BaseComponent

from pathoflow.recipe import Compute, Recipe
from pathoflow.sharding import Shard

SHARDS = ".shards"
"""Follows a stage's name in the name of the loop over its shards."""


def place(component: BaseComponent, recipe: Recipe, inputs: dict[str, Any]) -> dsl.PipelineTask:
    """Creates the stage's task; its display name is the stage's own name.

    Only what a recipe asks for is set: a local run's pipeline has no cluster settings at all. Where the recipe divides
    the stage, a loop over its shards comes first, and the stage's own task merges their parts.
    """
    stage = component.component_spec.name.replace("-", "_")
    config = recipe.config(stage)
    compute = recipe.compute[stage]

    def task(name: str, **more: Any) -> dsl.PipelineTask:
        made = component(config=config, **inputs, **more)
        made.set_display_name(name)
        made.set_container_image(recipe.about.train_image if compute.gpus_per_node else recipe.about.image)
        _ask_for(made, compute)
        return made

    if compute.shards == 1:
        return task(stage)
    shards = [str(Shard(index, compute.shards)) for index in range(1, compute.shards + 1)]
    with dsl.ParallelFor(shards, name=f"{stage}{SHARDS}") as shard:
        part = task(f"{stage}.shard", shard=shard)
    return task(stage, parts=dsl.Collected(part.outputs["output"]))


def _ask_for(task: dsl.PipelineTask, compute: Compute) -> None:
    if compute.cpu:
        task.set_cpu_request(compute.cpu).set_cpu_limit(compute.cpu)
    if compute.memory:
        task.set_memory_request(compute.memory).set_memory_limit(compute.memory)
    if compute.gpus_per_node:
        task.set_accelerator_type(compute.gpu_resource).set_accelerator_limit(compute.gpus_per_node)
    if compute.shm:
        kubernetes.empty_dir_mount(
            task, volume_name="shm", mount_path="/dev/shm", medium="Memory", size_limit=compute.shm
        )
    for key, value in sorted(compute.node_selector.items()):
        kubernetes.add_node_selector(task, key, value)
    for toleration in compute.tolerations:
        kubernetes.add_toleration(task, toleration.key, toleration.operator, toleration.value, toleration.effect)
    if compute.deadline_s:
        kubernetes.set_timeout(task, compute.deadline_s)
    if compute.retries:
        task.set_retry(compute.retries, backoff_duration="60s")
