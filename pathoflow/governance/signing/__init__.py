"""Signatures: who stands behind a model's bytes, an approval or a record, by keys that lie in files.

Two forms, each of a library: a model's list of files is signed in the form of `model-signing` (a Sigstore bundle),
everything else is an in-toto statement in a DSSE envelope by `securesystemslib`. Keys are elliptic curve or Ed25519,
and no network is needed to sign or to verify.
"""

from pathoflow.governance.signing.keys import KeyFile, PublicKey, TrustedKeys, make_key
from pathoflow.governance.signing.manifests import SignedManifest, file_digests, sign_manifest, verify_manifest
from pathoflow.governance.signing.statements import Statement, sign_statement, verify_statement

__all__ = [
    "KeyFile",
    "PublicKey",
    "SignedManifest",
    "Statement",
    "TrustedKeys",
    "file_digests",
    "make_key",
    "sign_manifest",
    "sign_statement",
    "verify_manifest",
    "verify_statement",
]
