"""Keys, signatures over lists of files and signed statements: what is accepted, and what each error says."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from pathoflow.errors import InputError, SignatureError
from pathoflow.governance.signing import (
    KeyFile,
    PublicKey,
    TrustedKeys,
    make_key,
    sign_manifest,
    sign_statement,
    verify_manifest,
    verify_statement,
)

KIND = "https://example.org/test/v1"


@pytest.fixture
def ec(tmp_path) -> KeyFile:
    return make_key(tmp_path / "keys" / "registrar.key", "ec")


@pytest.fixture
def ed25519(tmp_path) -> KeyFile:
    return make_key(tmp_path / "keys" / "approver.key", "ed25519")


@pytest.fixture
def trusted(tmp_path, ec, ed25519) -> TrustedKeys:
    folder = tmp_path / "trusted"
    TrustedKeys.add(folder, "registrar", ec.public)
    TrustedKeys.add(folder, "approver", ed25519.public)
    return TrustedKeys.load(folder)


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "weights with space.safetensors", "größe 病理.txt"):
        (folder / name).write_bytes(name.encode())
    return folder


def digests(folder) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def flips(content: bytes):
    """The content with one bit changed, at every place."""
    for place in range(len(content)):
        yield content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_a_signed_list_of_files_is_verified_and_names_the_file_that_differs(ec, trusted, model):
    bundle = sign_manifest("sha256:abc", digests(model), ec)
    signed = verify_manifest(bundle, trusted)
    assert (signed.name, signed.signer.name) == ("sha256:abc", "registrar")
    signed.require(digests(model))
    (model / "config.json").write_bytes(b"other")
    with pytest.raises(SignatureError, match=r"config\.json of sha256:abc has SHA-256 .* was signed"):
        signed.require(digests(model))
    (model / "config.json").unlink()
    with pytest.raises(SignatureError, match=r"config\.json .* is missing"):
        signed.require(digests(model))
    with pytest.raises(SignatureError, match=r"extra\.bin .* was not signed"):
        signed.require({**signed.files, "extra.bin": "00"})


def test_the_stock_library_accepts_our_signature_of_a_folder(ec, model, tmp_path):
    (tmp_path / "model.sig").write_bytes(sign_manifest("sha256:abc", digests(model), ec))
    (tmp_path / "key.pub").write_text(ec.public.pem)
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(model)]
    command += ["--signature", str(tmp_path / "model.sig"), "--public_key", str(tmp_path / "key.pub")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (model / "config.json").write_bytes(b"other")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


def test_no_byte_of_a_signature_can_change(tmp_path, ec, ed25519, trusted):
    second = make_key(tmp_path / "second.key", "ed25519")
    TrustedKeys.add(trusted.folder, "registrar", second.public)
    both = TrustedKeys.load(trusted.folder)
    for key in (ec, second):
        bundle = sign_manifest("sha256:abc", {"a": "00" * 32}, key)
        assert verify_manifest(bundle, both).signer.fingerprint == key.public.fingerprint
        for changed in flips(bundle):
            with pytest.raises(SignatureError):
                verify_manifest(changed, both)
    for key in (ec, ed25519):
        for changed in flips(sign_statement(KIND, {"model": "00" * 32}, {"a": 1}, key)):
            with pytest.raises(SignatureError):
                verify_statement(changed, trusted.every, KIND)


def test_a_statement_says_what_was_signed_by_whom(ec, ed25519, trusted):
    for key in (ec, ed25519):
        envelope = sign_statement(KIND, {"model": "00" * 32}, {"until": "2030", "é": [1.5]}, key)
        statement = verify_statement(envelope, trusted.every, KIND)
        assert (statement.subjects, statement.predicate) == ({"model": "00" * 32}, {"until": "2030", "é": [1.5]})
        assert statement.signer.fingerprint == key.public.fingerprint
    with pytest.raises(SignatureError, match="of another kind"):
        verify_statement(envelope, trusted.every, "https://example.org/other")
    with pytest.raises(SignatureError, match="not trusted for it"):
        verify_statement(envelope, trusted.registrars, KIND)


def test_a_strangers_signature_is_no_signature(tmp_path, trusted):
    stranger = make_key(tmp_path / "registrar.key", "ec")
    with pytest.raises(SignatureError, match=r"no trusted registrar's .*Trusted in .*registrar"):
        verify_manifest(sign_manifest("x", {"a": "00" * 32}, stranger), trusted)
    # An approver's key signs no models, whatever it calls itself.
    forged = json.loads(sign_manifest("x", {"a": "00" * 32}, stranger))
    forged["verificationMaterial"]["publicKey"]["hint"] = trusted.registrars[0].fingerprint
    content = json.dumps(forged, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(SignatureError, match="does not hold"):
        verify_manifest(content, trusted)


def test_key_files_that_will_not_do(tmp_path, ec, ed25519, monkeypatch):
    for path, words in ((tmp_path / "no.key", "does not exist"), (tmp_path, "cannot be read")):
        with pytest.raises(SignatureError, match=words):
            KeyFile.load(path)
    ec.path.chmod(0o644)
    with pytest.raises(SignatureError, match="chmod 600"):
        KeyFile.load(ec.path)
    ec.path.chmod(0o600)
    with pytest.raises(SignatureError, match="is an Ed25519 key, but an elliptic curve key"):
        KeyFile.load(ed25519.path, "ec")
    (tmp_path / "rubbish.key").write_text("rubbish")
    (tmp_path / "rubbish.key").chmod(0o600)
    with pytest.raises(SignatureError, match="no private key in PEM form"):
        KeyFile.load(tmp_path / "rubbish.key")
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "rsa.key").write_bytes(private.private_bytes(*form))
    (tmp_path / "rsa.key").chmod(0o600)
    with pytest.raises(SignatureError, match="of another kind"):
        KeyFile.load(tmp_path / "rsa.key")
    with pytest.raises(InputError, match="exists"):
        make_key(ec.path, "ec")
    monkeypatch.setenv("PATHOFLOW_KEY_PASSWORD", "secret")
    with pytest.raises(SignatureError, match="is not encrypted: unset"):
        KeyFile.load(ec.path)
    locked = make_key(tmp_path / "locked.key", "ec")
    sign_manifest("x", {"a": "00" * 32}, locked)
    monkeypatch.delenv("PATHOFLOW_KEY_PASSWORD")
    with pytest.raises(SignatureError, match="is encrypted: set"):
        KeyFile.load(locked.path)


def test_trusted_keys_that_will_not_do(tmp_path, ec, ed25519, trusted):
    with pytest.raises(SignatureError, match="No registrar's public key"):
        TrustedKeys.load(tmp_path / "nowhere")
    TrustedKeys.add(trusted.folder, "approver", PublicKey("other", ec.kind, ec.public.pem))
    with pytest.raises(SignatureError, match="both registrar and approver"):
        TrustedKeys.load(trusted.folder)
    (trusted.folder / "approvers" / "other.pub").unlink()
    (trusted.folder / "approvers" / "approver.pub").chmod(0o666)
    with pytest.raises(SignatureError, match="Everybody may write"):
        TrustedKeys.load(trusted.folder)
    (trusted.folder / "approvers" / "approver.pub").write_text("no key")
    (trusted.folder / "approvers" / "approver.pub").chmod(0o644)
    with pytest.raises(SignatureError, match="no public key in PEM form"):
        TrustedKeys.load(trusted.folder)
