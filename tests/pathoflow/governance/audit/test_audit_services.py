"""The audit against a team's services: MLflow with logins over HTTP on PostgreSQL, all bytes on S3."""

from __future__ import annotations

from functools import partial

import psutil
import pytest

from pathoflow.contract.workdir import WorkDir
from pathoflow.governance.audit import Places, Verdict, audit
from pathoflow.governance.audit.forward import Use, forward
from pathoflow.governance.audit.gc import plan
from pathoflow.governance.audit.index import update
from pathoflow.governance.registry.access import Registry
from pathoflow.governance.registry.trust import check_trust
from pathoflow.governance.signing import TrustedKeys, make_key
from tests.support.lineage.registered import MODEL, commit_of, make_books, make_repository, run_pipeline
from tests.support.s3_server import BUCKET, Fault
from tests.support.services import team_services


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    """The services with one registered version, and the repository of its code."""
    root = tmp_path_factory.mktemp("audited")
    with team_services() as services:
        key = make_key(root / "registrar.key", "ec")
        TrustedKeys.add(services.root / "trusted", "registrar", key.public)
        environment = {**services.environment, "PATHOFLOW_SIGNING_KEY": str(key.path)}
        repository, workdir = make_repository(root), WorkDir(root / "work")
        workdir.create()
        run_pipeline(
            workdir,
            make_books(root),
            commit_of(repository),
            environment=environment,
            register={"signing": "key"},
        )
        yield services, environment, repository


@pytest.fixture
def places(team, monkeypatch) -> Places:
    _, environment, repository = team
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Places.from_environment(repository=repository)


@pytest.fixture(autouse=True)
def no_faults(team):
    yield
    team[0].s3.faults.clear()


def run_audit(places: Places, **options):
    return audit(MODEL, places, check_trust=partial(check_trust, Registry.from_environment), **options)


def objects(team, name: str) -> list:
    return [path for path in team[0].s3.folder.rglob(name) if path.is_file()]


def test_a_whole_version_passes(places):
    report = run_audit(places, with_md5=True)
    assert [f"{link.subject}: {link.check} {link.detail} {link.where}" for link in report.problems] == []
    assert report.verdict is Verdict.PASS


OBJECTS = {
    "a weight shard": "mlflow/**/model/weights.bin",
    "a manifest": "mlflow/**/model/manifest.json",
    "a manifest that a run logged": "mlflow/*/*/artifacts/manifest.json",
    "a Parquet shard": "dvc/files/md5/*/*",
    "DVC's listing": "dvc/files/md5/*/*.dir",
    "a signature": "registry/signatures/*/*",
    "a model card": "registry/cards/*",
    "an entry of the log": "registry/log/*.json",
}


@pytest.mark.parametrize("what", OBJECTS)
def test_an_object_that_was_changed_is_named_and_one_that_is_gone_is_unknown(team, places, what):
    found = {path: path.read_bytes() for path in (team[0].s3.folder / BUCKET).glob(OBJECTS[what]) if path.is_file()}
    # What the registration itself left is no part of the version.
    found = {path: content for path, content in found.items() if b"registration.json" not in content}
    if what == "a Parquet shard":
        found = {path: content for path, content in found.items() if content.startswith(b"PAR1")}
    path, good = min(found.items())
    path.write_bytes(good[:-2] + bytes([good[-2] ^ 1]) + good[-1:])
    changed = run_audit(places)
    path.unlink()
    gone = run_audit(places)
    path.write_bytes(good)
    assert (changed.verdict, gone.verdict) == (Verdict.FAIL, Verdict.UNKNOWN)
    for report, verdict in ((changed, Verdict.FAIL), (gone, Verdict.UNKNOWN)):
        told = [link.where + link.detail for link in report.problems if link.verdict is verdict]
        assert any(path.stem in text and text.startswith(f"s3://{BUCKET}/") for text in told), told


def test_a_broken_connection_is_taken_up_and_one_that_stays_broken_is_unknown(team, places):
    team[0].s3.faults.append(Fault("reset", "GET", "weights.bin", count=1))
    assert run_audit(places).verdict is Verdict.PASS
    team[0].s3.faults.append(Fault("reset", "GET", "weights.bin", count=100))
    report = run_audit(places)
    assert report.verdict is Verdict.UNKNOWN
    assert {link.check for link in report.problems} == {"bytes"}
    team[0].s3.faults.clear()
    team[0].s3.faults.append(Fault("503", "GET", "dvc", count=1000))
    report = run_audit(places)
    assert report.verdict is Verdict.UNKNOWN
    assert {link.subject for link in report.problems} >= {"corpus", "textbook_pairs", "vqa_benchmarks"}


def test_a_byte_that_the_way_spoilt_once_is_read_again_and_one_that_stays_spoilt_fails(team, places):
    for text in ("weights.bin", "manifest.json", "files/md5"):
        team[0].s3.faults.append(Fault("wrong", "GET", text, count=1))
        assert run_audit(places).verdict is Verdict.PASS, text
        assert team[0].s3.faults.pop().count == 0
    team[0].s3.faults.append(Fault("wrong", "GET", "weights.bin", count=100))
    assert run_audit(places).verdict is Verdict.FAIL


def test_lineage_reads_the_ids_out_of_the_buckets_shards(places, tmp_path):
    index = update(tmp_path / "index", places)
    assert index.problems == []
    answer = forward(index, "atlas")
    assert [(version.label, use) for version, use in answer.versions] == [(f"{MODEL}/1", Use.TRAINED)]
    assert answer.num_pairs == 5


def test_the_clean_up_sees_the_buckets_objects(places):
    wanted = plan(places, 0)
    assert wanted.obstacles == []
    assert {item.where for item in wanted.items if item.kind == "DVC object"} <= {str(places.dvc_remote)}
    # Only the registration's own output and run stand on no version.
    assert wanted.num_kept_runs >= 5
    assert wanted.num_kept_objects >= 8
    assert plan(places, 1).items == []


def test_a_server_that_is_gone_is_unknown(team, places, monkeypatch):
    """The last test of this module."""
    whole = places.client.get_run

    def stop_then_ask(run_id):
        monkeypatch.setattr(places.client, "get_run", whole)
        for child in psutil.Process().children(recursive=True):
            if "mlflow" in " ".join(child.cmdline()) and "postgres" not in child.name():
                child.kill()
        return whole(run_id)

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setattr(places.client, "get_run", stop_then_ask)
    report = audit(MODEL, places, check_trust=partial(check_trust, Registry.from_environment))
    assert report.verdict is Verdict.UNKNOWN
    assert any(link.check == "run" and "cannot be looked up" in link.detail for link in report.problems)
