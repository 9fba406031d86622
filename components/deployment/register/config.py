"""Configuration of the `register` stage."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator

from pathoflow.contract.config import StageConfig
from pathoflow.contract.needs import SIGNING_SECRET, Secret
from pathoflow.errors import ConfigError


class RegisterConfig(StageConfig):
    """Settings of the registration of a finished model."""

    stage: ClassVar[str] = "register"
    inputs: ClassVar[tuple[str, ...]] = ("vqa_benchmarks", "pathoclip", "rl")
    key_metric: ClassVar[str | None] = "model_version"
    can_be_reused: ClassVar[bool] = False
    writes_registry: ClassVar[bool] = True

    model_name: str = Field(
        default="patho-r1",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$",
        description="Name of the model; it is registered as `<name>.dev`, the first of its environments.",
    )
    model_stage: str = Field(default="rl", description="Stage whose model is registered: one of the inputs.")
    signing: Literal["key", "throwaway"] = Field(
        default="key",
        description="Whose signature the version gets: that of the key file which PATHOFLOW_SIGNING_KEY names, or of a "
        "throw-away key that the run makes for itself, which proves nothing.",
    )
    license: str = Field(
        default="other",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="Licence of the weights in the model card, as Hugging Face abbreviates it.",
    )

    @field_validator("model_stage")
    @classmethod
    def _is_trained_model(cls, stage: str) -> str:
        models = [name for name in cls.inputs if name not in ("vqa_benchmarks", "pathoclip")]
        if stage not in models:
            raise ValueError(f"no model of this stage is handed in; choose from: {', '.join(models)}")
        return stage

    def secrets(self) -> tuple[Secret, ...]:
        """Returns the registrar's key, unless a throw-away one signs."""
        key = Secret("PATHOFLOW_SIGNING_KEY", SIGNING_SECRET, "key.pem", is_file=True)
        return (key,) if self.signing == "key" else ()

    def check_on_cluster(self) -> None:
        """Refuses a signature that proves nothing.

        Raises:
            ConfigError: Says how to sign with a key.
        """
        if self.signing == "throwaway":
            raise ConfigError(
                "register.signing is throwaway, which is for local runs. Make a key (`pathoflow keys new`), put it "
                f"into the secret {SIGNING_SECRET} as key.pem, and add --set register.signing=key."
            )
