"""Verifying a version's bytes and signature, and remembering by a signed record that it was done."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pathoflow.contract.config import canonical_json
from pathoflow.contract.references import Reference
from pathoflow.contract.sealing import Manifest
from pathoflow.errors import RegistryError, SignatureError
from pathoflow.governance.audit import Verdict, audit
from pathoflow.governance.audit.hashing import hash_all
from pathoflow.governance.audit.links import Links
from pathoflow.governance.audit.outputs import StoredOutput
from pathoflow.governance.audit.stores import UnreachableError
from pathoflow.governance.audit.versions import Version
from pathoflow.governance.audit.versions import find_version as look_up
from pathoflow.governance.registry.access import Registry
from pathoflow.governance.registry.decisions import seconds_between
from pathoflow.governance.registry.unchanged import state_of
from pathoflow.governance.signing import (
    SignedManifest,
    file_digests,
    sign_manifest,
    sign_statement,
    verify_manifest,
    verify_statement,
)
from pathoflow.stores.tracking import IDENTITY_TAG

VERIFICATION = "urn:pathoflow:verification:v1"
SKEW_S = 300.0
"""How far the clocks of two machines may differ before one of them is not believed, in seconds."""


@dataclass(frozen=True)
class Finding:
    """Finding of a verification, in one line."""

    verdict: Verdict
    detail: str


def find_version(registry: Registry, asked: str) -> Version:
    """Finds the version that a user names.

    Raises:
        InputError: There is no such model, alias or version; the message lists those that exist.
        RegistryError: MLflow cannot be reached.
    """
    try:
        return look_up(registry.client, asked)
    except UnreachableError as error:
        raise RegistryError(f"MLflow at {registry.tracking_uri} cannot be reached: {error}") from error


def model_of(registry: Registry, version: Version) -> StoredOutput:
    """Returns the version's own output, with its manifest and the files to hash."""
    identity = version.tags.get(IDENTITY_TAG, "")
    reference = Reference(stage="model", kind="model", identity=identity, model_uri=version.uri)
    output = StoredOutput("model", identity, reference, Links("model"))
    output.open(registry.places, with_md5=False)
    return output


def verified_manifest(registry: Registry, version: Version, *, with_bytes: bool) -> Manifest:
    """Verifies a version's model and returns its manifest: the signature and, if asked, every byte hashed again.

    Raises:
        SignatureError: A signature is missing or does not hold, or a byte is not what was signed.
    """
    output = model_of(registry, version)
    if with_bytes:
        output.judge(hash_all(output.files.values()))
    for link in output.links.found:
        if link.verdict is not Verdict.PASS:
            raise SignatureError(f"{version.label}: {link.check} {link.detail} ({link.where}).")
    if output.manifest is None:
        raise SignatureError(f"{version.label} has no manifest: it was not registered by the register stage.")
    verify_signature(registry, output.manifest)
    return output.manifest


def verify_signature(registry: Registry, manifest: Manifest) -> SignedManifest:
    """Verifies every signature that is kept for a model.

    Raises:
        SignatureError: There is none, or one does not hold.
    """
    prefix = signatures_of(manifest.identity)
    signed: SignedManifest | None = None
    for key in registry.objects.list(prefix):
        where = f"The signature {key} in {registry.objects.url}"
        signed = verify_manifest(registry.objects.get(key) or b"", registry.trusted, where)
        if signed.name != manifest.identity:
            raise SignatureError(f"{where} is over {signed.name}, not over {manifest.identity}.")
        signed.require(file_digests(manifest))
    if signed is None:
        raise SignatureError(f"Nobody signed {manifest.identity}: {prefix} in {registry.objects.url} is empty.")
    return signed


def sign_model(registry: Registry, manifest: Manifest) -> str:
    """Signs a model's list of files, once for each key, and returns the name of the signature's object."""
    key = f"{signatures_of(manifest.identity)}{registry.key.public.fingerprint[:32]}.sigstore.json"
    if registry.objects.get(key) is None:
        bundle = sign_manifest(manifest.identity, file_digests(manifest), registry.key)
        registry.objects.put_if_absent(key, bundle)
    verify_signature(registry, manifest)
    return key


def weights_digest(manifest: Manifest) -> str:
    """Digests the paths and digests of a model's files (SHA-256 in hex): what an approval is about."""
    return hashlib.sha256(canonical_json({file.path: file.sha256 for file in manifest.files})).hexdigest()


def verify_lineage(registry: Registry, version: Version, max_age_s: float) -> Finding:
    """Audits a version to its raw sources, or believes the record of a recent audit of the same version.

    Args:
        registry: Where.
        version: What.
        max_age_s: How old a record may be, in seconds; 0 believes none.
    """
    state = state_of(registry.places, version)
    if max_age_s > 0 and (at := _record(registry, version, state, max_age_s)):
        return Finding(Verdict.PASS, f"audited at {at}, unchanged since by every record (signed verification)")
    report = audit(version.label, registry.places)
    if report.verdict is Verdict.PASS:
        said = {"state": state, "at": _now(), "bytes": report.num_bytes}
        registry.objects.put(_record_key(version), sign_statement(VERIFICATION, {}, said, registry.key))
        return Finding(Verdict.PASS, f"{len(report.links)} checks, {report.num_bytes:,} bytes hashed again")
    worst = report.problems[0]
    more = f", and {len(report.problems) - 1} more" if len(report.problems) > 1 else ""
    return Finding(report.verdict, f"{worst.subject}, {worst.check}: {worst.detail} ({worst.where}){more}")


def _record(registry: Registry, version: Version, state: str, max_age_s: float) -> str | None:
    """Returns when a record says that this very state was audited, if it may be believed."""
    content = registry.objects.get(_record_key(version))
    if content is None:
        return None
    try:
        said: Mapping[str, Any] = verify_statement(content, registry.trusted.registrars, VERIFICATION).predicate
        age_s = seconds_between(said["at"], _now())
    except (SignatureError, KeyError, TypeError, ValueError):
        return None
    # A record from the future comes from a clock that is wrong, and says nothing about its age.
    believed = said.get("state") == state and -SKEW_S <= age_s <= max_age_s
    return str(said["at"]) if believed else None


def _record_key(version: Version) -> str:
    return f"verifications/{hashlib.sha256(version.tags.get(IDENTITY_TAG, '').encode()).hexdigest()}.json"


def signatures_of(identity: str) -> str:
    """Returns where the signatures over a model are kept."""
    return f"signatures/{identity.removeprefix('sha256:')}/"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
