"""Signatures, audits and the registry, for auditors and approvers."""
