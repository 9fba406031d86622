"""Configures the pretrained model that a stage starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from pathoflow.contract.config import StageConfig
from pathoflow.contract.needs import HUB_SECRET, Egress, Secret
from pathoflow.errors import ConfigError

TINY = "tiny"
"""In the place of a model: one is built with random weights."""


class SourceConfig(StageConfig):
    """Source of a training's initial weights."""

    model: str | None = Field(
        min_length=1,
        description="The model to start from: a name on the model hub (with `revision`), or a directory by its "
        "absolute path, or `tiny` to build one with random weights.",
    )
    revision: str | None = Field(
        default=None, min_length=7, description="Commit of the model on the hub; null with a directory or `tiny`."
    )
    ignored_tensors: tuple[str, ...] = Field(
        default=(),
        description="Names, with `*` as in file names, of tensors that the model's files may lack (they start at "
        "random) or hold for nothing; any other difference ends the stage before it trains.",
    )

    @model_validator(mode="after")
    def _hub_models_are_pinned(self) -> Self:
        if self.on_hub and self.revision is None:
            raise ValueError(
                f"revision: name the commit of {self.model} to start from, so that the run can be repeated"
            )
        return self

    @property
    def on_hub(self) -> bool:
        """True if the model is downloaded from the hub."""
        return self.model not in (None, TINY) and not str(self.model).startswith("/")

    def secrets(self) -> tuple[Secret, ...]:
        """Returns the token of the hub, which only gated models need, beside what else is read."""
        return (*super().secrets(), *([Secret("HF_TOKEN", HUB_SECRET, "HF_TOKEN", is_required=False)] * self.on_hub))

    def egress(self) -> frozenset[Egress]:
        """Returns the hub, if the model comes from there, beside whom else the stage talks to."""
        return super().egress() | (frozenset[Egress]({"hub"}) if self.on_hub else frozenset())

    def paths(self) -> list[Path]:
        """Returns the model's directory, if it comes from one, and what else is named."""
        return [*super().paths(), *([Path(self.model)] if self.model and self.model.startswith("/") else [])]

    def external_files(self) -> list[Path]:
        """Files of the model's directory, if it is one, and the other files that the stage reads."""
        others = super().external_files()
        if self.model in (None, TINY) or self.on_hub:
            return others
        files = sorted(path for path in Path(str(self.model)).rglob("*") if path.is_file())
        if not files:
            raise ConfigError(f"{self.stage}.model: there is no model in {self.model}. Correct the path.")
        return files + others
