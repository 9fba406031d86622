"""What auditors and approvers ask for: signatures, audits, the registry."""
