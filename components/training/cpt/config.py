"""Configuration of the `cpt` stage."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from pydantic import Field

from pathoflow.errors import ConfigError
from pathoflow.modeling.source_config import SourceConfig
from pathoflow.training.config import FineTuningConfig


class CptConfig(SourceConfig, FineTuningConfig):
    """Settings of continued pretraining."""

    stage: ClassVar[str] = "cpt"
    inputs: ClassVar[tuple[str, ...]] = ("corpus", "base_model")
    key_metric: ClassVar[str | None] = "final_loss"

    model: str | None = Field(
        default=None,
        min_length=1,
        description="A Qwen2.5-VL to start from: a name on the model hub (with `revision`) or a directory by its "
        "absolute path; null starts from the output of `base_model`.",
    )
    max_pixels: int = Field(
        default=262_144,
        ge=784,
        le=16_777_216,
        description="Larger images are scaled down to this many pixels; later stages keep it. 784 px are one token.",
    )
    use_inline_references: bool = Field(
        default=True, description="Let sentences of the text that refer to a figure follow its caption."
    )
    lookup_share: float = Field(
        default=0.25,
        ge=0.0,
        le=1.0,
        description="Share of the look-ups of base_model that is mixed among the captions; the others come before all "
        "captions.",
    )
    lookup_weight: float = Field(
        default=1.0, gt=0.0, le=1000.0, description="Weight in the loss of the letter in such a text."
    )

    def check_inputs(self, given: Collection[str]) -> None:
        """Refuses two models to start from, or none.

        Raises:
            ConfigError: Says which of them to name.
        """
        if self.model is None and "base_model" not in given:
            raise ConfigError(
                "cpt.model is null and there is no base_model to start from: name a model, or add base_model.yaml to "
                "the recipe."
            )
        if self.model is not None and "base_model" in given:
            raise ConfigError(
                f"cpt.model is {self.model}, and the recipe builds a base_model, too: set cpt.model to null, or take "
                "base_model.yaml out of the recipe."
            )
