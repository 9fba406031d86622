"""The audit: from a registered version back to the raw sources, every byte on the way hashed again.

`audit` walks and returns an `AuditReport`; the dossier, the bill of materials and the attestation are made from it.
"""

from pathoflow.governance.audit.places import Places
from pathoflow.governance.audit.report import AuditReport, Link, Output, Verdict
from pathoflow.governance.audit.trust import Trust, TrustCheck
from pathoflow.governance.audit.walk import audit

__all__ = ["AuditReport", "Link", "Output", "Places", "Trust", "TrustCheck", "Verdict", "audit"]
