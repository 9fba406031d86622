"""Writes the compiled pipelines to `tests/golden`: `python -m tools.golden [--check]`.

`<recipe>.yaml` is what runs on one machine, `<recipe>.<overlay>.yaml` what a cluster with that overlay gets; one more
word tells of values that are set. A change of the graph, of a value or of what a pod asks for then shows in review,
where the YAML that Kubeflow gets would otherwise change unseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from components import catalogue
from pathoflow.cluster.settings import load_cluster
from pathoflow.contract.code import REPOSITORY
from pathoflow.contract.recipe import load_recipe, recipe_names
from pipelines.compile import compile_recipe
from tools import drift

GOLDEN = REPOSITORY / "tests" / "golden"
OVERLAYS = REPOSITORY / "manifests" / "overlays"


@dataclass(frozen=True)
class Pipeline:
    """A recipe for one machine, or for the cluster of an overlay."""

    recipe: str
    overlay: str | None = None
    overrides: tuple[str, ...] = ()
    variant: str | None = None

    @property
    def file(self) -> Path:
        """Where its golden form is."""
        return GOLDEN / f"{'.'.join(filter(None, (self.recipe, self.overlay, self.variant)))}.yaml"

    def compiled(self) -> str:
        """What it is now."""
        cluster = load_cluster(OVERLAYS / self.overlay) if self.overlay else None
        return compile_recipe(load_recipe(self.recipe, catalogue(), self.overrides), cluster)


# Twice the processes, and as many samples in a step.
TWO_NODES = (
    *(f"{stage}.{change}" for stage in ("cpt", "sft", "rl") for change in ("compute.nodes=2", "num_processes=16")),
    "cpt.batch_size_per_process=16",
    "sft.batch_size_per_process=8",
    "rl.gradient_accumulation_steps=10",
)
PIPELINES = (
    *(Pipeline(name) for name in recipe_names()),
    Pipeline("smoke", "local", ("register.signing=key",)),
    Pipeline("paper_3b", "single-gpu"),
    Pipeline("single_gpu", "single-gpu"),
    Pipeline("paper_7b", "multi-node"),
    Pipeline("paper_7b", "openshift"),
    Pipeline("paper_7b", "multi-node", TWO_NODES, "two-nodes"),
)


def golden_files() -> dict[Path, str]:
    """What each file in `tests/golden` must hold."""
    return {pipeline.file: pipeline.compiled() for pipeline in PIPELINES}


if __name__ == "__main__":
    drift.main(golden_files(), "python -m tools.golden")
