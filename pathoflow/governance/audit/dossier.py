"""The dossier: an audit's report as one HTML file that needs no network and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pathoflow.governance.audit.graph import BOX_HEIGHT_PX, BOX_WIDTH_PX, layout, path
from pathoflow.governance.audit.report import AuditReport, Link, Output, Verdict, worst

_HERE = Path(__file__).parent
_MARKS = {Verdict.PASS: "✔", Verdict.FAIL: "✘", Verdict.UNKNOWN: "?"}
_VERSION = "registered version"


def render(report: AuditReport) -> str:
    """Renders the dossier of a report.

    Everything from the report is escaped, and a content security policy with the hashes of the page's own style and
    script keeps anything else from running, should a name have got through.
    """
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style, script = ((_HERE / name).read_text(encoding="utf-8") for name in ("dossier.css", "dossier.js"))
    return environment.get_template("dossier.html.jinja").render(
        report=report,
        style=style,
        script=script,
        policy=f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; base-uri 'none'",
        marks=_MARKS,
        counts=Counter(link.verdict for link in report.links),
        verdicts=list(Verdict),
        graph=_graph(report),
        details=_as_script_data({box["name"]: box["details"] for box in _boxes(report)}),
        figures=_figures(report),
        subjects=[(subject, worst([link.verdict for link in links]), links) for subject, links in _by_subject(report)],
    )


def _by_subject(report: AuditReport) -> list[tuple[str, list[Link]]]:
    return [(subject, report.of(subject)) for subject in report.subjects()]


def _figures(report: AuditReport) -> list[tuple[str, str, str]]:
    """Returns name, value and, where measured, the interval of each figure that the version carries."""
    prefix = "metric."
    found = {tag.removeprefix(prefix): value for tag, value in report.tags.items() if tag.startswith(prefix)}
    bounds = {
        name for name in found for end in ("_low", "_high") if name.removesuffix(end) in found and name.endswith(end)
    }
    return [
        (name, value, f"{found[f'{name}_low']} – {found[f'{name}_high']}" if f"{name}_low" in bounds else "")
        for name, value in sorted(found.items())
        if name not in bounds
    ]


def _boxes(report: AuditReport) -> list[dict[str, Any]]:
    """Returns the boxes of the graph: each output, the files from outside, and the version."""
    boxes = []
    for output in report.outputs:
        links = report.of(output.name)
        boxes.append(
            {
                "name": output.name,
                "label": output.name,
                "kind": output.manifest.kind if output.manifest else output.reference.kind if output.reference else "",
                "line": _line(output),
                "verdict": worst([link.verdict for link in links]),
                "details": _details(output, links),
            }
        )
        if output.manifest and output.manifest.external_files:
            checked = [link for link in links if link.check == "source"]
            files = output.manifest.external_files
            boxes.append(
                {
                    "name": _sources_of(output),
                    "label": "sources",
                    "kind": "source",
                    "line": f"{len(files)} file{'s' if len(files) > 1 else ''} from outside",
                    "verdict": worst([link.verdict for link in checked]),
                    "details": {
                        "facts": [[file.path, f"{file.bytes:,} bytes, SHA-256 {file.sha256}"] for file in files],
                        "links": _told(checked),
                    },
                }
            )
    boxes.append(
        {
            "name": _VERSION,
            "label": "version",
            "kind": "version",
            "line": f"{report.model}/{report.version}",
            "verdict": worst([link.verdict for link in report.links if link.subject not in _names(report)]),
            "details": {
                "facts": sorted(map(list, report.tags.items())),
                "links": _told([link for link in report.links if link.subject not in _names(report)]),
            },
        }
    )
    return boxes


def _graph(report: AuditReport) -> dict[str, Any]:
    boxes = _boxes(report)
    edges = list(report.edges)
    edges += [
        (_sources_of(output), output.name)
        for output in report.outputs
        if output.manifest and output.manifest.external_files
    ]
    used = {source for source, target in edges}
    model = report.tags.get("pathoflow.identity")
    edges += [
        (output.name, _VERSION) for output in report.outputs if output.name not in used or output.identity == model
    ]
    drawing = layout([box["name"] for box in boxes], edges)
    for box in boxes:
        box["x"], box["y"] = drawing.places[box["name"]]
    return {
        "width": drawing.width_px,
        "height": drawing.height_px,
        "box_width": BOX_WIDTH_PX,
        "box_height": BOX_HEIGHT_PX,
        "boxes": boxes,
        "edges": [
            {"source": source, "target": target, "d": path(drawing.places[source], drawing.places[target])}
            for source, target in edges
        ],
    }


def _details(output: Output, links: list[Link]) -> dict[str, Any]:
    facts = [["identity", output.identity]]
    if output.reference:
        facts += [
            [name.replace("_", " "), value]
            for name, value in output.reference.model_dump(exclude_none=True).items()
            if name not in ("stage", "identity")
        ]
    manifest = output.manifest
    if manifest:
        counts = manifest.counts
        facts += [
            ["records in / out", f"{counts.num_in:,} / {counts.num_out:,}"],
            ["set aside", ", ".join(f"{reason} {number}" for reason, number in counts.quarantined.items()) or "none"],
            ["files", f"{len(manifest.files)}, {sum(file.bytes for file in manifest.files):,} bytes"],
            ["code", f"{manifest.code.commit}{' with changes' if manifest.code.dirty else ''}"],
            ["image", manifest.image_digest or "none"],
            *([f"figure {name}", f"{value:g}"] for name, value in manifest.metrics.items()),
            *([f"note {name}", value] for name, value in manifest.notes.items()),
            *([f"config {name}", json.dumps(value, ensure_ascii=False)] for name, value in manifest.config.items()),
        ]
    return {"facts": facts, "links": _told(links)}


def _line(output: Output) -> str:
    if output.manifest is None:
        return "manifest not known"
    counts, size = output.manifest.counts, sum(file.bytes for file in output.manifest.files)
    return f"{counts.num_out:,} records, {_size(size)}" if output.manifest.kind == "data" else _size(size)


def _size(num_bytes: float) -> str:
    """Formats a size for people.

    >>> _size(999), _size(1234567)
    ('999 B', '1.2 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def _told(links: list[Link]) -> list[list[str]]:
    return [[link.verdict.value, link.check, link.detail, link.where] for link in links]


def _names(report: AuditReport) -> set[str]:
    return {output.name for output in report.outputs}


def _sources_of(output: Output) -> str:
    return f"sources of {output.name}"


def _as_script_data(value: Any) -> str:
    """Formats JSON that cannot end the element it stands in, whatever its strings hold."""
    text = json.dumps(value, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
