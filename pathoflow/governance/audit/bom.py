"""A model's bill of materials: CycloneDX 1.6, with everything that the version stands on."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.bom_ref import BomRef
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from pathoflow.errors import StageError
from pathoflow.governance.audit.report import AuditReport, Output

_METRIC = "metric."
_KINDS = {"data": ComponentType.DATA, "model": ComponentType.MACHINE_LEARNING_MODEL}


def bill_of_materials(report: AuditReport) -> str:
    """Builds the bill of materials as JSON that its schema accepts.

    The model's own files are components with their SHA-256; so is each file from outside. What the library does not
    write, the model card, is added to its document, and the whole is checked against the schema.

    Raises:
        StageError: The schema does not accept the document.
    """
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{report.model}/{report.version}/{report.started_at}"))
    bom.metadata.timestamp = datetime.fromisoformat(report.started_at)
    identity = report.tags.get("pathoflow.identity", "")
    parts = {output.name: _component(output, report) for output in report.outputs}
    subject = Component(
        name=report.model,
        version=report.version,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=BomRef(f"version:{report.model}/{report.version}"),
        description=f"Audit of {report.started_at}: {report.verdict.value}. Research use only.",
        properties=[
            Property(name="pathoflow:audit:verdict", value=report.verdict.value),
            *(Property(name=f"mlflow:tag:{name}", value=value) for name, value in sorted(report.tags.items())),
        ],
    )
    bom.metadata.component = subject
    sources = {
        (file.path, file.sha256): _file(file.path, file.sha256, file.bytes, "source")
        for output in report.outputs
        if output.manifest
        for file in output.manifest.external_files
    }
    for component in (*parts.values(), *sources.values()):
        bom.components.add(component)
    _depend(bom, report, parts, sources, subject, identity)
    document = json.loads(make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string())
    _add_model_cards(document, report, identity)
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if error := _validator().validate_str(text):
        raise StageError(f"The bill of materials does not follow its schema: {error}")
    return text


@cache
def _validator() -> JsonStrictValidator:
    return JsonStrictValidator(SchemaVersion.V1_6)


def _component(output: Output, report: AuditReport) -> Component:
    manifest = output.manifest
    component = Component(
        name=output.stage,
        version=output.identity,
        type=_KINDS[manifest.kind if manifest else "data"],
        bom_ref=BomRef(f"output:{output.identity}"),
        properties=_properties(output, report),
    )
    for file in manifest.files if manifest and manifest.kind == "model" else ():
        component.components.add(_file(file.path, file.sha256, file.bytes, output.identity))
    return component


def _properties(output: Output, report: AuditReport) -> Iterable[Property]:
    verdicts = {link.verdict for link in report.of(output.name)}
    yield Property(name="pathoflow:audit:verdicts", value=", ".join(sorted(verdicts)))
    for name, value in (output.reference.model_dump(exclude_none=True) if output.reference else {}).items():
        yield Property(name=f"pathoflow:{name}", value=value)
    if output.manifest:
        code = output.manifest.code
        yield Property(name="pathoflow:code:commit", value=code.commit or "unknown")
        yield Property(name="pathoflow:code:digest", value=code.digest)
        yield Property(name="pathoflow:config:digest", value=output.manifest.config_digest)
        yield Property(name="pathoflow:image:digest", value=output.manifest.image_digest or "none")


def _file(path: str, sha256: str, num_bytes: int, owner: str) -> Component:
    return Component(
        name=path,
        type=ComponentType.FILE,
        bom_ref=BomRef(f"file:{owner}:{path}:{sha256[:16]}"),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)],
        properties=[Property(name="pathoflow:bytes", value=str(num_bytes))],
    )


def _depend(
    bom: Bom,
    report: AuditReport,
    parts: dict[str, Component],
    sources: dict[tuple[str, str], Component],
    subject: Component,
    identity: str,
) -> None:
    """Says what was made from what."""
    for output in report.outputs:
        made_from = [parts[source] for source, target in report.edges if target == output.name]
        files = output.manifest.external_files if output.manifest else ()
        made_from += [sources[file.path, file.sha256] for file in files]
        bom.register_dependency(parts[output.name], made_from)
    bom.register_dependency(subject, [parts[output.name] for output in report.outputs if output.identity == identity])


def _add_model_cards(document: dict[str, Any], report: AuditReport, identity: str) -> None:
    """Adds what CycloneDX has for models: their training data, and the figures that they reached."""
    outputs = {output.identity: output for output in report.outputs}
    figures = [
        {"type": tag.removeprefix(_METRIC), "value": value}
        for tag, value in sorted(report.tags.items())
        if tag.startswith(_METRIC)
    ]
    document["metadata"]["component"]["modelCard"] = _card(outputs.get(identity), outputs, figures)
    for component in document.get("components", []):
        if component["type"] == "machine-learning-model":
            output = outputs[component["version"]]
            own = output.manifest.metrics if output.manifest else {}
            listed = [{"type": name, "value": f"{value:.6g}"} for name, value in own.items()]
            component["modelCard"] = _card(output, outputs, listed)


def _card(output: Output | None, outputs: dict[str, Output], figures: list[dict[str, str]]) -> dict[str, Any]:
    inputs = output.manifest.inputs.values() if output and output.manifest else ()
    datasets = [
        {"ref": f"output:{source}"}
        for source in inputs
        if source in outputs and (found := outputs[source].manifest) and found.kind == "data"
    ]
    card: dict[str, Any] = {"modelParameters": {"datasets": datasets} if datasets else {}}
    if figures:
        card["quantitativeAnalysis"] = {"performanceMetrics": figures}
    card["considerations"] = {"useCases": ["Research use only"], "technicalLimitations": ["See docs/intended_use.md"]}
    return card
