"""Records of the decision log: entries, its head, the notes of it elsewhere, and the report of a check."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pathoflow.governance.signing import PublicKey

Action = Literal["register", "promote", "refuse", "approve", "revoke", "rollback", "demote", "repair"]


@dataclass(frozen=True)
class Entry:
    """One decision.

    Attributes:
        seq: Its number, from 1.
        at: When, UTC, by the clock of whoever decided.
        actor: Who, by their own word.
        signer: Whose key signed.
        action: What was decided.
        model: About which model, without the environment.
        details: Further facts, as JSON values.
        digest: SHA-256 of the entry's bytes.
        previous: Digest of the entry before.
    """

    seq: int
    at: str
    actor: str
    signer: PublicKey
    action: Action
    model: str
    details: Mapping[str, Any]
    digest: str
    previous: str


@dataclass(frozen=True)
class Anchor:
    """A note of the log's head that is kept somewhere else: number and digest of an entry.

    Attributes:
        model: The model whose latest entry it notes.
        seq: The entry's number.
        digest: The entry's digest.
        where: The place, for people.
        gone: Whether there should be a note, and is none.
    """

    model: str
    seq: int
    digest: str
    where: str
    gone: bool = False


class Anchors(Protocol):
    """A place that notes the head of the log."""

    def read(self, models: Collection[str]) -> list[Anchor]:
        """Returns every note, and what is gone of those about `models`."""

    def write(self, model: str, seq: int, digest: str) -> None:
        """Notes an entry about a model."""


@dataclass(frozen=True)
class Head:
    """The last entry, and where each registered model stands after it."""

    seq: int
    digest: str
    states: Mapping[str, Any]


@dataclass
class LogReport:
    """Report of a check of the whole log.

    Attributes:
        entries: Those that could be read, in order.
        problems: Signs that the log was changed; empty for a sound one.
        gone: Those of the problems that tell of something missing, not of something else in its place.
        mendable: Those of the problems that the entries themselves make good again.
        notes: What is odd, but no such sign.
    """

    entries: list[Entry] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    mendable: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def lacks(self, problem: str, *, mendable: bool = False) -> None:
        """Adds a problem: something is missing."""
        self.problems.append(problem)
        self.gone.append(problem)
        if mendable:
            self.mendable.append(problem)


def signed_tags(entries: Sequence[Entry], label: str) -> dict[str, tuple[str, Entry]]:
    """Returns a version's tags that no manifest knows, as signed when it was registered, and the entry of each.

    Args:
        entries: The log.
        label: The version; a copy has the tags of the version that it was made from.
    """
    wanted: str | None = label
    found: dict[str, tuple[str, Entry]] = {}
    for entry in reversed(entries):
        if entry.action in ("register", "promote") and entry.details.get("version") == wanted:
            found |= {tag: (str(value), entry) for tag, value in entry.details.get("tags", {}).items()}
            wanted = entry.details.get("from")
    return found
