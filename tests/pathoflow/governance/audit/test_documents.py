"""What an audit leaves behind: the report as JSON, the bill of materials, the signed statement, and the exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from pathoflow.contract.sealing import read_manifest
from pathoflow.errors import SignatureError
from pathoflow.governance.audit import AuditReport
from pathoflow.governance.audit.attestation import PREDICATE_TYPE, attest
from pathoflow.governance.audit.bom import bill_of_materials
from pathoflow.governance.signing import file_digests, make_key, verify_statement
from tests.pathoflow.governance.audit.tampering import flip, stored


def command(case, *arguments: str) -> subprocess.CompletedProcess:
    code = "from pathoflow.cli import main; main()"
    words = ["audit", "toy.dev", "--workdir", str(case.workdir.root), "--sources", str(case.books)]
    words += ["--code", str(case.repository), *arguments]
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, env=os.environ
    )


def test_the_bill_of_materials_follows_its_schema_and_names_everything(case):
    report = case.audit()
    text = bill_of_materials(report)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    document = json.loads(text)
    assert document["specVersion"] == "1.6"
    named = {component["name"]: component for component in document["components"]}
    assert named.keys() >= {"rl", "corpus", "textbook_pairs", "pathoclip", "vqa_benchmarks"}
    assert {"atlas.txt", "primer.txt"} <= {name.rpartition("/")[2] for name in named}
    weights = next(part for part in named["rl"]["components"] if part["name"] == "model/weights.bin")
    manifest = read_manifest(case.workdir.output("rl"))
    assert weights["hashes"][0]["content"] == next(f.sha256 for f in manifest.files if f.path == "model/weights.bin")
    card = document["metadata"]["component"]["modelCard"]
    assert {"type": "accuracy_rl", "value": "0.75"} in card["quantitativeAnalysis"]["performanceMetrics"]
    assert card["modelParameters"]["datasets"] == [{"ref": named["corpus"]["bom-ref"]}]
    assert bill_of_materials(report) == text


def test_the_statement_is_about_the_models_files_and_signed(case, tmp_path):
    key = make_key(tmp_path / "auditor.pem", "ed25519")
    for result in ("PASSED", "FAILED"):
        envelope = attest(case.audit(), key)
        statement = verify_statement(envelope, [key.public], PREDICATE_TYPE)
        assert statement.subjects == file_digests(read_manifest(case.workdir.output("rl")))
        assert statement.predicate["verificationResult"] == result
        flip(stored(case.workdir, "corpus", "train/train-00000.parquet"))
    other = make_key(tmp_path / "other.pem", "ed25519")
    with pytest.raises(SignatureError):
        verify_statement(envelope, [other.public], PREDICATE_TYPE)


def test_the_command_writes_every_document_and_its_exit_code_is_the_verdict(case, tmp_path):
    key = make_key(tmp_path / "auditor.pem", "ec")
    files = {name: tmp_path / f"out.{name}" for name in ("json", "html", "bom", "attest")}
    options = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    done = command(case, *options, "--key", str(key.path), "--md5")
    assert (done.returncode, done.stderr) == (0, "")
    assert "toy.dev/1 (champion)  PASS" in done.stdout
    document = json.loads(files["json"].read_text())
    assert document["verdict"] == "PASS"
    assert document["num_bytes"] > 30_000
    assert AuditReport.model_validate({k: v for k, v in document.items() if k not in ("verdict", "num_bytes")})
    assert "PASS" in files["html"].read_text()
    assert json.loads(files["attest"].read_text())["payloadType"] == "application/vnd.in-toto+json"

    shard = stored(case.workdir, "corpus", "train/train-00000.parquet")
    flip(shard)
    failed = command(case, "--json")
    assert failed.returncode == 1
    assert any(link["where"] == str(shard) for link in json.loads(failed.stdout)["links"] if link["verdict"] == "FAIL")
    shard.unlink()
    unknown = command(case)
    assert unknown.returncode == 2
    assert f"({shard})" in unknown.stdout


def test_a_statement_without_a_key_is_refused_before_anything_is_hashed(case, tmp_path):
    done = command(case, "--attest", str(tmp_path / "statement.json"))
    assert done.returncode == 2
    assert "--attest needs --key" in done.stderr
    assert not (tmp_path / "statement.json").exists()
