"""The report of an audit: one link per question asked, and the outputs that were reached."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, computed_field

from pathoflow.contract.references import Reference
from pathoflow.contract.sealing import Manifest

SCHEMA_VERSION = 1


class Verdict(StrEnum):
    """Verdict on a link of the chain.

    `UNKNOWN` means that a record or a byte could not be looked at; it never counts as good.
    """

    PASS = "PASS"
    FAIL = "FAIL"
    UNKNOWN = "UNKNOWN"

    @property
    def exit_code(self) -> int:
        """The exit code of `pathoflow audit`."""
        return (Verdict.PASS, Verdict.FAIL, Verdict.UNKNOWN).index(self)


def worst(verdicts: list[Verdict]) -> Verdict:
    """Returns the verdict on a whole whose parts got these.

    >>> worst([Verdict.PASS, Verdict.UNKNOWN]).value, worst([Verdict.UNKNOWN, Verdict.FAIL]).value
    ('UNKNOWN', 'FAIL')
    """
    for verdict in (Verdict.FAIL, Verdict.UNKNOWN):
        if verdict in verdicts:
            return verdict
    # Nothing looked at is nothing known.
    return Verdict.PASS if verdicts else Verdict.UNKNOWN


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Link(_Record):
    """One question and its answer.

    Attributes:
        subject: What it is about: a stage's output, or a record of the registry.
        check: What was asked.
        verdict: The answer.
        detail: What was found, and what to do where that is not well.
        where: The file, object or tag that was looked at.
        num_bytes: Bytes hashed for the answer.
    """

    subject: str
    check: str
    verdict: Verdict
    detail: str
    where: str
    num_bytes: int = 0


class Output(_Record):
    """A sealed output that the version stands on.

    Attributes:
        name: The stage, with the beginning of the identity where several outputs of one stage take part.
        stage: The stage that made it.
        identity: Its identity.
        reference: Where its bytes lie, if that is recorded.
        manifest: Its manifest, if a sound copy was found.
    """

    name: str
    stage: str
    identity: str
    reference: Reference | None
    manifest: Manifest | None


class Step(_Record):
    """One entry of the version's history: who did what when."""

    at: str
    who: str
    what: str
    detail: str


class AuditReport(_Record):
    """The whole finding.

    Attributes:
        model: Name of the registered model.
        version: Its version.
        asked: What the user named.
        aliases: Aliases that point at the version.
        registry: Where it is registered.
        started_at: Time of the audit, UTC.
        took_s: How long it took.
        links: Every question and its answer, in the order of the walk.
        outputs: Every output reached, those nearest to the version first.
        edges: Pairs of an output's name and that of one which was made from it.
        tags: The version's tags.
        gates: The gates that the version was put before, with their answers.
        approvals: Approvals of the version's weights.
        history: What happened to the version.
    """

    schema_version: int = SCHEMA_VERSION
    model: str
    version: str
    asked: str
    aliases: tuple[str, ...]
    registry: str
    started_at: str
    took_s: float
    links: tuple[Link, ...]
    outputs: tuple[Output, ...]
    edges: tuple[tuple[str, str], ...]
    tags: dict[str, str]
    gates: tuple[dict[str, Any], ...] = ()
    approvals: tuple[dict[str, Any], ...] = ()
    history: tuple[Step, ...] = ()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def verdict(self) -> Verdict:
        """The verdict on the whole chain."""
        return worst([link.verdict for link in self.links])

    @computed_field  # type: ignore[prop-decorator]
    @property
    def num_bytes(self) -> int:
        """Bytes hashed."""
        return sum(link.num_bytes for link in self.links)

    @property
    def problems(self) -> list[Link]:
        """Links that do not pass, the failures first."""
        found = [link for link in self.links if link.verdict is not Verdict.PASS]
        return sorted(found, key=lambda link: link.verdict.exit_code)

    def of(self, subject: str) -> list[Link]:
        """Returns the links of one subject."""
        return [link for link in self.links if link.subject == subject]

    def subjects(self) -> list[str]:
        """Returns every subject in the order of the walk."""
        return list(dict.fromkeys(link.subject for link in self.links))
