"""The gates that a version stands before: each a question with an answer, PASS, FAIL or UNKNOWN.

Only a version that passes all of them is promoted; UNKNOWN never promotes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pathoflow.errors import InputError, SignatureError
from pathoflow.governance.audit import Verdict
from pathoflow.governance.audit.report import worst
from pathoflow.governance.audit.versions import Version
from pathoflow.governance.registry import approvals, cards, verification
from pathoflow.governance.registry.access import Registry
from pathoflow.governance.registry.aliases import EnvironmentState
from pathoflow.governance.registry.entries import Entry, signed_tags
from pathoflow.governance.registry.evidence import Evidence, collect
from pathoflow.governance.registry.gate import Gate
from pathoflow.governance.registry.intents import check_drift
from pathoflow.governance.registry.names import Environment, registered, split
from pathoflow.governance.registry.policy import MODEL_STAGE, Bounds, EnvironmentGates, NoRegression
from pathoflow.governance.registry.verification import find_version, verify_lineage, verify_signature, weights_digest
from pathoflow.qa.statistics import bootstrap_difference
from pathoflow.stores.tracking import IDENTITY_TAG


@dataclass(frozen=True)
class Judgement:
    """Answers of all gates about one version.

    Attributes:
        version: The version.
        environment: Where it is to go.
        gates: Every gate.
        champion: The version that the target environment served when the gates were asked.
    """

    version: Version
    environment: Environment
    gates: tuple[Gate, ...]
    champion: int | None

    @property
    def verdict(self) -> Verdict:
        """PASS if every gate passes."""
        return worst([gate.verdict for gate in self.gates])


def ask(registry: Registry, version: Version, environment: Environment, policy: EnvironmentGates) -> Judgement:
    """Asks every gate; nothing changes but the record that a passed audit leaves."""
    model, _ = split(version.name)
    states = registry.log.sound_head(model).states
    name = registered(model, environment)
    champion = EnvironmentState.read(states.get(name)).champion
    entries = registry.log.entries()
    evidence = collect(registry, version)
    gates = [
        _origin(version, entries, evidence),
        _signature(registry, evidence, policy),
        _lineage(registry, version, policy),
        cards.check(registry, version, entries),
        *_thresholds(evidence, policy.thresholds),
        *_blank_images(evidence, policy.max_chance_on_blank_images),
        *_no_regression(registry, evidence, name, champion, policy.no_regression),
        *_contamination(evidence, policy.evaluation_sets),
        *_approvals(registry, entries, evidence, model, environment, policy.num_approvals),
        *_drift(registry, states, name, version.name),
    ]
    if policy.clean_code:
        gates.append(_clean_code(evidence))
    return Judgement(version, environment, tuple(gates), champion)


def _origin(version: Version, entries: list[Entry], evidence: Evidence) -> Gate:
    """Checks that the log knows how this version came to be, and says the same of it as the registry."""
    identity = version.tags.get(IDENTITY_TAG)
    entry = next(
        (
            entry
            for entry in entries
            if entry.action in ("register", "promote") and entry.details.get("version") == version.label
        ),
        None,
    )
    if identity is None or entry is None:
        return Gate(
            "origin",
            Verdict.UNKNOWN,
            f"the log knows no {version.label}: it was registered or copied by hand. Let the register stage do it",
        )
    if entry.details.get("identity") != identity:
        detail = f"the log has {entry.details.get('identity')} for {version.label}, its tags say {identity}"
        return Gate("origin", Verdict.FAIL, detail)
    if evidence.model is not None and evidence.model.identity != identity:
        return Gate("origin", Verdict.FAIL, f"its bytes are those of {evidence.model.identity}")
    for tag, (value, signed) in signed_tags(entries, version.label).items():
        if (found := version.tags.get(tag)) != value:
            verdict = Verdict.UNKNOWN if found is None else Verdict.FAIL
            said = "is missing" if found is None else f"says {found}"
            return Gate("origin", verdict, f"tag {tag} {said}, but entry {signed.seq} of the log has {value}")
    return Gate("origin", Verdict.PASS, f"entry {entry.seq} of the log, by {entry.actor} at {entry.at}")


def _signature(registry: Registry, evidence: Evidence, policy: EnvironmentGates) -> Gate:
    if evidence.model is None:
        return Gate("signature", Verdict.UNKNOWN, evidence.why())
    try:
        signed = verify_signature(registry, evidence.model)
    except SignatureError as error:
        missing = not registry.objects.list(verification.signatures_of(evidence.model.identity))
        return Gate("signature", Verdict.UNKNOWN if missing else Verdict.FAIL, str(error))
    if signed.signer.is_throwaway and not policy.throwaway_keys:
        return Gate(
            "signature",
            Verdict.FAIL,
            f"made with the throw-away key {signed.signer.name}, which proves nothing. Register with a key of yours",
        )
    return Gate("signature", Verdict.PASS, f"{len(signed.files)} files, by {signed.signer.name}")


def _lineage(registry: Registry, version: Version, policy: EnvironmentGates) -> Gate:
    found = verify_lineage(registry, version, policy.max_verification_age_s)
    return Gate("lineage", found.verdict, found.detail)


def _thresholds(evidence: Evidence, thresholds: Mapping[str, Bounds]) -> Iterator[Gate]:
    stage = evidence.model.stage if evidence.model else MODEL_STAGE
    for pattern, bounds in thresholds.items():
        metric = pattern.replace(MODEL_STAGE, stage)
        name = f"threshold {metric}"
        if evidence.scores is None:
            yield Gate(name, Verdict.UNKNOWN, evidence.why())
            continue
        value = evidence.scores.metrics.get(metric)
        if value is None:
            yield Gate(name, Verdict.UNKNOWN, f"vqa_benchmarks measured no {metric}")
            continue
        too_low = bounds.at_least is not None and value < bounds.at_least
        too_high = bounds.at_most is not None and value > bounds.at_most
        wanted = " and ".join(
            f"at {word} {bound:g}"
            for word, bound in (("least", bounds.at_least), ("most", bounds.at_most))
            if bound is not None
        )
        verdict = Verdict.FAIL if too_low or too_high else Verdict.PASS
        yield Gate(name, verdict, f"{value:.4g}, {wanted} is asked", {"value": value})


def _blank_images(evidence: Evidence, most: float | None) -> Iterator[Gate]:
    """Checks that the model does not answer without the image: else the options give the answer away."""
    if most is None:
        return
    metrics = evidence.scores.metrics if evidence.scores else {}
    model = evidence.model.stage if evidence.model else ""
    blank, chance = metrics.get(f"accuracy_{model}_blank"), metrics.get("chance")
    if blank is None or chance is None:
        yield Gate("blank images", Verdict.UNKNOWN, "vqa_benchmarks did not ask without images")
        return
    detail = f"{blank:.3f} without the image, chance {chance:.3f}, at most {most:g} above it is asked"
    verdict = Verdict.FAIL if blank - chance > most else Verdict.PASS
    yield Gate("blank images", verdict, detail, {"value": blank, "chance": chance})


def _no_regression(
    registry: Registry, evidence: Evidence, name: str, champion: int | None, rule: NoRegression | None
) -> Iterator[Gate]:
    if rule is None:
        return
    if champion is None:
        yield Gate("no regression", Verdict.PASS, f"{name} has no champion to compare with")
        return
    if evidence.answers is None:
        yield Gate("no regression", Verdict.UNKNOWN, evidence.why())
        return
    try:
        other = collect(registry, find_version(registry, f"{name}/{champion}"))
    except InputError as error:
        yield Gate("no regression", Verdict.UNKNOWN, f"the champion is gone: {error}")
        return
    if other.answers is None:
        yield Gate("no regression", Verdict.UNKNOWN, f"of the champion {name}/{champion}: {other.why()}")
        return
    if other.answers.keys() != evidence.answers.keys():
        shared = len(other.answers.keys() & evidence.answers.keys())
        yield Gate(
            "no regression",
            Verdict.UNKNOWN,
            f"the champion {name}/{champion} answered other items: {shared} of its {len(other.answers)} and of this "
            f"version's {len(evidence.answers)} are the same. Measure both on the same items",
        )
        return
    items = sorted(evidence.answers)
    found = bootstrap_difference(
        [other.answers[item] for item in items],
        [evidence.answers[item] for item in items],
        confidence=rule.confidence,
        num_resamples=rule.num_resamples,
        seed=rule.seed,
    )
    detail = (
        f"{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}] against {name}/{champion} on {len(items)} items; "
        f"the lower end may be {-rule.margin:g}"
    )
    verdict = Verdict.PASS if found.low >= -rule.margin else Verdict.FAIL
    figures = {"difference": found.value, "low": found.low, "high": found.high, "num_items": len(items)}
    yield Gate("no regression", verdict, detail, figures)


def _contamination(evidence: Evidence, wanted: tuple[str, ...]) -> Iterator[Gate]:
    """Checks that the corpus was kept apart from what models are scored on."""
    if evidence.contamination is None:
        yield Gate("contamination", Verdict.UNKNOWN, evidence.why())
        return
    if missing := [name for name in wanted if name not in evidence.contamination]:
        known = ", ".join(evidence.contamination) or "none"
        yield Gate(
            "contamination",
            Verdict.FAIL,
            f"the corpus was not compared with {', '.join(missing)} (compared with: {known}). "
            "Name them in corpus.evaluation_sets and train again",
        )
        return
    taken = sum(sum(report["dropped"].values()) for report in evidence.contamination.values())
    unread = sum(report["items"].get("unreadable_images", 0) for report in evidence.contamination.values())
    if unread:
        detail = f"{unread} images of evaluation sets could not be read, so that pairs were not compared with them"
        yield Gate("contamination", Verdict.UNKNOWN, detail)
        return
    detail = f"{len(evidence.contamination)} evaluation sets took {taken} pairs out of the corpus"
    if not evidence.contamination:
        detail = "no evaluation set was named or is asked for; the corpus keeps its own held-out pairs apart"
    yield Gate("contamination", Verdict.PASS, detail, {"num_dropped": taken})


def _approvals(
    registry: Registry, entries: list[Entry], evidence: Evidence, model: str, environment: Environment, num_needed: int
) -> Iterator[Gate]:
    if not num_needed:
        return
    if evidence.model is None:
        yield Gate("approval", Verdict.UNKNOWN, evidence.why())
        return
    counting, reasons = approvals.judge(
        entries,
        registry.trusted,
        model=model,
        environment=environment,
        weights=weights_digest(evidence.model),
        identity=evidence.model.identity,
    )
    given = ", ".join(f"{approval.approver} until {approval.expires_at}" for approval in counting)
    detail = f"{len(counting)} of {num_needed}" + (f": {given}" if given else "")
    if not counting and not reasons:
        detail += "; `pathoflow approve` gives one, with an approver's key"
    if reasons:
        detail += f"; not counted: {'; '.join(reasons[-3:])}"
    yield Gate("approval", Verdict.PASS if len(counting) >= num_needed else Verdict.FAIL, detail)


def _drift(registry: Registry, states: Mapping[str, Any], *names: str) -> Iterator[Gate]:
    found = [problem for name in names if (problem := check_drift(registry, name, states))]
    if found:
        yield Gate("aliases", Verdict.FAIL, " ".join(found))
    else:
        yield Gate("aliases", Verdict.PASS, "where the log says")


def _clean_code(evidence: Evidence) -> Gate:
    if evidence.model is None:
        return Gate("code", Verdict.UNKNOWN, evidence.why())
    code = evidence.model.code
    if code.commit is None or code.dirty is None:
        return Gate("code", Verdict.UNKNOWN, "the commit is not known")
    if code.dirty:
        return Gate("code", Verdict.FAIL, f"{code.commit} had local changes. Train from a clean checkout")
    return Gate("code", Verdict.PASS, code.commit)
