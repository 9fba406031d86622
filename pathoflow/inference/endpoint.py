"""Settings of an OpenAI-compatible endpoint, nested in a stage's configuration."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from pathoflow.contract.needs import ENDPOINT_SECRET, Egress, Needs, Secret


class Endpoint(Needs):
    """A model behind an OpenAI-compatible endpoint, nested under one key of a stage's configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(
        pattern=r"^https?://[^@\s]+$", description="Address up to and including the version, as in https://host/v1."
    )
    model: str = Field(min_length=1, description="The model's name there.")
    api_key_variable: str | None = Field(
        default=None,
        pattern=r"^[A-Z_][A-Z0-9_]*$",
        description="Environment variable that holds the key; null where the endpoint wants none. On a cluster it "
        "comes from the secret of endpoint keys, under the same name.",
    )
    timeout_s: float = Field(default=180.0, gt=0.0, le=3600.0, description="Longest wait for one response, in seconds.")
    max_retries: int = Field(
        default=6, ge=0, le=100, description="How often a request is sent again to an endpoint that is busy or silent."
    )
    max_tokens: int = Field(default=4096, ge=1, le=65536, description="Longest response, in tokens.")
    concurrency: int = Field(default=8, ge=1, le=1024, description="Requests that are under way at the same time.")

    def secrets(self) -> tuple[Secret, ...]:
        """Returns the endpoint's key, if it wants one."""
        variable = self.api_key_variable
        return (Secret(variable, ENDPOINT_SECRET, variable),) if variable else ()

    def egress(self) -> frozenset[Egress]:
        """Returns that an endpoint is talked to."""
        return frozenset({"endpoint"})
