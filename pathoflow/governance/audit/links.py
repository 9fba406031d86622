"""The links of one subject while they are collected."""

from __future__ import annotations

from dataclasses import dataclass, field

from pathoflow.governance.audit.report import Link, Verdict


@dataclass
class Links:
    """Collects the links of one subject.

    Attributes:
        subject: What they are about.
    """

    subject: str
    found: list[Link] = field(default_factory=list)

    def passed(self, check: str, detail: str, where: str, num_bytes: int = 0) -> None:
        """Adds a link that holds."""
        self._add(Verdict.PASS, check, detail, where, num_bytes)

    def failed(self, check: str, detail: str, where: str, num_bytes: int = 0) -> None:
        """Adds a link that does not hold."""
        self._add(Verdict.FAIL, check, detail, where, num_bytes)

    def unknown(self, check: str, detail: str, where: str, num_bytes: int = 0) -> None:
        """Adds a link that could not be looked at."""
        self._add(Verdict.UNKNOWN, check, detail, where, num_bytes)

    def equal(self, check: str, found: str | None, expected: str, where: str, *, told_by: str) -> None:
        """Adds the comparison of a record with `expected`, which `told_by` says; None is a record that is not there."""
        if found is None:
            self.unknown(check, f"is missing; {told_by} says {expected}", where)
        elif found == expected:
            self.passed(check, expected, where)
        else:
            self.failed(check, f"says {found}, but {told_by} says {expected}", where)

    def _add(self, verdict: Verdict, check: str, detail: str, where: str, num_bytes: int) -> None:
        self.found.append(
            Link(subject=self.subject, check=check, verdict=verdict, detail=detail, where=where, num_bytes=num_bytes)
        )
