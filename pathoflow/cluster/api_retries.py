"""Retries calls to an API server that is unavailable, with growing pauses, and tells the user."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from pathoflow.cluster.api import explain

CANNOT_ANSWER = (ApiException, HTTPError, OSError)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 8.0
_AWAY = frozenset({0, 408, 429, 500, 502, 503, 504})
# A server that has just started may know neither who may do what nor which kinds there are.
_STARTING = frozenset({401, 403, 404})
_STARTING_S = 30.0

Result = TypeVar("Result")


def is_away(error: Exception) -> bool:
    """Returns whether a server does not answer, or is overloaded."""
    return error.status in _AWAY if isinstance(error, ApiException) else isinstance(error, CANNOT_ANSWER)


class ApiRetries:
    """Retries one process's calls, and tracks for how long its API server has been unavailable.

    Args:
        say: Prints one line for the user.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._since: float | None = None
        self._pause_s = _FIRST_PAUSE_S

    def call(
        self, do: Callable[[], Result], what: str, *, for_s: float = 30.0, expected: tuple[int, ...] = ()
    ) -> Result:
        """Returns the result of `do`, once the server answers.

        Args:
            do: The call to the server.
            what: The action in words, such as `create TrainJob ml/cpt-1a2b`.
            for_s: Longest wait for a server that is unavailable, in seconds.
            expected: Status codes of refusals that the caller handles.

        Raises:
            ClusterError: The server refuses, or stayed away.
            ApiException: One of the expected refusals.
        """
        while True:
            try:
                result = do()
            except CANNOT_ANSWER as error:
                was_away = self._since is not None
                if isinstance(error, ApiException) and error.status in expected:
                    if not (was_away and error.status in _STARTING):
                        raise
                elif not was_away and not is_away(error):
                    raise explain(error, what) from error
                self.pause(error, what, for_s)
            else:
                self.end()
                return result

    def pause(self, error: Exception, what: str, for_s: float) -> None:
        """Sleeps, longer each time.

        Raises:
            ClusterError: The server has been away for `for_s` seconds, or its refusal is no passing one.
        """
        status = error.status if isinstance(error, ApiException) else 0
        if status in _STARTING:
            for_s = min(for_s, _STARTING_S)
        elif not is_away(error):
            raise explain(error, what) from error
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self._say(f"{explain(error, what)} Trying on for up to {for_s:.0f} s.")
        left_s = self._since + for_s - now
        if left_s <= 0:
            raise explain(error, what) from error
        time.sleep(min(self._pause_s, left_s))
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def end(self) -> None:
        """Tells the user that the server answers again."""
        if self._since is not None:
            self._say(f"The API server answers again after {time.monotonic() - self._since:.0f} s.")
        self._since, self._pause_s = None, _FIRST_PAUSE_S
