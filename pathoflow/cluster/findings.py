"""Defines findings of the checks of a cluster."""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["ok", "warning", "failed", "unknown"]


class Finding(NamedTuple):
    """Result of one check.

    Attributes:
        what: The thing that was checked.
        level: `failed` keeps a run from working, `unknown` could not be looked at from here.
        detail: The result in words.
        remedy: Advice; empty if nothing is to be done.
    """

    what: str
    level: Level
    detail: str
    remedy: str = ""
