"""Defines findings of the checks of a cluster."""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["ok", "warning", "failed", "unknown"]


class Finding(NamedTuple):
    """Result of one check.

    Attributes:
        what: What it is.
        level: `failed` keeps a run from working, `unknown` could not be looked at from here.
        detail: What was found.
        remedy: What to do; empty if nothing is.
    """

    what: str
    level: Level
    detail: str
    remedy: str = ""
