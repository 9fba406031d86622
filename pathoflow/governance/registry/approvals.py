"""Approvals: a person's signature over the digest of a model's weights, for one environment and a limited time."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pathoflow.errors import InputError, RefusedError, SignatureError
from pathoflow.governance.registry.access import Registry
from pathoflow.governance.registry.decisions import latest, seconds_between
from pathoflow.governance.registry.entries import Entry
from pathoflow.governance.registry.names import Environment, asked_in, environment_before, split
from pathoflow.governance.registry.verification import SKEW_S, find_version, verified_manifest, weights_digest
from pathoflow.governance.signing import PublicKey, TrustedKeys, sign_statement, verify_statement

APPROVAL = "urn:pathoflow:approval:v1"


@dataclass(frozen=True)
class Approval:
    """One approval with a verified signature.

    Attributes:
        id: Names it, for a revocation.
        approver: The name under which the key is trusted.
        key: The approver's key.
        model: The model, without the environment.
        environment: The environment that it lets the weights into.
        weights: SHA-256 in hex of what was approved.
        at: When it was given, UTC.
        expires_at: When it ends, UTC.
        comment: The approver's words.
    """

    id: str
    approver: str
    key: PublicKey
    model: str
    environment: str
    weights: str
    at: str
    expires_at: str
    comment: str


def approve(registry: Registry, asked: str, environment: Environment, days: float, comment: str) -> Approval:
    """Signs a model's weights with the approver's key and puts the approval into the log.

    Every byte and the model's signature are verified first: nobody approves what is not there.

    Raises:
        RefusedError: The key is no approver's, or the approver registered the version.
        SignatureError: The bytes or their signature do not hold.
    """
    if registry.trusted.role_of(registry.key.public) != "approver":
        raise RefusedError(
            f"{registry.key_path} is no approver's key. Approvers' public keys lie in "
            f"{registry.trusted_folder / 'approvers'}, and whoever keeps that folder decides on them."
        )
    [approver] = [key for key in registry.trusted.approvers if key.fingerprint == registry.key.public.fingerprint]
    version = find_version(registry, asked_in(asked, environment_before(environment)))
    manifest = verified_manifest(registry, version, with_bytes=True)
    model, _ = split(version.name)
    author = author_of(registry.log.entries(), manifest.identity)
    if author is None:
        raise RefusedError(f"The log knows no registration of {version.label}: there is nothing to approve.")
    if is_author(approver, author):
        raise RefusedError(f"{approver.name} registered {version.label}; somebody else has to approve it.")
    now = datetime.now(UTC)
    said = {
        "id": uuid.uuid4().hex[:12],
        "approver": approver.name,
        "model": model,
        "version": version.label,
        "environment": environment,
        "identity": manifest.identity,
        "at": now.isoformat(timespec="seconds"),
        "expires_at": (now + timedelta(days=days)).isoformat(timespec="seconds"),
        "comment": comment,
    }
    envelope = sign_statement(APPROVAL, {"weights": weights_digest(manifest)}, said, registry.key)
    details = {"version": version.label, "approval": envelope.decode(), "id": said["id"]}
    registry.log.append(registry.key, approver.name, "approve", model, details)
    return read_approval(envelope, registry.trusted)


def revoke(registry: Registry, approval_id: str, reason: str) -> None:
    """Takes an approval back: by whoever gave it, or by a registrar.

    Raises:
        InputError: The log knows no such approval.
        RefusedError: It was revoked before, or another approver gave it.
    """
    entries = registry.log.entries()
    given = [entry for entry in entries if entry.action == "approve" and entry.details.get("id") == approval_id]
    if not given:
        known = ", ".join(str(entry.details.get("id")) for entry in entries if entry.action == "approve") or "none"
        raise InputError(f"The log knows no approval {approval_id}. Known: {known}.")
    if approval_id in revoked(entries):
        raise RefusedError(f"Approval {approval_id} was revoked before.")
    by_approver = given[0].signer.fingerprint == registry.key.public.fingerprint
    if not by_approver and registry.trusted.role_of(registry.key.public) != "registrar":
        raise RefusedError(f"Approval {approval_id} is {given[0].signer.name}'s: they or a registrar can revoke it.")
    details = {"id": approval_id, "reason": reason, "version": given[0].details.get("version")}
    registry.log.append(registry.key, registry.actor, "revoke", given[0].model, details)


def read_approval(envelope: bytes, trusted: TrustedKeys) -> Approval:
    """Verifies an approval.

    Raises:
        SignatureError: It is damaged, or no trusted approver signed it.
    """
    statement = verify_statement(envelope, trusted.approvers, APPROVAL, "The approval")
    said: Any = statement.predicate
    try:
        return Approval(
            id=said["id"],
            approver=statement.signer.name,
            key=statement.signer,
            model=said["model"],
            environment=said["environment"],
            weights=statement.subjects["weights"],
            at=said["at"],
            expires_at=said["expires_at"],
            comment=said["comment"],
        )
    except KeyError as error:
        raise SignatureError(f"The approval lacks {error}.") from error


def revoked(entries: Iterable[Entry]) -> set[str]:
    """Returns the approvals that were taken back."""
    return {str(entry.details.get("id")) for entry in entries if entry.action == "revoke"}


def author_of(entries: Iterable[Entry], identity: str) -> Entry | None:
    """Returns the registration of a model, by its first entry."""
    found = (entry for entry in entries if entry.action == "register" and entry.details.get("identity") == identity)
    return next(found, None)


def is_author(approver: PublicKey, author: Entry) -> bool:
    """Returns whether an approver registered the version: by the name or by the key."""
    return approver.name == author.actor or approver.fingerprint == author.signer.fingerprint


def judge(
    entries: Sequence[Entry], trusted: TrustedKeys, *, model: str, environment: Environment, weights: str, identity: str
) -> tuple[list[Approval], list[str]]:
    """Judges the approvals of some weights: those that count now, one for each approver, and why others do not.

    Args:
        entries: The log.
        trusted: Whose approvals count.
        model: The model, without the environment.
        environment: Where the weights are to go.
        weights: Their digest.
        identity: The model's identity, by which its author is found.
    """
    now, taken_back, author = latest(entries), revoked(entries), author_of(entries, identity)
    counting: dict[str, Approval] = {}
    reasons: list[str] = []
    for entry in entries:
        if entry.action != "approve" or entry.model != model:
            continue
        try:
            approval = read_approval(str(entry.details.get("approval", "")).encode(), trusted)
        except SignatureError as error:
            reasons.append(f"entry {entry.seq}: {error}")
            continue
        if reason := _refusal(approval, author, taken_back, now, model, environment, weights):
            reasons.append(f"{approval.id} by {approval.approver} {reason}")
        else:
            counting[approval.key.fingerprint] = approval
    return list(counting.values()), reasons


def _refusal(
    approval: Approval,
    author: Entry | None,
    taken_back: set[str],
    now: str,
    model: str,
    environment: Environment,
    weights: str,
) -> str | None:
    """Returns why an approval does not count; None if it does."""
    refusals = (
        (approval.weights != weights or approval.model != model, "is for other weights"),
        (approval.environment != environment, f"is for {approval.environment}"),
        (approval.id in taken_back, "was revoked"),
        (seconds_between(approval.expires_at, now) >= 0, f"expired at {approval.expires_at}"),
        (seconds_between(now, approval.at) > SKEW_S, f"is dated in the future ({approval.at}): a clock is wrong"),
        (author is None or is_author(approval.key, author), "is the author's own"),
    )
    return next((reason for refused, reason in refusals if refused), None)
