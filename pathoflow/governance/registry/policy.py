"""`gates.yaml` of a recipe: what a version must show before it enters an environment."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pathoflow.contract.config import digest_of
from pathoflow.contract.recipe import GATES_FILE, find_recipe
from pathoflow.errors import ConfigError
from pathoflow.governance.registry.names import Environment

MODEL_STAGE = "{stage}"
"""In the name of a metric: the stage that trained the version."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Bounds(_Strict):
    """Bounds of a metric; at least one."""

    at_least: float | None = Field(None, description="The lowest value that passes.")
    at_most: float | None = Field(None, description="The highest value that passes.")

    @model_validator(mode="after")
    def _bounded(self) -> Bounds:
        if self.at_least is None and self.at_most is None:
            raise ValueError("give at_least or at_most")
        return self


class NoRegression(_Strict):
    """Settings of the comparison with the champion on the items that both answered."""

    margin: float = Field(ge=0, le=1, description="How much worse the version may be, as a share of the items.")
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Share of the bootstrap interval.")
    num_resamples: int = Field(10_000, ge=1000, le=1_000_000, description="Resamples of the bootstrap.")
    seed: int = Field(0, ge=0, description="Of the resamples, so that anyone gets the same interval.")


class EnvironmentGates(_Strict):
    """The gates of one environment."""

    thresholds: dict[str, Bounds] = Field(
        default_factory=dict,
        description="Bounds by metric of `vqa_benchmarks`; `accuracy_{stage}` is that of the model itself.",
    )
    no_regression: NoRegression | None = Field(None, description="Null compares with no champion.")
    evaluation_sets: tuple[str, ...] = Field(
        (), description="Evaluation sets that the corpus must have been decontaminated against, by name."
    )
    max_chance_on_blank_images: float | None = Field(
        None,
        ge=0,
        le=1,
        description="How much better than chance the model may be without the image; more means that options leak.",
    )
    num_approvals: int = Field(0, ge=0, le=10, description="Approvals of different people that are needed.")
    max_verification_age_s: float = Field(
        86_400, ge=0, description="How old a signed record of an audit may be that stands in for a new one, in seconds."
    )
    clean_code: bool = Field(False, description="Whether the code must be that of a commit, without local changes.")
    throwaway_keys: bool = Field(False, description="Whether a signature by a throw-away key passes.")


class Gates(_Strict):
    """The gates of both environments that a version is promoted to."""

    staging: EnvironmentGates
    prod: EnvironmentGates

    def of(self, environment: Environment) -> EnvironmentGates:
        """Returns the gates of one environment."""
        return self.prod if environment == "prod" else self.staging

    @property
    def digest(self) -> str:
        """Digest by which the log names the gates that were asked."""
        return digest_of(self.model_dump(mode="json"))


def load_gates(recipe: str) -> Gates:
    """Reads the gates of a recipe.

    Args:
        recipe: A recipe's name or folder, or the path of a YAML file.

    Raises:
        ConfigError: There are none, or a key or value will not do.
    """
    path = Path(recipe)
    if path.suffix not in (".yaml", ".yml"):
        path = find_recipe(recipe) / GATES_FILE
    try:
        return Gates.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}. Promotions need gates; see recipes/smoke/{GATES_FILE}."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        lines = [
            f"{path}: {'.'.join(str(part) for part in problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()
        ]
        raise ConfigError("\n".join(lines)) from error
