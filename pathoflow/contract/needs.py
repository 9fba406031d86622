"""The secrets and the egress that a stage's configuration asks of the place where it runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

Egress = Literal["hub", "endpoint"]
"""Whom a stage talks to outside: the model hub, or a served model."""

HUB_SECRET = "pathoflow-hub"
"""Kubernetes secret with `HF_TOKEN`; only needed for gated models."""
ENDPOINT_SECRET = "pathoflow-endpoint-keys"
"""Kubernetes secret with the keys of endpoints, each under the name of its environment variable."""
SIGNING_SECRET = "pathoflow-signing"
"""Kubernetes secret with `key.pem`, the registrar's private key."""


class Secret(NamedTuple):
    """A value that a stage reads from its environment, and that stands in no recipe.

    Attributes:
        variable: The environment variable that holds it, or for a file its path.
        secret: The Kubernetes secret that it comes from on a cluster.
        key: Its key there.
        is_required: Whether the stage fails without it.
        is_file: Whether it is mounted as a file.
    """

    variable: str
    secret: str
    key: str
    is_required: bool = True
    is_file: bool = False


class Needs(BaseModel):
    """A configuration, or a part of one, that needs something; the whole needs what its parts do."""

    def secrets(self) -> tuple[Secret, ...]:
        """Returns the secrets that are read with these values."""
        return tuple(dict.fromkeys(secret for part in self._parts() for secret in part.secrets()))

    def egress(self) -> frozenset[Egress]:
        """Returns whom these values make the stage talk to outside the cluster."""
        return frozenset[Egress]().union(*(part.egress() for part in self._parts()))

    def paths(self) -> list[Path]:
        """Returns the files and folders that these values name, at any depth; a relative one lies in the repository."""
        return [value for value in _values(tuple(vars(self).values())) if isinstance(value, Path)]

    def _parts(self) -> Iterator[Needs]:
        """The outermost parts that know their own needs."""
        return (value for value in _values(tuple(vars(self).values())) if isinstance(value, Needs))


def _values(value: Any) -> Iterator[Any]:
    """Yields the values in nested tuples, maps and models, and these models themselves."""
    yield value
    if isinstance(value, BaseModel):
        value = tuple(vars(value).values())
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple):
        for item in value:
            yield from _values(item)
