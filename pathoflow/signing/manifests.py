"""A model's list of files, signed: which bytes somebody stands behind.

The signature is a bundle that `model_signing verify key` of the stock library accepts for the model's folder.
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pathoflow.config import canonical_json
from pathoflow.errors import SignatureError
from pathoflow.sealing import MANIFEST_FILE, Manifest
from pathoflow.signing.keys import KeyFile, PublicKey, TrustedKeys, key_password


@dataclass(frozen=True)
class SignedManifest:
    """What a verified signature says.

    Attributes:
        name: What was signed; the identity of a sealed output.
        files: SHA-256 in hex by path, the manifest's own among them.
        signer: The trusted key that made the signature.
    """

    name: str
    files: Mapping[str, str]
    signer: PublicKey

    def require(self, files: Mapping[str, str]) -> None:
        """Makes sure that `files`, SHA-256 in hex by path, are exactly those that were signed.

        Raises:
            SignatureError: Names the first file that differs.
        """
        for path in sorted(self.files.keys() | files.keys()):
            if self.files.get(path) != files.get(path):
                problem = "was not signed" if path not in self.files else "is missing"
                if path in self.files and path in files:
                    problem = f"has SHA-256 {files[path][:12]}…, but {self.files[path][:12]}… was signed"
                raise SignatureError(f"{path} of {self.name} {problem} (signature by {self.signer.name}).")


def file_digests(manifest: Manifest) -> dict[str, str]:
    """SHA-256 in hex of every file of a sealed directory, `manifest.json` included."""
    own = hashlib.sha256(manifest.text.encode()).hexdigest()
    return {MANIFEST_FILE: own} | {file.path: file.sha256 for file in manifest.files}


def sign_manifest(name: str, files: Mapping[str, str], key: KeyFile) -> bytes:
    """Signs a list of files and returns the bundle.

    Args:
        name: What is signed: the identity of a sealed output.
        files: SHA-256 in hex by path, as `file_digests` gives them.
        key: An elliptic curve key: the library signs with no other.

    Raises:
        SignatureError: The key is of another kind.
    """
    from model_signing import signing

    if key.kind != "ec":
        raise SignatureError(
            f"{key.path} is an Ed25519 key, and models are signed with elliptic curve keys. Make one with "
            "`pathoflow keys new PATH`."
        )
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "bundle"
        # Annotated as text, but handed on to `cryptography`, which wants bytes.
        password: Any = key_password()
        signer = signing.Config().use_elliptic_key_signer(private_key=key.path, password=password)
        signer.set_hashing_config(_listing(name, files)).sign(folder, target)
        return canonical_json(json.loads(target.read_bytes()))


def verify_manifest(bundle: bytes, trusted: TrustedKeys, where: str = "The signature") -> SignedManifest:
    """Verifies a signature over a list of files; the files themselves are compared by `SignedManifest.require`.

    Args:
        bundle: What `sign_manifest` returned.
        trusted: A registrar's key among these must have signed.
        where: What error messages call the signature.

    Raises:
        SignatureError: It is damaged, was made by a key that is not trusted, or does not fit what it stands beside.
    """
    from model_signing import verifying

    hint, name, files = _parse(bundle, where)
    signer = next((key for key in trusted.registrars if key.fingerprint == hint), None)
    if signer is None:
        known = ", ".join(f"{key.name} {key.fingerprint[:12]}…" for key in trusted.registrars)
        raise SignatureError(
            f"{where} was made by a key that is no trusted registrar's ({str(hint)[:12]}…). Trusted in "
            f"{trusted.folder}: {known}."
        )
    with tempfile.TemporaryDirectory() as folder:
        signature, public = Path(folder) / "bundle", Path(folder) / "key.pub"
        signature.write_bytes(bundle)
        public.write_text(signer.pem)
        config = verifying.Config().use_elliptic_key_verifier(public_key=public)
        try:
            config.set_hashing_config(_listing(name, files)).verify(Path(folder), signature)
        except Exception as error:
            # The library raises what its parsers and cryptography raise: each means that the signature does not hold.
            raise SignatureError(f"{where} does not hold: {type(error).__name__} {error}".rstrip()) from error
    return SignedManifest(name, files, signer)


def _parse(bundle: bytes, where: str) -> tuple[str, str, dict[str, str]]:
    """The signing key's fingerprint, the name and the files that a bundle claims; nothing is verified yet."""
    try:
        document = json.loads(bundle)
        payload = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"], validate=True))
        [subject] = payload["subject"]
        files = {item["name"]: item["digest"] for item in payload["predicate"]["resources"]}
        signed = base64.b64decode(document["dsseEnvelope"]["signatures"][0]["sig"], validate=True)
        # Base64 leaves bits at its end unused: a change there must show, too.
        exact = base64.b64encode(signed).decode() == document["dsseEnvelope"]["signatures"][0]["sig"]
        hint, name = document["verificationMaterial"]["publicKey"]["hint"], subject["name"]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise SignatureError(f"{where} is damaged: it is no bundle of model-signing.") from error
    if not exact or canonical_json(document) != bundle:
        raise SignatureError(f"{where} is damaged: it was changed after it was made.")
    return hint, name, files


def _listing(name: str, files: Mapping[str, str]) -> Any:
    """A hashing configuration of model-signing that hands over digests which are known already."""
    from model_signing import hashing, manifest

    form = manifest.SerializationType.from_args({"method": "files", "hash_type": "sha256", "allow_symlinks": False})
    digest = hashing.hashing.Digest
    items = [form.new_item(path, digest("sha256", bytes.fromhex(sha256))) for path, sha256 in files.items()]

    class Listing(hashing.Config):  # type: ignore[misc, unused-ignore]
        def hash(self, model_path: Any, *, files_to_hash: Any = None) -> Any:
            return manifest.Manifest(name, items, form)

    return Listing()
