"""Keys in files: private ones that only their owner can read, and the folder of public ones that are trusted."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pathoflow.errors import InputError, SignatureError
from pathoflow.system.files import write_atomically

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KeyKind = Literal["ec", "ed25519"]
Role = Literal["registrar", "approver"]

PASSWORD_VARIABLE = "PATHOFLOW_KEY_PASSWORD"
THROWAWAY = "throwaway"
"""The name of keys that a run makes for itself. What they sign proves that the machinery works, and nothing else."""

_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_KINDS = {"ec": "an elliptic curve key (NIST P-256, P-384 or P-521)", "ed25519": "an Ed25519 key"}
_FOLDERS: dict[Role, str] = {"registrar": "registrars", "approver": "approvers"}


@dataclass(frozen=True)
class PublicKey:
    """A public key under the name of who holds its private half.

    Attributes:
        name: The holder; the file's name where the key is trusted.
        kind: What the key is.
        pem: The key itself.
    """

    name: str
    kind: KeyKind
    pem: str

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the PEM text as hex: the hint that Sigstore bundles carry, and the key id in envelopes."""
        return hashlib.sha256(self.pem.encode()).hexdigest()

    @property
    def is_throwaway(self) -> bool:
        """True for a key that a run made for itself."""
        return self.name.startswith(THROWAWAY)

    @classmethod
    def load(cls, path: Path) -> PublicKey:
        """Reads a public key in PEM form.

        Raises:
            SignatureError: There is no such file, others may write it, or it holds no key of a known kind.
        """
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        content = _read(path, "public key")
        if path.stat().st_mode & stat.S_IWOTH:
            raise SignatureError(f"Everybody may write the public key {path}. Run `chmod o-w {path}` and check it.")
        try:
            key = load_pem_public_key(content)
        except ValueError as error:
            raise SignatureError(f"{path} is no public key in PEM form: {error}") from error
        return _public(key, path.stem, path)


@dataclass(frozen=True)
class KeyFile:
    """A private key in a file.

    Attributes:
        path: The file; libraries that sign read it themselves.
        public: Its public half under the file's name.
        private: The key itself.
    """

    path: Path
    public: PublicKey
    private: Any = field(repr=False)

    @property
    def kind(self) -> KeyKind:
        """Kind of the key."""
        return self.public.kind

    @classmethod
    def load(cls, path: Path, kind: KeyKind | None = None) -> KeyFile:
        """Reads a private key in PEM form; a password comes from `PATHOFLOW_KEY_PASSWORD`.

        Args:
            path: The key's file.
            kind: The only kind that will do.

        Raises:
            SignatureError: There is no such file, others may read it, the password is wrong or missing, or the key is
                of another kind.
        """
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        content = _read(path, "private key")
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SignatureError(
                f"Others than its owner may use the private key {path} (mode {path.stat().st_mode & 0o777:o}). "
                f"Run `chmod 600 {path}`; if others could have read it, make a new key."
            )
        try:
            key = load_pem_private_key(content, key_password())
        except TypeError as error:
            hint = "is not encrypted: unset" if key_password() else "is encrypted: set"
            raise SignatureError(f"The private key {path} {hint} {PASSWORD_VARIABLE}.") from error
        except ValueError as error:
            raise SignatureError(
                f"{path} is no private key in PEM form, or {PASSWORD_VARIABLE} is not its password: {error}"
            ) from error
        public = _public(key.public_key(), path.stem, path)
        if kind is not None and public.kind != kind:
            raise SignatureError(f"{path} is {_KINDS[public.kind]}, but {_KINDS[kind]} is needed here.")
        return cls(path, public, key)


