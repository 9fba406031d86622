"""Warns of stages that do not fit: findings of `compile`, `submit` and `doctor`."""

from __future__ import annotations

from pathoflow.cluster.findings import Finding
from pathoflow.contract.recipe import Recipe
from pathoflow.errors import InputError
from pathoflow.estimate.data_sizes import data_sizes
from pathoflow.estimate.devices import GPUS
from pathoflow.estimate.stages import Assumptions, estimate
from pathoflow.estimate.suggestions import suggestions


def fit_warnings(recipe: Recipe, gpu: str) -> list[Finding]:
    """Returns a warning for each stage that does not fit, with the mildest remedy; unknown sizes are no error.

    Args:
        recipe: The recipe.
        gpu: The kind of GPU that the cluster is taken to have, of `devices.GPUS`.
    """
    assumptions = Assumptions(GPUS[gpu], data_sizes(recipe.stages))
    try:
        stages = estimate(recipe, assumptions)
    except InputError as error:
        return [Finding("estimate", "unknown", str(error))]
    return [
        Finding(
            f"estimate of {stage.stage}", "warning", _detail(stage.faults(), gpu), _remedy(recipe, stage.stage, gpu)
        )
        for stage in stages
        if stage.faults()
    ]


def _detail(faults: list[str], gpu: str) -> str:
    return f"by estimate, {'; '.join(faults)} (on {gpu})"


def _remedy(recipe: Recipe, stage: str, gpu: str) -> str:
    found = suggestions(recipe, stage, Assumptions(GPUS[gpu], data_sizes(recipe.stages)), most=1)
    values = f"For instance {found[0].options}" if found else "No values near the recipe's fit"
    return f"{values}; see `pathoflow estimate --recipe {recipe.name}`, which knows other GPUs."
