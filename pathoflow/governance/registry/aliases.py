"""The state of an environment: its champion and those before it, as the log has it and as MLflow has it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from pathoflow.governance.registry.names import CHAMPION, PREVIOUS

_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


@dataclass(frozen=True)
class EnvironmentState:
    """The state of one registered model.

    Attributes:
        champion: The version that is served; None after a demotion.
        line: Every version that was champion and was not rolled back or demoted, the latest last.
    """

    champion: int | None = None
    line: tuple[int, ...] = ()

    @property
    def previous(self) -> int | None:
        """The version that a rollback goes to."""
        before = [version for version in self.line if version != self.champion]
        return before[-1] if before else None

    def promoted(self, version: int) -> EnvironmentState:
        """Returns the state once a version was promoted.

        >>> EnvironmentState(1, (1,)).promoted(2)
        EnvironmentState(champion=2, line=(1, 2))
        """
        return EnvironmentState(version, (*(other for other in self.line if other != version), version))

    def demoted(self) -> EnvironmentState:
        """Returns the state once the champion was taken away: nothing is served.

        >>> EnvironmentState(2, (1, 2)).demoted()
        EnvironmentState(champion=None, line=(1,))
        """
        return EnvironmentState(None, tuple(version for version in self.line if version != self.champion))

    def rolled_back(self) -> EnvironmentState:
        """Returns the state once the version before the champion is served again.

        >>> EnvironmentState(3, (1, 2, 3)).rolled_back().rolled_back()
        EnvironmentState(champion=1, line=(1,))
        """
        line = tuple(version for version in self.line if version != self.champion)
        return EnvironmentState(line[-1], line)

    def plain(self) -> dict[str, Any]:
        """Returns the state as JSON values."""
        return {"champion": self.champion, "line": list(self.line)}

    @classmethod
    def read(cls, value: Mapping[str, Any] | None) -> EnvironmentState:
        """Returns the state from JSON values; nothing is the state before the first promotion."""
        return cls(value["champion"], tuple(value["line"])) if value else cls()


def aliases_of(client: MlflowClient, name: str) -> tuple[int | None, int | None]:
    """Returns champion and previous of a registered model in MLflow; none of a model that does not exist."""
    try:
        found = client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code in _ABSENT:
            return None, None
        raise
    champion, previous = found.get(CHAMPION), found.get(PREVIOUS)
    return (int(champion) if champion else None), (int(previous) if previous else None)


def set_aliases(client: MlflowClient, name: str, state: EnvironmentState) -> None:
    """Makes MLflow's aliases those of a state; the champion's is the last to move, and makes the state count."""
    champion, previous = aliases_of(client, name)
    for alias, old, new in ((PREVIOUS, previous, state.previous), (CHAMPION, champion, state.champion)):
        if old == new:
            continue
        if new is None:
            client.delete_registered_model_alias(name, alias)
        else:
            client.set_registered_model_alias(name, alias, str(new))