@dataclass(frozen=True)
class TrustedKeys:
    """The public keys whose signatures count, by role.

    Registrars sign manifests, records and log entries; approvers sign approvals and nothing else. A key that is no
    longer used lies in `retired/` as `<name>.until-<number>.pub`: what it signed up to that entry of the decision log
    stays readable, and nothing newer counts.
    """

    folder: Path
    registrars: tuple[PublicKey, ...]
    approvers: tuple[PublicKey, ...]
    retired: tuple[tuple[PublicKey, int], ...] = ()

    @classmethod
    def load(cls, folder: Path) -> TrustedKeys:
        """Reads `registrars/*.pub`, `approvers/*.pub` and `retired/*.pub` below `folder`.

        Raises:
            SignatureError: There is no registrar's key, a key cannot be read, or one key or name has both roles.
        """
        found = {role: tuple(_keys_in(folder / name)) for role, name in _FOLDERS.items()}
        if not found["registrar"]:
            raise SignatureError(
                f"No registrar's public key is in {folder / _FOLDERS['registrar']}, so that no signature can be "
                "trusted. Add it with `pathoflow keys trust NAME.pub --as registrar`, or name the right folder in "
                "PATHOFLOW_TRUSTED_KEYS."
            )
        for approver in found["approver"]:
            for registrar in found["registrar"]:
                if approver.fingerprint == registrar.fingerprint or approver.name == registrar.name:
                    raise SignatureError(
                        f"{approver.name} in {folder} is both registrar and approver. Whoever registers models must "
                        "not approve them: take one of the two files away."
                    )
        retired = tuple(_retired(key) for key in _keys_in(folder / "retired"))
        in_use = {key.fingerprint for key in (*found["registrar"], *found["approver"])}
        for key, _ in retired:
            if key.fingerprint in in_use:
                raise SignatureError(f"The key {key.name} in {folder} is retired and in use. Take one file away.")
        return cls(folder, found["registrar"], found["approver"], retired)

    @property
    def every(self) -> tuple[PublicKey, ...]:
        """The keys of all roles."""
        return self.registrars + self.approvers

    def role_of(self, key: PublicKey) -> Role | None:
        """Returns the role that a key may sign in; None if it is not trusted."""
        if any(key.fingerprint == other.fingerprint for other in self.registrars):
            return "registrar"
        return "approver" if any(key.fingerprint == other.fingerprint for other in self.approvers) else None

    def may_sign(self, key: PublicKey, seq: int) -> bool:
        """Returns whether a key may have signed the entry of the decision log with this number."""
        return self.role_of(key) is not None or any(
            key.fingerprint == other.fingerprint and seq <= until for other, until in self.retired
        )

    @staticmethod
    def retire(folder: Path, name: str, seq: int) -> None:
        """Takes a trusted key out of use: nothing that it signs after entry `seq` of the decision log counts.

        Raises:
            InputError: No trusted key has that name.
        """
        for place in _FOLDERS.values():
            path = folder / place / f"{name}.pub"
            if path.is_file():
                (folder / "retired").mkdir(exist_ok=True)
                path.rename(folder / "retired" / f"{name}.until-{seq}.pub")
                return
        raise InputError(f"{folder} has no key {name!r} in use.")

    @staticmethod
    def add(folder: Path, role: Role, key: PublicKey) -> None:
        """Puts a public key under its name into the folder of its role."""
        target = folder / _FOLDERS[role]
        target.mkdir(parents=True, exist_ok=True)
        write_atomically(target / f"{key.name}.pub", key.pem)


def make_key(path: Path, kind: KeyKind) -> KeyFile:
    """Writes a new private key, readable by its owner only, which must not exist yet.

    Raises:
        InputError: There is a file of that name.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey as Ed25519

    key: EllipticCurvePrivateKey | Ed25519PrivateKey
    key = ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else Ed25519.generate()
    password = key_password()
    content = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption(),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise InputError(f"{path} exists. Choose another name: a key that is overwritten is lost.") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return KeyFile.load(path, kind)


def key_password() -> bytes | None:
    """Returns the password of private keys, if there is one."""
    return os.environ.get(PASSWORD_VARIABLE, "").encode() or None


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise SignatureError(f"The {what} {path} {reason}.") from error


def _public(key: Any, name: str, path: Path) -> PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    kind: KeyKind
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVES:
        kind = "ec"
    elif isinstance(key, Ed25519PublicKey):
        kind = "ed25519"
    else:
        raise SignatureError(f"{path} holds a key of another kind. Make {_KINDS['ec']}, or {_KINDS['ed25519']}.")
    return PublicKey(name, kind, key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def _keys_in(folder: Path) -> Iterator[PublicKey]:
    for path in sorted(folder.glob("*.pub")):
        yield PublicKey.load(path)


def _retired(key: PublicKey) -> tuple[PublicKey, int]:
    name, mark, number = key.name.rpartition(".until-")
    if not mark or not number.isdigit():
        raise SignatureError(f"The retired key {key.name}.pub must be called <name>.until-<number of a log entry>.pub.")
    return PublicKey(name, key.kind, key.pem), int(number)
