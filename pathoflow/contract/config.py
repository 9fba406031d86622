"""The base of every stage's configuration."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

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


class StageConfig(BaseModel):
    """Values of one stage: defaults here, overlaid by the recipe, overlaid by `--set`.

    Frozen; unknown keys are refused. Subclasses name their stage, what kind of output it seals
    (data goes to DVC, a model to MLflow), the metric that its row of the run's table shows, the smallest image
    that can run it, whether it can train on several nodes, and whether its work can be divided: such a stage has a
    `run_shard`, too, and its `run` takes `parts`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    stage: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]] = ()
    output: ClassVar[OutputKind] = "data"
    image: ClassVar[ImageKind] = "cpu"
    can_span_nodes: ClassVar[bool] = False
    can_shard: ClassVar[bool] = False
    key_metric: ClassVar[str | None] = None

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
