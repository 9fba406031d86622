"""What was found when a cluster was looked at."""

from __future__ import annotations

from typing import Literal, NamedTuple

Level = Literal["ok", "warning", "failed", "unknown"]


class Finding(NamedTuple):
    """One thing that was looked at.

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
