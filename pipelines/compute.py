"""Adds one stage to the pipeline with its configuration, its image and, on a cluster, all that its pod needs."""

from __future__ import annotations

from typing import Any

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from pathoflow.cluster.settings import LOCAL_IMAGES, Cluster
from pathoflow.contract.config import ImageKind, StageConfig
from pathoflow.contract.recipe import Compute, Recipe
from pathoflow.contract.sharding import Shard
from pipelines.pod import furnish

SHARDS = ".shards"
"""Follows a stage's name in the name of the loop over its shards."""


def place(
    component: BaseComponent, recipe: Recipe, inputs: dict[str, Any], cluster: Cluster | None = None
) -> dsl.PipelineTask:
    """Creates the stage's task; its display name is the stage's own name.

    Without a cluster the pipeline is for one machine and has no settings of Kubernetes at all. Where the recipe divides
    the stage, a loop over its shards comes first, and the stage's own task merges their parts.
    """
    stage = component.component_spec.name.replace("-", "_")
    config = recipe.config(stage)
    compute = recipe.compute[stage]
    kind = image_kind(recipe.stages[stage], compute)

    def task(name: str, **more: Any) -> dsl.PipelineTask:
        made = component(config=config, **inputs, **more)
        made.set_display_name(name)
        made.set_container_image(cluster.image(kind) if cluster else LOCAL_IMAGES[kind])
        if cluster:
            furnish(made, recipe, stage, cluster, cluster.image(kind))
        return made

    if compute.shards == 1:
        return task(stage)
    shards = [str(Shard(index, compute.shards)) for index in range(1, compute.shards + 1)]
    with dsl.ParallelFor(shards, name=f"{stage}{SHARDS}") as shard:
        part = task(f"{stage}.shard", shard=shard)
    return task(stage, parts=dsl.Collected(part.outputs["output"]))


def image_kind(config: StageConfig, compute: Compute) -> ImageKind:
    """The image that a stage runs in: the smallest that can, or one with CUDA where it has GPUs."""
    return "train" if config.image == "cpu" and compute.gpus_per_node else config.image
