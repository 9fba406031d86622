"""The base of every stage's configuration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import ConfigDict, Field

from pathoflow.contract.needs import Needs

OutputKind = Literal["data", "model"]
ImageKind = Literal["cpu", "train", "rl"]


class ExternalFolder(NamedTuple):
    """A folder outside the pipeline that a stage reads and whose files are too many, or too large, to be listed.

    Attributes:
        path: The folder.
        end_bytes: How much is hashed at each end of a file; None for all of it.
    """

    path: Path
    end_bytes: int | None = None


class StageConfig(Needs):
    """Values of one stage: defaults here, overlaid by the recipe, overlaid by `--set`.

    Frozen; unknown keys are refused. A subclass also declares what its stage is and needs, so that whoever starts it
    (a pod, a local run, `pathoflow doctor`) need not guess. What depends on values are methods: `secrets`, `egress`,
    `paths`, `external_files`, `check_inputs`, `check_nodes`, `check_on_cluster`.

    Attributes:
        stage: Its name, which is that of its folder, of KFP's task, of DVC's stage and of MLflow's run.
        inputs: The stages whose output it takes.
        output: What it seals: data goes to DVC, a model to MLflow.
        key_metric: The metric that its row of the run's table shows.
        image: The smallest image that can run it.
        can_use_gpus: Whether it has use for GPUs.
        can_span_nodes: Whether it can train on several nodes.
        can_shard: Whether its work can be divided: it has a `run_shard`, too, and its `run` takes `parts`.
        can_be_reused: Whether what it made once may stand for another run of it; an act cannot.
        keeps_checkpoints: Whether it works on the volume that outlives its pod, from which it goes on.
        writes_registry: Whether it writes the registry, for which it gets the keys that count.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    stage: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]] = ()
    output: ClassVar[OutputKind] = "data"
    key_metric: ClassVar[str | None] = None
    image: ClassVar[ImageKind] = "cpu"
    can_use_gpus: ClassVar[bool] = False
    can_span_nodes: ClassVar[bool] = False
    can_shard: ClassVar[bool] = False
    can_be_reused: ClassVar[bool] = True
    keeps_checkpoints: ClassVar[bool] = False
    writes_registry: ClassVar[bool] = False

    max_quarantine_share: float = Field(
        default=0.05,
        ge=0.0,
        le=1.0,
        description="Largest share of the records read that may be quarantined before the stage fails.",
    )

    def check_nodes(self, nodes: int) -> None:
        """Refuses a number of nodes that this configuration cannot be spread over.

        Raises:
            ConfigError: Names the key that does not fit.
        """

    def check_on_cluster(self) -> None:
        """Refuses values that make sense on one machine only.

        Raises:
            ConfigError: Names the key and what to set it to.
        """

    def check_inputs(self, given: Collection[str]) -> None:
        """Refuses a recipe without, or with, the stages whose output this one takes where they are there.

        Args:
            given: Those of `inputs` that the recipe has.

        Raises:
            ConfigError: Names the key that does not fit.
        """

    def external_files(self) -> list[Path]:
        """Files outside the pipeline that this configuration reads, in a stable order.

        They are hashed into the stage's key and its manifest, so that a changed file re-runs the stage.

        Raises:
            InputError: A path does not exist.
        """
        return []

    def external_folders(self) -> list[ExternalFolder]:
        """Folders outside the pipeline that this configuration reads; each is one entry of the manifest.

        Raises:
            InputError: A path does not exist.
        """
        return []

    def resolved(self) -> dict[str, Any]:
        """The complete configuration as plain JSON values."""
        return self.model_dump(mode="json")

    def digest(self) -> str:
        """SHA-256 of the resolved configuration in canonical JSON."""
        return digest_of(self.resolved())


def canonical_json(value: Any) -> bytes:
    r"""The one byte string that stands for a JSON value: sorted keys, no white space, UTF-8.

    >>> canonical_json({"b": 1, "a": "é"})
    b'{"a":"\xc3\xa9","b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_of(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form, as `sha256:<hex>`."""
    return "sha256:" + hashlib.sha256(canonical_json(value)).hexdigest()
