"""One byte changed anywhere is a FAIL that names it; a record that is gone is UNKNOWN."""

from __future__ import annotations

import shutil

import pytest

from pathoflow.governance.audit import Verdict
from tests.pathoflow.governance.audit import tampering
from tests.pathoflow.governance.audit.tampering import (
    client,
    execute_sql,
    flip,
    listing,
    logged_manifest,
    reference,
    stored,
)
from tests.support.lineage.registered import MODEL

CHANGED = {
    "a weight shard": (lambda w: stored(w, "rl", "model/weights.bin"), "model/weights.bin was changed"),
    "the model's manifest": (lambda w: stored(w, "rl", "manifest.json"), "manifest.json is damaged"),
    "a data set's manifest": (lambda w: stored(w, "corpus", "manifest.json"), "manifest.json is damaged"),
    "a manifest in MLflow": (lambda w: logged_manifest(w, "textbook_pairs"), "manifest.json is damaged"),
    "a Parquet shard": (
        lambda w: stored(w, "corpus", "train/train-00000.parquet"),
        "train/train-00000.parquet was changed",
    ),
    "an older Parquet shard": (
        lambda w: stored(w, "textbook_pairs", "pairs/shard-00000.parquet"),
        "pairs/shard-00000.parquet was changed",
    ),
    "DVC's listing": (lambda w: listing(w, "corpus"), "was changed: its MD5 is"),
    "the scores": (lambda w: stored(w, "vqa_benchmarks", "scores.json"), "scores.json was changed"),
}


@pytest.mark.parametrize("what", CHANGED)
def test_a_changed_byte_is_named(case, what):
    find, words = CHANGED[what]
    path = find(case.workdir)
    flip(path)
    report = case.audit()
    assert report.verdict is Verdict.FAIL
    failures = [link for link in report.links if link.verdict is Verdict.FAIL]
    assert any(words in link.detail and link.where == str(path) for link in failures), failures


@pytest.mark.parametrize("what", CHANGED)
def test_a_file_that_is_gone_is_unknown(case, what):
    path = CHANGED[what][0](case.workdir)
    path.unlink()
    report = case.audit()
    assert report.verdict is Verdict.UNKNOWN
    assert any(path.name in link.where + link.detail for link in report.problems), report.problems


def test_a_word_changed_in_a_sealed_configuration_is_named(case):
    path = stored(case.workdir, "corpus", "manifest.json")
    path.chmod(0o644)
    path.write_text(path.read_text().replace('"heldout_every": 4', '"heldout_every": 5'))
    report = case.audit()
    [failure] = [link for link in report.links if link.verdict is Verdict.FAIL]
    assert (failure.subject, failure.check, failure.where) == ("corpus", "manifest", str(path))
    assert "manifest.json was changed after the seal" in failure.detail


def test_a_changed_source_is_named_and_one_that_is_gone_is_unknown(case, original, monkeypatch):
    report = case.audit()
    assert report.verdict is Verdict.PASS
    recorded = [str(path) for path in original.books.iterdir()]
    assert {link.where for link in report.links if link.check == "source" and "books" in link.where} == set(recorded)
    hidden = original.books.rename(original.books.with_name("hidden"))
    try:
        assert case.audit().verdict is Verdict.PASS
        flip(case.books / "atlas.txt")
        [failure] = [link for link in case.audit().links if link.verdict is Verdict.FAIL]
        assert (failure.check, failure.where) == ("source", str(case.books / "atlas.txt"))
        (case.books / "atlas.txt").unlink()
        [gone] = case.audit().problems
        assert (gone.verdict, gone.check, gone.where) == (Verdict.UNKNOWN, "source", str(original.books / "atlas.txt"))
    finally:
        hidden.rename(original.books)


def test_every_tag_of_the_version_counts(case):
    mlflow = client(case.workdir)
    tags = mlflow.get_model_version(MODEL, "1").tags
    assert len(tags) >= 13
    for name in sorted(tags):
        changed = tags[name][:-1] + chr(ord(tags[name][-1]) ^ 1)
        mlflow.set_model_version_tag(MODEL, "1", name, changed)
        report = case.audit()
        failures = [link for link in report.problems if link.verdict is Verdict.FAIL]
        assert any(name in link.where for link in failures), (name, report.problems)
        mlflow.delete_model_version_tag(MODEL, "1", name)
        report = case.audit()
        assert report.verdict is Verdict.UNKNOWN, (name, report.problems)
        assert any(name in link.where for link in report.problems), (name, report.problems)
        mlflow.set_model_version_tag(MODEL, "1", name, tags[name])
    assert case.audit().verdict is Verdict.PASS


