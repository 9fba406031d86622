"""One gate's answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pathoflow.governance.audit.report import Verdict


@dataclass(frozen=True)
class Gate:
    """One question and its answer.

    Attributes:
        name: What was asked.
        verdict: The answer.
        detail: What it rests on, and what to do where it is not PASS.
        figures: Numbers behind it.
    """

    name: str
    verdict: Verdict
    detail: str
    figures: Mapping[str, float] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Returns the gate as JSON values."""
        return {
            "gate": self.name,
            "verdict": self.verdict.value,
            "detail": self.detail,
            "figures": dict(self.figures),
        }
