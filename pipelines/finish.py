"""The exit task of a run on a cluster, which cleans up and says how the run ended, however it ended."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from kfp import dsl, kubernetes

from pathoflow.cluster.settings import CHECKPOINTS_CLAIM, CHECKPOINTS_PATH, Cluster
from pathoflow.contract.recipe import Compute, Recipe
from pipelines.pod import identify, size

STAGES = "exit-handler-1"
"""What KFP calls the group of all tasks but the exit task."""


def finished(recipe: Recipe, cluster: Cluster | None) -> AbstractContextManager[Any]:
    """Everything below it is followed by the exit task; on one machine, where nothing is left behind, there is none."""
    if cluster is None:
        return nullcontext()
    task = finish(recipe=recipe.name, namespace=cluster.namespace)
    task.set_container_image(cluster.cpu_image)
    task.set_caching_options(False)
    identify(task, cluster, "finish")
    size(task, Compute(cpu="500m", memory="1Gi"))
    kubernetes.mount_pvc(task, CHECKPOINTS_CLAIM, CHECKPOINTS_PATH)
    kubernetes.set_timeout(task, 3600)
    followed: AbstractContextManager[Any] = dsl.ExitHandler(task, name="stages")
    return followed


@dsl.component(base_image="python:3.11-slim", install_kfp_package=False)
def finish(recipe: str, namespace: str, status: dsl.PipelineTaskFinalStatus, report: dsl.Output[dsl.Markdown]) -> None:
    """Deletes the run's TrainJobs and scratch, and reports its end.

    Args:
        recipe: Name of the recipe.
        namespace: Where the run's pods are.
        status: How the stages ended.
        report: Which stage failed, why, and where to look.
    """
    from pathoflow.cluster.finish import finish_run

    finish_run(recipe, namespace, status.state, status.error_message or "", report.path)
