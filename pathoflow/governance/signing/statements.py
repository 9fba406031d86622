"""Signed statements: an in-toto statement in a DSSE envelope, for approvals, records, log entries and attestations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pathoflow.contract.config import canonical_json
from pathoflow.errors import SignatureError
from pathoflow.governance.signing.keys import KeyFile, PublicKey

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class Statement:
    """Content of a verified envelope.

    Attributes:
        predicate_type: What kind of statement it is, a URI.
        subjects: SHA-256 in hex of what it is about, by name.
        predicate: What is said.
        signer: The trusted key that made the signature.
    """

    predicate_type: str
    subjects: Mapping[str, str]
    predicate: Mapping[str, Any]
    signer: PublicKey


def sign_statement(
    predicate_type: str, subjects: Mapping[str, str], predicate: Mapping[str, Any], key: KeyFile
) -> bytes:
    """Signs a statement and returns its envelope in canonical JSON.

    Args:
        predicate_type: What kind of statement it is, a URI.
        subjects: SHA-256 in hex of what it is about, by name.
        predicate: What is said, as JSON values.
        key: An elliptic curve or Ed25519 key.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner

    payload = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": sha256}} for name, sha256 in sorted(subjects.items())],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }
    envelope = Envelope(canonical_json(payload), PAYLOAD_TYPE, {})
    envelope.sign(CryptoSigner(key.private, _library_key(key.public)))
    return canonical_json(envelope.to_dict())


def verify_statement(
    envelope: bytes, trusted: Iterable[PublicKey], predicate_type: str, where: str = "The statement"
) -> Statement:
    """Verifies an envelope, which must be exactly as `sign_statement` wrote it, and returns what it says.

    Args:
        envelope: What `sign_statement` returned.
        trusted: One of these keys must have signed.
        predicate_type: What kind of statement it must be.
        where: What error messages call the statement.

    Raises:
        SignatureError: It is damaged, of another kind, or not signed by a trusted key.
    """
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError

    keys = {key.fingerprint: key for key in trusted}
    try:
        parsed = Envelope.from_dict(json.loads(envelope))
        exact = canonical_json(parsed.to_dict()) == envelope
        payload = json.loads(parsed.payload)
        subjects = {subject["name"]: subject["digest"]["sha256"] for subject in payload["subject"]}
        found, predicate = payload["predicateType"], payload["predicate"]
        [signature] = parsed.signatures
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SignatureError(f"{where} is damaged: it is no signed statement.") from error
    if not exact:
        raise SignatureError(f"{where} is damaged: it was changed after it was signed.")
    if signature not in keys:
        raise SignatureError(f"{where} was signed by a key that is not trusted for it ({signature[:12]}…).")
    try:
        parsed.verify([_library_key(keys[signature])], 1)
    except VerificationError as error:
        raise SignatureError(
            f"{where} does not hold: it is not what {keys[signature].name} signed with {signature[:12]}…."
        ) from error
    if found != predicate_type or payload.get("_type") != STATEMENT_TYPE or parsed.payload_type != PAYLOAD_TYPE:
        raise SignatureError(f"{where} is of another kind: {found}, not {predicate_type}.")
    return Statement(found, subjects, predicate, keys[signature])


def _library_key(key: PublicKey) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    return SSlibKey.from_crypto(load_pem_public_key(key.pem.encode()), keyid=key.fingerprint)  # type: ignore[arg-type, unused-ignore]
