"""Approvals that must not count: for other bytes, one's own, expired, revoked, forged."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from pathoflow.errors import InputError, RefusedError, SignatureError
from pathoflow.governance.registry import approvals, decisions
from pathoflow.governance.signing import PublicKey, TrustedKeys

WEIGHTS = "ab" * 32


@pytest.fixture
def staged(case):
    """Versions 2 and 3 of dev are versions 1 and 2 of staging."""
    case.promote("toy/2")
    case.promote("toy/3")
    return case


def refused(case, words: str, asked: str = "toy/2") -> None:
    with pytest.raises(RefusedError, match=rf"(?s)FAIL approval: .*{words}"):
        case.promote(asked, "prod")


def test_an_approval_is_for_its_bytes_and_its_stage_only(staged):
    approvals.approve(staged.registry(staged.approver), "toy/1", "prod", 1, "")
    refused(staged, "is for other weights")
    # The same signed text, put into the log again under the other version's name.
    registry = staged.registry(staged.approver)
    [entry] = [entry for entry in registry.log.entries() if entry.action == "approve"]
    registry.log.append(registry.key, "approver", "approve", "toy", {**entry.details, "version": "toy.staging/2"})
    refused(staged, "is for other weights")
    approvals.approve(staged.registry(staged.approver), "toy.dev/3", "staging", 1, "")
    refused(staged, "is for staging")
    staged.promote("toy/1", "prod")


def test_nobody_approves_their_own(staged, monkeypatch):
    log = staged.registry().log.entries()
    author = log[0].actor
    folder = staged.workdir.root / "keys" / "trusted" / "approvers"
    (folder / "approver.pub").rename(folder / f"{author}.pub")
    with pytest.raises(RefusedError, match=f"{author} registered toy.staging/2; somebody else"):
        approvals.approve(staged.registry(staged.approver), "toy/2", "prod", 1, "")
    # Whoever approves under another name and is found out later.
    (folder / f"{author}.pub").rename(folder / "approver.pub")
    approvals.approve(staged.registry(staged.approver), "toy/2", "prod", 1, "")
    (folder / "approver.pub").rename(folder / f"{author}.pub")
    refused(staged, "is the author's own")


def test_a_registrars_key_and_a_strangers_approve_nothing(staged, stranger):
    with pytest.raises(RefusedError, match="is no approver's key"):
        approvals.approve(staged.registry(), "toy/2", "prod", 1, "")
    with pytest.raises(SignatureError, match="is not trusted"):
        approvals.approve(staged.registry(stranger.path), "toy/2", "prod", 1, "")


def test_expired_revoked_and_untrusted_approvals_do_not_count(staged, monkeypatch):
    given = approvals.approve(staged.registry(staged.approver), "toy/2", "prod", 1, "")
    later = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    with monkeypatch.context() as patch:
        patch.setattr(approvals, "latest", lambda entries: later)
        refused(staged, "expired at")
    with pytest.raises(RefusedError, match="is approver's: they or a registrar"):
        approvals.revoke(staged.registry(staged.second_approver), given.id, "")
    with pytest.raises(InputError, match=f"no approval nonsense. Known: {given.id}"):
        approvals.revoke(staged.registry(), "nonsense", "")
    approvals.revoke(staged.registry(staged.approver), given.id, "found a fault")
    refused(staged, "was revoked")
    with pytest.raises(RefusedError, match="was revoked before"):
        approvals.revoke(staged.registry(), given.id, "")
    approvals.approve(staged.registry(staged.second_approver), "toy/2", "prod", 1, "")
    trusted = staged.workdir.root / "keys" / "trusted"
    TrustedKeys.retire(trusted, "second_approver", staged.registry().log.head().seq)
    refused(staged, "not trusted for it")
    assert staged.registry().log.verify().problems == []
    with pytest.raises(SignatureError, match="is not trusted"):
        approvals.approve(staged.registry(staged.second_approver), "toy/2", "prod", 1, "")
    # A retired key whose holder goes on writing to the store.
    [path] = (trusted / "retired").iterdir()
    path.rename(trusted / "retired" / "second_approver.until-3.pub")
    assert "after that key was retired" in staged.registry().log.verify().problems[0]


def test_a_clock_that_was_turned_back_revives_nothing(staged, monkeypatch):
    """The log's latest entry is the present, if this machine's clock is behind it."""
    entries = staged.registry().log.entries()
    future = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    late = dataclasses.replace(entries[-1], at=future)
    assert decisions.latest([*entries, late]) == future
    assert decisions.latest(entries) > entries[-1].at


def test_two_approvals_are_of_two_people(staged):
    two = staged.gates.model_copy(update={"prod": staged.gates.prod.model_copy(update={"num_approvals": 2})})
    staged.gates = two
    for _ in range(2):
        approvals.approve(staged.registry(staged.approver), "toy/2", "prod", 1, "")
    refused(staged, "1 of 2")
    approvals.approve(staged.registry(staged.second_approver), "toy/2", "prod", 1, "")
    staged.promote("toy/2", "prod")


def test_nobody_approves_bytes_that_were_changed(staged):
    stored = (staged.workdir.mlflow / "artifacts").rglob("weights.bin")
    [target] = [path for path in stored if path.stat().st_size == 256]
    content = bytearray(target.read_bytes())
    content[7] ^= 1
    target.write_bytes(content)
    with pytest.raises(SignatureError, match=r"weights\.bin was changed"):
        approvals.approve(staged.registry(staged.approver), "toy/2", "prod", 1, "")


def test_one_key_cannot_be_registrar_and_approver(staged):
    key = staged.registry().key
    TrustedKeys.add(staged.workdir.root / "keys" / "trusted", "approver", PublicKey("x", key.kind, key.public.pem))
    with pytest.raises(SignatureError, match="both registrar and approver"):
        staged.promote("toy/2", "prod")
