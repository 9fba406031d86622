"""A model's list of files, signed: which bytes somebody stands behind.

The signature is a Sigstore bundle with the statement of model-signing. One by an elliptic curve key is accepted by the
stock library's `model_signing verify key` for the model's folder; the library knows no Ed25519 keys.
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

from pathoflow.contract.config import canonical_json
from pathoflow.contract.sealing import MANIFEST_FILE, Manifest
from pathoflow.errors import SignatureError
from pathoflow.governance.signing.keys import KeyFile, PublicKey, TrustedKeys, key_password, make_key
from pathoflow.governance.signing.statements import PAYLOAD_TYPE

_MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


@dataclass(frozen=True)
class SignedManifest:
    """Statement of a verified signature.

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
    """Returns SHA-256 in hex of every file of a sealed directory, `manifest.json` included."""
    own = hashlib.sha256(manifest.text.encode()).hexdigest()
    return {MANIFEST_FILE: own} | {file.path: file.sha256 for file in manifest.files}


def sign_manifest(name: str, files: Mapping[str, str], key: KeyFile) -> bytes:
    """Signs a list of files and returns the bundle.

    model-signing itself signs with elliptic curve keys only. For an Ed25519 key it writes the statement, under a key
    that lives for this call, and the Ed25519 signature over the same statement takes the place of that key's.

    Args:
        name: What is signed: the identity of a sealed output.
        files: SHA-256 in hex by path, as `file_digests` gives them.
        key: An elliptic curve or Ed25519 key.
    """
    from model_signing import signing

    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "bundle"
        library_key = key.path if key.kind == "ec" else make_key(Path(folder) / "key", "ec").path
        # Annotated as text, but handed on to `cryptography`, which wants bytes.
        password: Any = key_password()
        signer = signing.Config().use_elliptic_key_signer(private_key=library_key, password=password)
        signer.set_hashing_config(_listing(name, files)).sign(folder, target)
        document = json.loads(target.read_bytes())
    if key.kind == "ed25519":
        signed = key.private.sign(_signed_text(document))
        document["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signed).decode()
        document["verificationMaterial"]["publicKey"]["hint"] = key.public.fingerprint
    return canonical_json(document)


def verify_manifest(bundle: bytes, trusted: TrustedKeys, where: str = "The signature") -> SignedManifest:
    """Verifies a signature over a list of files; the files themselves are compared by `SignedManifest.require`.

    Args:
        bundle: What `sign_manifest` returned.
        trusted: A registrar's key among these must have signed.
        where: What error messages call the signature.

    Raises:
        SignatureError: It is damaged, was made by a key that is not trusted, or does not fit what it stands beside.
    """
    hint, name, files = _parse(bundle, where)
    signer = next((key for key in trusted.registrars if key.fingerprint == hint), None)
    if signer is None:
        known = ", ".join(f"{key.name} {key.fingerprint[:12]}…" for key in trusted.registrars)
        raise SignatureError(
            f"{where} was made by a key that is no trusted registrar's ({str(hint)[:12]}…). Trusted in "
            f"{trusted.folder}: {known}."
        )
    try:
        if signer.kind == "ed25519":
            _verify_ed25519(json.loads(bundle), signer)
        else:
            _verify_with_library(bundle, signer, _listing(name, files))
    except Exception as error:
        # The library raises what its parsers and cryptography raise: each means that the signature does not hold.
        raise SignatureError(f"{where} does not hold: {type(error).__name__} {error}".rstrip()) from error
    return SignedManifest(name, files, signer)


def _verify_with_library(bundle: bytes, signer: PublicKey, listing: Any) -> None:
    from model_signing import verifying

    with tempfile.TemporaryDirectory() as folder:
        signature, public = Path(folder) / "bundle", Path(folder) / "key.pub"
        signature.write_bytes(bundle)
        public.write_text(signer.pem)
        config = verifying.Config().use_elliptic_key_verifier(public_key=public)
        config.set_hashing_config(listing).verify(Path(folder), signature)


def _verify_ed25519(document: Any, signer: PublicKey) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    public: Any = load_pem_public_key(signer.pem.encode())
    public.verify(base64.b64decode(document["dsseEnvelope"]["signatures"][0]["sig"]), _signed_text(document))


def _signed_text(document: Any) -> bytes:
    """Returns the text under a bundle's signature: its statement, as DSSE encodes it."""
    from securesystemslib.dsse import Envelope

    envelope = document["dsseEnvelope"]
    text: bytes = Envelope(base64.b64decode(envelope["payload"]), envelope["payloadType"], {}).pae()
    return text


def _parse(bundle: bytes, where: str) -> tuple[str, str, dict[str, str]]:
    """Parses the key's fingerprint, the name and the files that a bundle claims; nothing is verified yet."""
    try:
        document = json.loads(bundle)
        payload = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"], validate=True))
        [subject] = payload["subject"]
        files = {item["name"]: item["digest"] for item in payload["predicate"]["resources"]}
        signed = base64.b64decode(document["dsseEnvelope"]["signatures"][0]["sig"], validate=True)
        hint, name = document["verificationMaterial"]["publicKey"]["hint"], subject["name"]
        form = {
            "dsseEnvelope": {
                "payload": document["dsseEnvelope"]["payload"],
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"keyid": "", "sig": base64.b64encode(signed).decode()}],
            },
            "mediaType": _MEDIA_TYPE,
            "verificationMaterial": {"publicKey": {"hint": hint}, "tlogEntries": []},
        }
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise SignatureError(f"{where} is damaged: it is no bundle of model-signing.") from error
    # Written anew from what counts: base64 leaves bits at its end unused, and a change there must show, too.
    if canonical_json(form) != bundle:
        raise SignatureError(f"{where} is damaged: it was changed after it was made.")
    return hint, name, files


def _listing(name: str, files: Mapping[str, str]) -> Any:
    """Builds a hashing configuration of model-signing that hands over digests which are known already."""
    from model_signing import hashing, manifest

    form = manifest.SerializationType.from_args({"method": "files", "hash_type": "sha256", "allow_symlinks": False})
    digest = hashing.hashing.Digest
    items = [form.new_item(path, digest("sha256", bytes.fromhex(sha256))) for path, sha256 in files.items()]

    class Listing(hashing.Config):  # type: ignore[misc, unused-ignore]
        def hash(self, model_path: Any, *, files_to_hash: Any = None) -> Any:
            return manifest.Manifest(name, items, form)

    return Listing()
