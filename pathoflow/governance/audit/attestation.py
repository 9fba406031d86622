"""The verdict as a signed statement: an in-toto attestation over the model's files."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pathoflow.contract.config import digest_of
from pathoflow.errors import InputError
from pathoflow.governance.audit.report import AuditReport, Output, Verdict
from pathoflow.governance.signing import KeyFile, file_digests, sign_statement

PREDICATE_TYPE = "https://slsa.dev/verification_summary/v1"
"""SLSA's verification summary: a known form for what somebody verified, and what came out."""


def attest(report: AuditReport, key: KeyFile) -> bytes:
    """Signs the verdict and returns the envelope.

    Its subjects are the model's files with their SHA-256. A verdict of UNKNOWN is written as `FAILED`: the form knows
    no other, and nothing should be built on what could not be looked at.

    Raises:
        InputError: The model's manifest was not found, so that there is nothing to sign for.
    """
    model = _model(report)
    if model is None or model.manifest is None:
        raise InputError(
            f"The manifest of {report.model}/{report.version} was not found, so that no statement about its files can "
            "be made. Mend what the audit names first."
        )
    return sign_statement(PREDICATE_TYPE, file_digests(model.manifest), predicate(report), key)


def predicate(report: AuditReport) -> dict[str, Any]:
    """Returns the statement about the model's files."""
    counts = Counter(link.verdict.value for link in report.links)
    return {
        "verifier": {"id": "pathoflow audit"},
        "timeVerified": report.started_at,
        "resourceUri": f"models:/{report.model}/{report.version}",
        "policy": {"uri": "pathoflow:audit", "digest": {"sha256": digest_of(sorted(_checks(report)))[7:]}},
        "inputAttestations": [
            {"uri": f"pathoflow:{output.stage}", "digest": {"sha256": output.identity.removeprefix("sha256:")}}
            for output in report.outputs
        ],
        "verificationResult": "PASSED" if report.verdict is Verdict.PASS else "FAILED",
        "verifiedLevels": [],
        "pathoflow": {
            "verdict": report.verdict.value,
            "checks": dict(sorted(counts.items())),
            "bytes": report.num_bytes,
            "problems": [f"{link.subject}: {link.check}: {link.where}" for link in report.problems],
        },
    }


def _model(report: AuditReport) -> Output | None:
    identity = report.tags.get("pathoflow.identity")
    return next((output for output in report.outputs if output.identity == identity), None)


def _checks(report: AuditReport) -> set[str]:
    """Returns the questions that were asked: two audits with the same policy asked the same."""
    return {link.check for link in report.links}