RUN_RECORDS = {
    "tag": ("tags", "key = 'pathoflow.identity'"),
    "parameter": ("params", "key = 'heldout_every'"),
    "metric": ("latest_metrics", "key = 'num_pairs'"),
}


@pytest.mark.parametrize("what", RUN_RECORDS)
def test_a_stages_run_is_compared_with_its_manifest(case, what):
    table, row = RUN_RECORDS[what]
    run_id = str(reference(case.workdir, "corpus").run_id)
    execute_sql(case.workdir, f"update {table} set value = value || '1' where {row} and run_uuid = ?", run_id)
    if what == "metric":
        execute_sql(case.workdir, f"update metrics set value = value || '1' where {row} and run_uuid = ?", run_id)
    report = case.audit()
    [failure] = [link for link in report.links if link.verdict is Verdict.FAIL]
    assert failure.subject == "corpus"
    assert failure.where.startswith(f"run {run_id}, {what}")
    execute_sql(case.workdir, f"delete from {table} where {row} and run_uuid = ?", run_id)
    report = case.audit()
    assert (report.verdict, report.problems[0].subject) == (Verdict.UNKNOWN, "corpus")


@pytest.mark.parametrize("stage", ["rl", "corpus"])
def test_a_deleted_run_is_told_before_mlflows_own_clean_up_takes_its_bytes(case, stage):
    run_id = str(reference(case.workdir, stage).run_id)
    client(case.workdir).delete_run(run_id)
    report = case.audit()
    assert report.verdict is Verdict.UNKNOWN
    assert any(f"mlflow runs restore --run-id {run_id}" in link.detail for link in report.problems)


def test_a_file_added_after_the_seal_is_named(case):
    path = stored(case.workdir, "rl", "model/weights.bin").with_name("code.py")
    path.write_text("import os")
    report = case.audit()
    [failure] = [link for link in report.links if link.verdict is Verdict.FAIL]
    assert (failure.where, failure.detail) == (str(path), "model/code.py was added after the seal")


def registry_file(case, pattern: str):
    [path] = (case.workdir.root / "registry").glob(pattern)
    return path


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("signature", "signatures/*/*"),
        ("model card", "cards/*"),
        ("decision log", "log/000000000001.json"),
        ("decision log", "log-head.json"),
    ],
)
def test_signed_records_count(case, what, pattern):
    path = registry_file(case, pattern)
    whole = path.read_bytes()
    flip(path, at=len(whole) // 2)
    report = case.audit()
    assert report.verdict is Verdict.FAIL, report.problems
    failures = [link for link in report.links if link.verdict is Verdict.FAIL]
    assert any(link.check == what and path.name in link.detail + link.where for link in failures), failures
    path.unlink()
    report = case.audit()
    if path.name == "log-head.json":
        # Of a log with one entry the writer may have been killed; of a longer one see the registry's tests.
        assert report.verdict is Verdict.PASS
    else:
        assert report.verdict is Verdict.UNKNOWN, report.problems
        assert any(link.check == what for link in report.problems), report.problems


def test_without_trusted_keys_nothing_is_believed(case):
    shutil.rmtree(case.workdir.root / "keys")
    report = case.audit()
    assert report.verdict is Verdict.UNKNOWN
    assert [link.check for link in report.problems] == ["keys"]


def test_an_alias_moved_behind_the_logs_back_is_named(case):
    client(case.workdir).delete_registered_model_alias(MODEL, "champion")
    report = case.audit()
    assert report.verdict is Verdict.FAIL
    assert [(link.check, link.where) for link in report.problems] == [("alias", f"{MODEL}@champion")]


def test_the_history_is_told(case):
    report = case.audit()
    assert [(step.what, step.detail) for step in report.history] == [("register", f"{MODEL}/1")]


def test_a_commit_that_the_repository_lacks_is_unknown_and_other_code_fails(case, original, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    tampering.git("init", "-q", str(elsewhere))
    case.repository = elsewhere
    report = case.audit()
    assert report.verdict is Verdict.UNKNOWN
    assert {link.check for link in report.problems} == {"code"}
