"""Evidence for a version's gates: sealed scores, answers and the corpus's report, found by its lineage."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq

from pathoflow.contract.lineage import LINEAGE_TAG, read_references
from pathoflow.contract.sealing import Manifest
from pathoflow.errors import SealError
from pathoflow.governance.audit.links import Links
from pathoflow.governance.audit.outputs import StoredOutput
from pathoflow.governance.audit.report import Verdict
from pathoflow.governance.audit.stores import MissingError, UnreachableError, read
from pathoflow.governance.audit.versions import Version
from pathoflow.governance.registry.access import Registry
from pathoflow.stores.tracking import IDENTITY_TAG

SCORES, CORPUS = "vqa_benchmarks", "corpus"
_MAX_BYTES = 2 * 2**30


@dataclass
class Evidence:
    """The evidence on one version, each file of it with the digest that its seal names.

    Attributes:
        model: The model's manifest.
        scores: The manifest of its scores.
        answers: Whether the model was right, by benchmark item.
        contamination: What each evaluation set took out of the corpus.
        problems: What could not be had, and why.
    """

    model: Manifest | None = None
    scores: Manifest | None = None
    answers: dict[str, bool] | None = None
    contamination: dict[str, Any] | None = None
    problems: list[str] = field(default_factory=list)

    def why(self) -> str:
        """Says why something is missing."""
        return "; ".join(self.problems) or "there is no record of it"


def collect(registry: Registry, version: Version) -> Evidence:
    """Gathers the evidence on a version; what is missing or damaged is told in `problems`."""
    evidence = Evidence()
    text = version.tags.get(LINEAGE_TAG)
    if text is None:
        evidence.problems.append(f"{version.label} has no lineage: it was not registered by the register stage")
        return evidence
    try:
        references = {reference.identity: reference for reference in read_references(text)}
    except SealError as error:
        evidence.problems.append(str(error))
        return evidence
    found: dict[str, StoredOutput] = {}
    for stage, tag in (("model", IDENTITY_TAG), *((name, f"{IDENTITY_TAG}.{name}") for name in (SCORES, CORPUS))):
        identity = version.tags.get(tag)
        if identity is None or identity not in references:
            evidence.problems.append(f"{version.label} does not say where its {stage} is")
            continue
        output = StoredOutput(stage, identity, references[identity], Links(stage))
        output.open(registry.places, with_md5=False)
        evidence.problems += [
            f"{stage}: {link.check} {link.detail} ({link.where})"
            for link in output.links.found
            if link.verdict is not Verdict.PASS
        ]
        found[stage] = output
    evidence.model = found["model"].manifest if "model" in found else None
    if SCORES in found and (scores := found[SCORES].manifest):
        if evidence.model is None or evidence.model.identity not in scores.inputs.values():
            evidence.problems.append(f"the scores {scores.identity} are those of another model")
        else:
            evidence.scores = scores
            _read_answers(found[SCORES], evidence)
    if CORPUS in found:
        _read_contamination(found[CORPUS], evidence)
    return evidence


def _read_answers(output: StoredOutput, evidence: Evidence) -> None:
    assert evidence.model is not None
    assert evidence.scores is not None
    model = evidence.model.stage
    likelihood = evidence.scores.notes.get(f"protocol_{model}") == "letter_likelihood"
    answers: dict[str, bool] = {}
    for path in sorted(name for name in output.files if name.startswith("predictions/")):
        content = _content(output, path, evidence)
        if content is None:
            return
        columns = ["benchmark", "model", "item_id", "prompt_style", "correct", "blank_image"]
        for row in pq.read_table(io.BytesIO(content), columns=columns).to_pylist():
            of_protocol = row["prompt_style"].endswith("/letter_likelihood") == likelihood
            if row["model"] == model and not row["blank_image"] and of_protocol:
                answers[f"{row['benchmark']}/{row['item_id']}"] = bool(row["correct"])
    evidence.answers = answers or None


def _read_contamination(output: StoredOutput, evidence: Evidence) -> None:
    if (content := _content(output, "decontamination.json", evidence)) is not None:
        evidence.contamination = json.loads(content)


def _content(output: StoredOutput, path: str, evidence: Evidence) -> bytes | None:
    file = output.files.get(path)
    if file is None:
        evidence.problems.append(f"{output.stage} has no {path}")
        return None
    try:
        content = read(file.store, file.name, _MAX_BYTES)
    except (MissingError, UnreachableError) as error:
        evidence.problems.append(f"{file.location} cannot be read: {error}")
        return None
    if hashlib.sha256(content).hexdigest() != file.sha256:
        evidence.problems.append(f"{file.location} is not what was sealed as {path} of {output.stage}")
        return None
    return content
