"""The decision log: every registration, promotion, refusal, approval and rollback, in a chain that shows any change.

Each entry is an object of its own, `log/<number>.json`: a statement signed by whoever decided, which names the digest
of the entry before it. `log-head.json`, signed by a registrar, names the last entry that a registrar wrote, and the
anchors, which another service keeps, name the last one. An edited, missing, moved or foreign entry breaks a signature
or the chain; a shortened log falls short of the head or of an anchor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from pathoflow.errors import RegistryError, SignatureError
from pathoflow.governance.registry.entries import Action, Anchor, Anchors, Entry, Head, LogReport
from pathoflow.governance.registry.names import split
from pathoflow.governance.signing import KeyFile, TrustedKeys, sign_statement, verify_statement
from pathoflow.stores.objects import ObjectStore

DECISION = "urn:pathoflow:decision:v1"
HEAD = "urn:pathoflow:log-head:v1"
HEAD_KEY = "log-head.json"
PREFIX = "log/"
NOTHING = "0" * 64
"""What the first entry names as the one before it."""

_HEAD_GONE = f"{HEAD_KEY}, which names the last entry of the decision log, is missing: it was removed."
_APPROVERS_MAY: tuple[Action, ...] = ("approve", "revoke")
_SKEW_S = 300.0
_WAIT_S = 120.0
_TRIES = 3


class DecisionLog:
    """The log in one object store.

    Args:
        objects: The store.
        trusted: Whose signatures count.
        anchors: Where the head is noted besides.
    """

    def __init__(self, objects: ObjectStore, trusted: TrustedKeys, anchors: Anchors) -> None:
        self.objects, self._trusted, self._anchors = objects, trusted, anchors

    def append(self, key: KeyFile, actor: str, action: Action, model: str, details: Mapping[str, Any]) -> Entry:
        """Adds an entry, after a check that the log's end is as it was left.

        `details["after"]`, if given, says where a registered model stands now: `{registered: state}`.

        Raises:
            RegistryError: The log's end was changed, or the store cannot be reached.
            SignatureError: The key may not decide this.
        """
        with self.objects.lock("log", _WAIT_S) as check:
            head = self.sound_head(model)
            seq, previous = head.seq + 1, head.digest
            predicate = {
                "seq": seq,
                "previous": previous,
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "actor": actor,
                "action": action,
                "model": model,
                "details": dict(details),
            }
            content = sign_statement(DECISION, {}, predicate, key)
            entry = self._entry(seq, content)
            check()
            if not self.objects.put_if_absent(_key(seq), content):
                raise RegistryError(
                    f"{_key(seq)} in {self.objects.url} was written by somebody else meanwhile. Run the command again."
                )
            # The head says where every model stands, which is the registrars' to say.
            if self._trusted.role_of(key.public) == "registrar":
                states = dict(head.states) | dict(details.get("after", {}))
                self._write_head(Head(seq, entry.digest, states), key)
            self._anchors.write(model, seq, entry.digest)
        return entry

    def head(self) -> Head:
        """Returns the last entry; where a killed writer left the noted head behind, it is read on from there.

        Raises:
            RegistryError: The log is shorter than its head says, or its end was changed.
        """
        noted = self._noted_head()
        if self._lost_head(noted):
            raise RegistryError(f"{_HEAD_GONE} `pathoflow registry --repair` writes it again from a sound log.")
        if noted.seq and self._digest(noted.seq) != noted.digest:
            raise RegistryError(
                f"The decision log in {self.objects.url} was changed: {_key(noted.seq)} is not the entry that its head "
                "names. Nothing can be decided on it; see `pathoflow log verify`."
            )
        seq, digest, states = noted.seq, noted.digest, dict(noted.states)
        while (content := self.objects.get(_key(seq + 1))) is not None:
            try:
                entry = self._entry(seq + 1, content)
            except SignatureError as error:
                raise RegistryError(f"The decision log was changed: {error} See `pathoflow log verify`.") from error
            if entry.previous != digest:
                raise RegistryError(
                    f"The decision log in {self.objects.url} was changed: {_key(entry.seq)} does not follow the entry "
                    "before it. See `pathoflow log verify`."
                )
            seq, digest = entry.seq, entry.digest
            states |= dict(entry.details.get("after", {}))
        return Head(seq, digest, states)

    def sound_head(self, model: str) -> Head:
        """Returns the last entry if the log reaches as far as was noted elsewhere; asked before a model moves.

        Raises:
            RegistryError: The log was changed, or a note of it is gone.
        """
        anchors = self._anchors.read(_models(self.head().states))
        # Read after the notes: whoever adds an entry meanwhile writes it before its note.
        head = self.head()
        self._require_anchors(anchors, head, model)
        return head

    def entries(self, since: int = 0) -> list[Entry]:
        """Reads the entries with a number above `since`, each with a verified signature and its place in the chain.

        Raises:
            RegistryError: The log was changed.
        """
        numbers = range(since + 1, self.head().seq + 1)
        with ThreadPoolExecutor(8) as pool:
            contents = list(pool.map(lambda seq: self.objects.get(_key(seq)), numbers))
        found: list[Entry] = []
        for seq, content in zip(numbers, contents, strict=True):
            try:
                entry = self._entry(seq, content or b"")
            except SignatureError as error:
                raise RegistryError(f"The decision log was changed: {error} See `pathoflow log verify`.") from error
            if found and entry.previous != found[-1].digest:
                raise RegistryError(
                    f"The decision log was changed: {_key(seq)} does not follow the entry before it. See `pathoflow "
                    "log verify`."
                )
            found.append(entry)
        return found

    def verify(self) -> LogReport:
        """Checks every entry, the chain, the head and the anchors, and goes on after a fault."""
        report = self._checked()
        for _ in range(_TRIES):
            if not report.gone:
                break
            # An entry that was added while the log was read looks like one that is missing.
            before, report = report, self._checked()
            if report.problems == before.problems:
                break
        return report

    def _checked(self) -> LogReport:
        report = LogReport()
        contents = self._all(report)
        digests = {seq: hashlib.sha256(content).hexdigest() for seq, content in contents.items()}
        last = max(contents, default=0)
        for seq in range(1, last + 1):
            if seq not in contents:
                report.lacks(f"{_key(seq)} is missing: an entry was removed.")
                continue
            try:
                entry = self._entry(seq, contents[seq])
            except SignatureError as error:
                report.problems.append(str(error))
                continue
            before = digests.get(seq - 1, NOTHING if seq == 1 else None)
            if before is not None and entry.previous != before:
                report.problems.append(
                    f"{_key(seq)} follows another entry {seq - 1} than the one that is there: that one was replaced, "
                    "or the log was forked."
                )
            report.entries.append(entry)
        _compare_clocks(report)
        self._check_head(report, digests, last)
        self._check_anchors(report, digests, last)
        return report

    def _all(self, report: LogReport) -> dict[int, bytes]:
        keys = self.objects.list(PREFIX)
        with ThreadPoolExecutor(8) as pool:
            contents = list(pool.map(self.objects.get, keys))
        found: dict[int, bytes] = {}
        for key, content in zip(keys, contents, strict=True):
            name = key.removeprefix(PREFIX).removesuffix(".json")
            if not name.isascii() or not name.isdigit() or key != _key(int(name)) or int(name) < 1:
                report.problems.append(f"{key} is no entry: somebody else writes to the log.")
            else:
                found[int(name)] = content or b""
        return found

    def _check_head(self, report: LogReport, digests: Mapping[int, str], last: int) -> None:
        try:
            noted = self._noted_head()
        except RegistryError as error:
            report.problems.append(str(error))
            return
        if self._lost_head(noted):
            report.lacks(_HEAD_GONE, mendable=True)
        elif noted.seq > last:
            report.lacks(f"The log ends at {last}, but its head names entry {noted.seq}: it was cut short.")
        elif noted.seq and digests.get(noted.seq) != noted.digest:
            report.problems.append(
                f"The head names another entry {noted.seq} than the one that is there: it was replaced, or the log was "
                "forked."
            )
        elif any(entry.seq > noted.seq and entry.action not in _APPROVERS_MAY for entry in report.entries):
            report.notes.append(
                f"The head names entry {noted.seq} of {last}: a writer was killed, or an older head was put back; "
                "the next entry sets it right."
            )

    def _check_anchors(self, report: LogReport, digests: Mapping[int, str], last: int) -> None:
        states = {name for entry in report.entries for name in entry.details.get("after", {})}
        for anchor in self._anchors.read(_models(states)):
            if anchor.gone:
                report.lacks(_anchor_gone(anchor), mendable=True)
            elif anchor.seq > last:
                report.lacks(
                    f"The log ends at {last}, but the {anchor.where} names entry {anchor.seq}: it was cut short."
                )
            elif digests.get(anchor.seq) != anchor.digest:
                report.problems.append(
                    f"The {anchor.where} names another entry {anchor.seq} than the one that is there: the log was "
                    "forked, or the tag was changed."
                )

    def mend(self, key: KeyFile) -> list[str]:
        """Writes the head and the anchors again where they are gone, from a log that is sound in all else.

        Returns:
            What was gone.

        Raises:
            RegistryError: The log was changed.
        """
        with self.objects.lock("log", _WAIT_S):
            report = self.verify()
            if wrong := [problem for problem in report.problems if problem not in report.mendable]:
                raise RegistryError(f"The decision log was changed: {wrong[0]} See `pathoflow log verify`.")
            if not report.mendable:
                return []
            states: dict[str, Any] = {}
            for entry in report.entries:
                states |= dict(entry.details.get("after", {}))
            last = report.entries[-1]
            self._write_head(Head(last.seq, last.digest, states), key)
            for anchor in self._anchors.read(_models(states)):
                if anchor.gone:
                    self._anchors.write(anchor.model, last.seq, last.digest)
        return report.mendable

    def note_again(self, entry: Entry, key: KeyFile) -> None:
        """Writes the head and the anchor that the killed writer of an entry may not have come to."""
        with self.objects.lock("log", _WAIT_S):
            head = self.head()
            self._write_head(head, key)
            noted = [anchor.seq for anchor in self._anchors.read((entry.model,)) if anchor.model == entry.model]
            if max(noted, default=0) < entry.seq:
                self._anchors.write(entry.model, entry.seq, entry.digest)

    def _require_anchors(self, anchors: Sequence[Anchor], head: Head, model: str) -> None:
        """Makes sure that the log reaches as far as anybody noted: a new entry must not hide that it was cut short."""
        for anchor in anchors:
            if anchor.gone and anchor.model == model:
                raise RegistryError(f"{_anchor_gone(anchor)} `pathoflow registry --repair` writes it again.")
            if anchor.seq > head.seq or (anchor.seq == head.seq and anchor.digest != head.digest):
                raise RegistryError(
                    f"The decision log in {self.objects.url} ends at entry {head.seq}, but the {anchor.where} names "
                    f"entry {anchor.seq} {anchor.digest[:12]}…: the log was cut short or forked. See `pathoflow log "
                    "verify`."
                )

    def _noted_head(self) -> Head:
        content = self.objects.get(HEAD_KEY)
        if content is None:
            return Head(0, NOTHING, {})
        try:
            where = f"{HEAD_KEY} in {self.objects.url}"
            keys = (*self._trusted.registrars, *(key for key, _ in self._trusted.retired))
            statement = verify_statement(content, keys, HEAD, where)
            said = statement.predicate
            if not self._trusted.may_sign(statement.signer, int(said["seq"])):
                raise SignatureError(f"{where} was signed by {statement.signer.name} after that key was retired.")
            return Head(int(said["seq"]), str(said["digest"]), dict(said["states"]))
        except (SignatureError, KeyError, TypeError, ValueError) as error:
            raise RegistryError(
                f"The head of the decision log was changed: {error} See `pathoflow log verify`; with a sound log, "
                f"remove {HEAD_KEY}, and `pathoflow registry --repair` writes it again."
            ) from error

    def _lost_head(self, noted: Head) -> bool:
        """Returns whether the head was removed: only before the second entry may there be none."""
        return noted.seq == 0 and self.objects.get(_key(2)) is not None

    def _write_head(self, head: Head, key: KeyFile) -> None:
        said = {"seq": head.seq, "digest": head.digest, "states": dict(head.states)}
        self.objects.put(HEAD_KEY, sign_statement(HEAD, {}, said, key))

    def _digest(self, seq: int) -> str | None:
        content = self.objects.get(_key(seq))
        return None if content is None else hashlib.sha256(content).hexdigest()

    def _entry(self, seq: int, content: bytes) -> Entry:
        """Reads an entry.

        Raises:
            SignatureError: It is damaged, stands at the wrong place, or its signer may not decide this.
        """
        where = f"{_key(seq)} in {self.objects.url}"
        if not content:
            raise SignatureError(f"{where} is empty.")
        keys = (*self._trusted.every, *(key for key, _ in self._trusted.retired))
        statement = verify_statement(content, keys, DECISION, where)
        if not self._trusted.may_sign(statement.signer, seq):
            raise SignatureError(f"{where} was signed by {statement.signer.name} after that key was retired.")
        said = statement.predicate
        try:
            entry = Entry(
                seq=int(said["seq"]),
                at=str(said["at"]),
                actor=str(said["actor"]),
                signer=statement.signer,
                action=said["action"],
                model=str(said["model"]),
                details=dict(said["details"]),
                digest=hashlib.sha256(content).hexdigest(),
                previous=str(said["previous"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SignatureError(f"{where} lacks {error}.") from error
        if entry.seq != seq:
            raise SignatureError(f"{where} is entry {entry.seq}: entries were put in another order.")
        if self._trusted.role_of(entry.signer) == "approver" and entry.action not in _APPROVERS_MAY:
            raise SignatureError(f"{where}: {entry.signer.name} is an approver and may not {entry.action}.")
        return entry


def _compare_clocks(report: LogReport) -> None:
    """Notes entries that are older than the one before by their own clock."""
    for before, entry in zip(report.entries, report.entries[1:], strict=False):
        if seconds_between(entry.at, before.at) > _SKEW_S:
            report.notes.append(
                f"{_key(entry.seq)} by {entry.actor} is dated {entry.at}, before the entry before it ({before.at}): "
                "a clock is wrong."
            )


def seconds_between(start: str, end: str) -> float:
    """Returns the seconds from one ISO time to another; negative if they stand the other way round.

    >>> seconds_between("2026-01-01T00:00:00+00:00", "2026-01-01T00:01:00+00:00")
    60.0
    """
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def latest(entries: Sequence[Entry]) -> str:
    """Returns the later of this machine's clock and the log's: turning a clock back revives nothing."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    return max([now, *(entry.at for entry in entries)], key=datetime.fromisoformat)


def _anchor_gone(anchor: Anchor) -> str:
    return (
        f"The {anchor.where}, which notes how far the decision log reaches, is missing: it was removed, or not written."
    )


def _models(names: Collection[str]) -> set[str]:
    """Returns the models, without the environment, of registered models."""
    return {split(name)[0] for name in names}


def _key(seq: int) -> str:
    return f"{PREFIX}{seq:012d}.json"
