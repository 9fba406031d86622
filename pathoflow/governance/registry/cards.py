"""Model cards in Hugging Face's form, filled from a version's lineage and kept by their digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from pathoflow.contract.sealing import Manifest
from pathoflow.errors import RegistryError
from pathoflow.governance.audit import Verdict
from pathoflow.governance.audit.versions import Version
from pathoflow.governance.registry.access import Registry
from pathoflow.governance.registry.entries import Entry
from pathoflow.governance.registry.gate import Gate

_SECTIONS = ("## Intended use", "## Lineage", "## Evaluation")


def write(name: str, model: Manifest, scores: Manifest, references: Mapping[str, str], license_name: str) -> str:
    """Writes the card of a model.

    Args:
        name: The model's name, without the environment.
        model: Manifest of the model.
        scores: Manifest of its scores.
        references: Identity by stage of all that the model stands on.
        license_name: Licence of the weights.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    accuracies = {
        metric: value
        for metric, value in sorted(scores.metrics.items())
        if metric.startswith("accuracy_") and not metric.endswith(("_low", "_high"))
    }
    data = ModelCardData(
        model_name=name,
        license=license_name,
        language=["en", "zh"],
        library_name="transformers",
        pipeline_tag="image-text-to-text",
        tags=["pathology", "vision-language", "reasoning", "research-only"],
        eval_results=[
            EvalResult(
                task_type="visual-question-answering",
                dataset_type="pathoflow",
                dataset_name="held-out questions",
                metric_type="accuracy",
                metric_name=metric,
                metric_value=round(value, 6),
            )
            for metric, value in accuracies.items()
        ],
    )
    figures = "\n".join(
        f"| {metric} | {value:.4f} | {_interval(scores, metric)} |" for metric, value in accuracies.items()
    )
    lineage = "\n".join(f"| {stage} | `{identity}` |" for stage, identity in sorted(references.items()))
    num_items = scores.metrics.get("num_items")
    body = f"""# {name}

A vision-language model for pathology, trained by the Patho-R1 pipeline: continued pretraining, fine-tuning on
reasoning, reinforcement learning. Everything below was taken from sealed outputs; `pathoflow audit` verifies it again.

## Intended use

Research only. **Not a medical device**: no output may inform the care of a patient.

## Evaluation

{f"On {num_items:,.0f} held-out questions" if num_items else "On held-out questions"}, with 95 % Wilson intervals where
they were measured. `accuracy_{model.stage}` is this model's; the others are those of models that it was compared with.

| metric | value | interval |
| --- | --- | --- |
{figures}

## Lineage

| what | identity |
| --- | --- |
{lineage}

- model: `{model.identity}`
- code: commit `{model.code.commit or "unknown"}`{" with local changes" if model.code.dirty else ""}
- configuration: `{model.config_digest}`
- image: `{model.image_digest or "none"}`

## Limits

The figures say how the model answers multiple-choice questions of the kind it was trained on. They say nothing about
free text, other stains, scanners, species or populations.
"""
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}"))


def keep(registry: Registry, card: str) -> str:
    """Keeps a card and returns the SHA-256 under which it is found."""
    content = card.encode()
    digest = hashlib.sha256(content).hexdigest()
    registry.objects.put_if_absent(_key(digest), content)
    return digest


def check(registry: Registry, version: Version, entries: list[Entry]) -> Gate:
    """Checks that a version has its card: unchanged since it was registered, with all its sections."""
    from huggingface_hub import ModelCard

    digest = _digest(version, entries)
    content = registry.objects.get(_key(digest)) if digest else None
    if digest is None or content is None:
        return Gate("model card", Verdict.UNKNOWN, "there is none; register the model again")
    if hashlib.sha256(content).hexdigest() != digest:
        where = f"{registry.objects.url}/{_key(digest)}"
        return Gate("model card", Verdict.FAIL, f"{where} was changed since the model was registered")
    card = ModelCard(content.decode(), ignore_metadata_errors=False)
    missing = [section for section in _SECTIONS if section not in card.text]
    if missing or not card.data.license:
        return Gate("model card", Verdict.FAIL, f"it lacks {', '.join(missing) or 'a licence'}")
    return Gate("model card", Verdict.PASS, f"{digest[:12]}…")


def read(registry: Registry, version: Version) -> str:
    """Reads a version's card, as it was when the version was registered.

    Raises:
        RegistryError: It is gone or was changed.
    """
    entries = registry.log.entries()
    gate, digest = check(registry, version, entries), _digest(version, entries)
    if gate.verdict is not Verdict.PASS or digest is None:
        raise RegistryError(f"The model card of {version.label} will not do: {gate.detail}.")
    return (registry.objects.get(_key(digest)) or b"").decode()


def _digest(version: Version, entries: list[Entry]) -> str | None:
    """Returns the card's SHA-256 by the log: that of the latest registration of the same model."""
    identity = version.tags.get("pathoflow.identity")
    found = (entry for entry in reversed(entries) if entry.details.get("identity") == identity)
    return next((str(entry.details["card"]) for entry in found if entry.details.get("card")), None)


def _interval(scores: Manifest, metric: str) -> str:
    low, high = scores.metrics.get(f"{metric}_low"), scores.metrics.get(f"{metric}_high")
    return f"[{low:.4f}, {high:.4f}]" if low is not None and high is not None else ""


def _key(digest: str) -> str:
    return f"cards/{digest}.md"
