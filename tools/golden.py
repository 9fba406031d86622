"""Writes the compiled pipelines to `tests/golden`: `python -m tools.golden [--check]`.

`<recipe>` is what runs on one machine, `<recipe>.<overlay>` what a cluster with that overlay gets; one more word tells
of values that are set. Two are there as a whole (`.yaml`); of the others, only what differs from a similar one
(`.diff`). A change of the graph, of a value or of what a pod asks for then shows in review, where the YAML that
Kubeflow gets would otherwise change unseen.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from components import catalogue
from pathoflow.cluster.settings import Cluster, load_cluster
from pathoflow.contract.code import REPOSITORY
from pathoflow.contract.recipe import load_recipe
from pipelines.compile import compile_recipe
from tools import drift

GOLDEN = REPOSITORY / "tests" / "golden"
OVERLAYS = REPOSITORY / "manifests" / "overlays"


@cache
def compiled(recipe: str, overrides: tuple[str, ...] = (), cluster: Cluster | None = None) -> str:
    """Compiles a recipe, once per process for the same arguments."""
    return compile_recipe(load_recipe(recipe, catalogue(), overrides), cluster)


@dataclass(frozen=True)
class Pipeline:
    """A recipe for one machine, or for the cluster of an overlay.

    Attributes:
        recipe: The recipe's name.
        overlay: The overlay's name; None for one machine.
        overrides: Values on top of the recipe.
        variant: Names the overrides.
        base: A similar pipeline, from which only the differences are kept; None keeps all of it.
    """

    recipe: str
    overlay: str | None = None
    overrides: tuple[str, ...] = ()
    variant: str | None = None
    base: Pipeline | None = None

    @property
    def name(self) -> str:
        """Recipe, overlay and variant."""
        return ".".join(filter(None, (self.recipe, self.overlay, self.variant)))

    @property
    def file(self) -> Path:
        """The file of its golden form."""
        return GOLDEN / f"{self.name}.{'diff' if self.base else 'yaml'}"

    def compiled(self) -> str:
        """Compiles it as it is now."""
        cluster = load_cluster(OVERLAYS / self.overlay) if self.overlay else None
        return compiled(self.recipe, self.overrides, cluster)

    def golden(self) -> str:
        """Returns what its file must hold."""
        if self.base is None:
            return self.compiled()
        before, after = (text.splitlines(keepends=True) for text in (self.base.compiled(), self.compiled()))
        return "".join(difflib.unified_diff(before, after, self.base.name, self.name, n=2))


# Twice the processes, and as many samples in a step.
TWO_NODES = (
    *(f"{stage}.{change}" for stage in ("cpt", "sft", "rl") for change in ("compute.nodes=2", "num_processes=16")),
    "cpt.batch_size_per_process=16",
    "sft.batch_size_per_process=8",
    "rl.gradient_accumulation_steps=10",
)
_SMOKE, _MULTI_NODE = Pipeline("smoke"), Pipeline("paper_7b", "multi-node")
_PAPER_3B, _SINGLE_GPU = Pipeline("paper_3b", base=_SMOKE), Pipeline("paper_3b", "single-gpu", base=_MULTI_NODE)
PIPELINES = (
    _SMOKE,
    _MULTI_NODE,
    _PAPER_3B,
    _SINGLE_GPU,
    Pipeline("paper_7b", base=_PAPER_3B),
    Pipeline("single_gpu", base=_PAPER_3B),
    Pipeline("single_gpu", "single-gpu", base=_SINGLE_GPU),
    Pipeline("smoke", "local", ("register.signing=key",), base=_SINGLE_GPU),
    Pipeline("paper_7b", "openshift", base=_MULTI_NODE),
    Pipeline("paper_7b", "multi-node", TWO_NODES, "two-nodes", base=_MULTI_NODE),
)


def golden_files() -> dict[Path, str]:
    """Returns what each file in `tests/golden` must hold."""
    return {pipeline.file: pipeline.golden() for pipeline in PIPELINES}


if __name__ == "__main__":
    drift.main(golden_files(), "python -m tools.golden")
