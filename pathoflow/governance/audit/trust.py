"""The part of an audit that the registry's own records answer, as the walk takes it over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pathoflow.contract.sealing import Manifest
from pathoflow.governance.audit.links import Links
from pathoflow.governance.audit.report import Step
from pathoflow.governance.audit.versions import Version


@dataclass
class Trust:
    """Answers of the registry's signed records about a version.

    Attributes:
        links: What was checked.
        gates: The answers of the gates of its promotion, as they were logged.
        approvals: Approvals of its weights, with whether they count now.
        history: Every decision about it.
    """

    links: Links = field(default_factory=lambda: Links("registry"))
    gates: list[dict[str, Any]] = field(default_factory=list)
    approvals: list[dict[str, Any]] = field(default_factory=list)
    history: list[Step] = field(default_factory=list)


TrustCheck = Callable[[Version, Manifest | None], Trust]
"""Verifies the signed records of a version, given the model's manifest if a sound copy was found."""
