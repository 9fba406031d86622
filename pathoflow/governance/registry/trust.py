"""Who stands behind a version: the signature over its files, the decision log, and the approvals in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pathoflow.contract.sealing import Manifest
from pathoflow.errors import PathoflowError, RegistryError, SignatureError
from pathoflow.governance.audit import Trust, Verdict
from pathoflow.governance.audit.links import Links
from pathoflow.governance.audit.report import Step
from pathoflow.governance.audit.versions import Version
from pathoflow.governance.registry import cards
from pathoflow.governance.registry.access import Registry
from pathoflow.governance.registry.approvals import judge
from pathoflow.governance.registry.entries import Entry, LogReport, signed_tags
from pathoflow.governance.registry.intents import unfinished
from pathoflow.governance.registry.names import split
from pathoflow.governance.registry.verification import signatures_of, verify_signature, weights_digest
from pathoflow.stores.tracking import IDENTITY_TAG


def check_trust(open_registry: Callable[[], Registry], version: Version, manifest: Manifest | None) -> Trust:
    """Verifies the signature over the model's files, and the decision log as a whole.

    Args:
        open_registry: Opens the registry; its settings may be missing or wrong.
        version: The version.
        manifest: The model's manifest, if a sound copy was found.
    """
    trust = Trust()
    try:
        registry = open_registry()
        trusted = registry.trusted
    except PathoflowError as error:
        trust.links.unknown("keys", str(error), "the registry's settings")
        return trust
    throwaway = [key.name for key in trusted.every if key.is_throwaway]
    names = ", ".join(key.name for key in trusted.every)
    warning = " A throw-away key made them: they prove that nothing changed, not who made it." if throwaway else ""
    trust.links.passed("keys", f"trusted: {names}.{warning}", str(registry.trusted_folder))
    _check_signature(registry, manifest, trust.links)
    report = _check_log(registry, trust.links)
    entries = report.entries
    _check_card(registry, entries, version, trust.links)
    _tell_history(entries, version, trust)
    _check_decisions(registry, report, version, trust.links)
    if manifest is not None:
        _tell_approvals(registry, entries, version, manifest, trust)
    return trust


def _check_signature(registry: Registry, manifest: Manifest | None, links: Links) -> None:

    where = registry.objects.url
    if manifest is None:
        links.unknown("signature", "the model's manifest, which is signed, is not known", where)
        return
    prefix = signatures_of(manifest.identity)
    try:
        if not registry.objects.list(prefix):
            links.unknown("signature", f"nobody signed {manifest.identity}", f"{where}/{prefix}")
            return
        signed = verify_signature(registry, manifest)
    except SignatureError as error:
        links.failed("signature", str(error), f"{where}/{prefix}")
    except (RegistryError, OSError) as error:
        links.unknown("signature", str(error), f"{where}/{prefix}")
    else:
        links.passed("signature", f"{len(signed.files)} files, by {signed.signer.name}", f"{where}/{prefix}")


def _check_log(registry: Registry, links: Links) -> LogReport:

    where = f"{registry.objects.url}/log"
    try:
        report = registry.log.verify()
    except (PathoflowError, OSError) as error:
        links.unknown("decision log", str(error), where)
        return LogReport()
    for problem in report.problems:
        if problem in report.gone:
            links.unknown("decision log", problem, where)
        else:
            links.failed("decision log", problem, where)
    if not report.entries and not report.problems:
        links.unknown("decision log", "is empty", where)
    elif not report.problems:
        notes = f" {' '.join(report.notes)}" if report.notes else ""
        links.passed("decision log", f"{len(report.entries)} entries, one chain.{notes}", where)
    return report


def _concerns(entry: Entry, version: Version) -> bool:
    """Returns whether an entry is about a version, or about the same model in an earlier environment."""
    details, identity = entry.details, version.tags.get(IDENTITY_TAG)
    same_model = entry.model == split(version.name)[0]
    return same_model and (
        details.get("identity") == identity
        or version.label in (details.get("version"), details.get("from"))
        or version.source == f"models:/{details.get('version')}"
    )


def _tell_history(entries: list[Entry], version: Version, trust: Trust) -> None:
    """Tells every decision, and the gates that let this version in, or else those of the last try to move it on."""
    came_in = False
    for entry in entries:
        if not _concerns(entry, version):
            continue
        details = entry.details
        target = details.get("version") or details.get("to")
        words = [str(word) for word in (details.get("from"), target, details.get("reason")) if word]
        trust.history.append(
            Step(
                at=entry.at,
                who=f"{entry.actor} (key {entry.signer.name})",
                what=entry.action,
                detail=" → ".join(words),
            )
        )
        gates = details.get("gates")
        if gates and not came_in:
            trust.gates = [dict(gate) for gate in gates if isinstance(gate, Mapping)]
            came_in = entry.action == "promote" and details.get("version") == version.label


def _check_decisions(registry: Registry, report: LogReport, version: Version, links: Links) -> None:
    """Checks the log's word on how the version came to be and on who is the environment's champion."""
    entries = report.entries
    if not entries:
        return
    made = [
        entry
        for entry in entries
        if entry.action in ("register", "promote") and entry.details.get("version") == version.label
    ]
    where = f"log, {version.label}"
    identity = version.tags.get(IDENTITY_TAG)
    _check_tags(entries, version, links)
    if not made:
        links.unknown("decision", "no entry of the log tells how this version came to be", where)
    else:
        links.equal(
            "decision",
            identity,
            str(made[-1].details.get("identity")),
            f"{version.label}, tag {IDENTITY_TAG}",
            told_by=f"entry {made[-1].seq} of the log",
        )
    states = [entry.details["after"] for entry in entries if version.name in entry.details.get("after", {})]
    if not states:
        return
    champion = states[-1][version.name].get("champion")
    is_champion = str(champion) == version.number
    if ("champion" in version.aliases) != is_champion:
        said = f"{version.name}/{champion}" if champion else "nobody"
        where = f"{version.name}@champion"
        if report.gone:
            links.unknown("alias", f"the log names {said} as the champion, and an entry is missing", where)
        elif unfinished(registry, split(version.name)[0]):
            links.unknown("alias", f"the log names {said} as the champion, and a move is at work or was killed", where)
        else:
            links.failed("alias", f"the log names {said} as the champion", where)
    elif is_champion:
        links.passed("alias", "is the champion, as the log says", f"{version.name}@champion")


def _check_tags(entries: list[Entry], version: Version, links: Links) -> None:

    for tag, (value, entry) in sorted(signed_tags(entries, version.label).items()):
        told_by = f"entry {entry.seq} of the log"
        links.equal("tags", version.tags.get(tag), value, f"{version.label}, tag {tag}", told_by=told_by)


def _check_card(registry: Registry, entries: list[Entry], version: Version, links: Links) -> None:

    where = f"{registry.objects.url}/cards"
    try:
        card = cards.check(registry, version, entries)
    except (RegistryError, OSError, ValueError) as error:
        links.unknown("model card", str(error), where)
        return
    tell = {Verdict.PASS: links.passed, Verdict.FAIL: links.failed, Verdict.UNKNOWN: links.unknown}[card.verdict]
    tell("model card", card.detail, where)


def _tell_approvals(
    registry: Registry, entries: list[Entry], version: Version, manifest: Manifest, trust: Trust
) -> None:

    model, weights = split(version.name)[0], weights_digest(manifest)
    try:
        counting, refused = judge(
            entries, registry.trusted, model=model, environment="prod", weights=weights, identity=manifest.identity
        )
    except PathoflowError as error:
        trust.links.unknown("approvals", str(error), "log")
        return
    for approval in counting:
        state = f"counts until {approval.expires_at}"
        trust.approvals.append({"by": approval.approver, "at": approval.at, "state": state})
    about_others = "is for other weights"
    trust.approvals += [
        {"by": "", "at": "", "state": reason} for reason in refused if not reason.endswith(about_others)
    ]
