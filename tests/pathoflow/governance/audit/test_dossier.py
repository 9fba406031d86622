"""The dossier is one inert page: it shows what was found and runs nothing that a name or tag brought along."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pathoflow.governance.audit import AuditReport, Verdict
from pathoflow.governance.audit.dossier import render
from pathoflow.governance.audit.graph import layers, layout
from tests.pathoflow.governance.audit.tampering import client, flip, stored
from tests.support.lineage.registered import MODEL

PLANTED = (
    '<img src=x onerror="document.title=\'planted\'"></script><script>document.title="planted"</script>\'"><b>{{7*7}}'
)


def rendered(page: Path, tmp_path: Path) -> str:
    """The page's DOM after Chromium ran its scripts."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--virtual-time-budget=3000", "--dump-dom", page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.fixture
def planted(case) -> AuditReport:
    """A report in which every word from outside is hostile."""
    client(case.workdir).set_model_version_tag(MODEL, "1", "metric.accuracy_rl", PLANTED)
    flip(stored(case.workdir, "rl", "model/weights.bin"))
    report = case.audit()
    text = report.model_dump_json(exclude={"verdict", "num_bytes"})
    document = json.loads(text)
    document |= {"model": PLANTED, "aliases": [PLANTED], "asked": PLANTED}
    document["tags"][PLANTED] = PLANTED
    document["outputs"][0]["manifest"]["notes"] = {PLANTED: PLANTED}
    document["outputs"][0]["manifest"]["config"] = {"caption": PLANTED}
    document["gates"] = [{"gate": PLANTED, "verdict": PLANTED, "detail": PLANTED}]
    document["approvals"] = [{"by": PLANTED, "at": PLANTED, "state": PLANTED}]
    document["history"] = [{"at": PLANTED, "who": PLANTED, "what": PLANTED, "detail": PLANTED}]
    renamed = f"{PLANTED} {document['outputs'][1]['name']}"
    old = document["outputs"][1]["name"]
    document["outputs"][1]["name"] = renamed
    for link in document["links"]:
        link["subject"] = renamed if link["subject"] == old else link["subject"]
    document["edges"] = [[renamed if name == old else name for name in edge] for edge in document["edges"]]
    return AuditReport.model_validate(document)


def test_planted_markup_is_text(planted):
    page = render(planted)
    assert "<img" not in page
    assert "onerror=&#34;" in page
    assert "{{7*7}}" in page and ">49" not in page  # noqa: PT018
    assert page.count("<script") == 2
    assert re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page) == []


def test_planted_markup_is_inert_in_a_browser(planted, tmp_path):
    page = tmp_path / "dossier.html"
    page.write_text(render(planted))
    dom = rendered(page, tmp_path)
    assert "<title>FAIL: audit of &lt;img" in dom
    assert "<img" not in dom
    # The page's own script ran: it chose the box of what failed.
    assert re.search(r'class="box model FAIL[^"]*chosen', dom)
    assert "model/weights.bin was changed" in dom.partition('id="panel"')[2].partition("</aside>")[0]


def test_the_dossier_says_what_was_found(case):
    page = render(case.audit())
    for words in ("PASS: audit of toy.dev/1", "textbook_pairs", "accuracy_rl", "default-src &#39;none&#39;"):
        assert words in page
    flip(stored(case.workdir, "rl", "model/weights.bin"))
    report = case.audit()
    assert report.verdict is Verdict.FAIL
    assert "What is not well" in render(report)


def test_a_circle_in_damaged_records_does_not_hang_the_layout():
    edges = [("a", "b"), ("b", "a"), ("b", "c")]
    assert set(layers(["a", "b", "c"], edges)) == {"a", "b", "c"}
    assert set(layout(["a", "b", "c"], edges).places) == {"a", "b", "c"}
