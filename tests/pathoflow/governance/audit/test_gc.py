"""The clean-up takes what no version needs, and nothing else; where that is not known, it takes nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pathoflow.contract.workdir import WorkDir
from pathoflow.errors import BusyError, InputError
from pathoflow.governance.audit import Places, Verdict, audit
from pathoflow.governance.audit.gc import Cluster, clean, plan
from pathoflow.governance.audit.outputs import object_name
from tests.pathoflow.governance.audit.tampering import client, reference
from tests.support.lineage.registered import MODEL, commit_of, make_books, make_repository, run_pipeline
from tests.support.s3_server import BUCKET, s3_server


@pytest.fixture(scope="module")
def used(tmp_path_factory, empty_store):
    """A work directory whose first version was deleted, so that only its second one is registered."""
    root = tmp_path_factory.mktemp("gc")
    workdir = WorkDir(root / "work")
    workdir.create()
    workdir.mlflow.mkdir()
    shutil.copyfile(empty_store, workdir.mlflow / "mlflow.db")
    books, commit = make_books(root), commit_of(repository := make_repository(root))
    run_pipeline(workdir, books, commit)
    first = {stage: reference(workdir, stage) for stage in ("corpus", "rl", "textbook_pairs")}
    run_pipeline(workdir, books, commit, corpus={"heldout_every": 3})
    (workdir.state / "scratch" / "rl" / "0123").mkdir(parents=True)
    (workdir.state / "scratch" / "rl" / "0123" / "checkpoint").write_bytes(b"x" * 1000)
    places = Places.of_workdir(workdir.root, repository=repository)
    return places, first


def names(wanted) -> set[str]:
    return {item.name for item in wanted.items}


def test_what_a_version_needs_is_never_in_the_plan(used):
    places, first = used
    # The first registration's own output is in no lineage.
    of_first = {reference.run_id for reference in first.values()}
    assert not of_first & names(plan(places, 0))
    assert plan(places, 7).items == []
    client(places.workdir).delete_model_version(MODEL, "1")
    wanted = plan(places, 0)
    assert {item.kind for item in wanted.items} == {"checkpoint", "DVC object", "MLflow run"}
    assert {first["corpus"].run_id, first["rl"].run_id} <= names(wanted)
    assert object_name(str(first["corpus"].dvc_md5)) in names(wanted)
    # Both versions were made from the same pairs.
    assert object_name(str(first["textbook_pairs"].dvc_md5)) not in names(wanted)
    assert first["textbook_pairs"].run_id not in names(wanted)


@pytest.mark.parametrize("remote", [False, True])
def test_a_clusters_artifacts_and_checkpoints(used, tmp_path, monkeypatch, remote):
    """Of pipeline runs that a version came from, or that go on, everything stays."""
    places, _ = used
    version = max(int(found.version) for found in client(places.workdir).search_model_versions(f"name = '{MODEL}'"))
    needed, old, young = (f"{digit * 8}-1111-2222-3333-{'4' * 12}" for digit in "abc")
    client(places.workdir).set_model_version_tag(MODEL, str(version), "pathoflow.kfp_run_id", needed)
    checkpoints = tmp_path / "checkpoints"

    def look(artifacts: str, folder: Path) -> None:
        for run in (needed, old, young):
            for path in (folder / "patho-r1" / run / "rl" / "reference", checkpoints / run / "rl" / "state.bin"):
                path.parent.mkdir(parents=True)
                path.write_bytes(b"x" * 10)
                if run != young:
                    os.utime(path, times=(0, 0))
        for path in sorted(checkpoints.rglob("*"), reverse=True):
            if path.is_dir() and young not in str(path):
                os.utime(path, times=(0, 0))
        (checkpoints / "lost+found").mkdir()
        cluster = Cluster(artifacts, checkpoints)
        wanted = plan(places, 1, cluster)
        assert sorted((item.kind, item.name) for item in wanted.items) == [
            ("checkpoint", old),
            ("pipeline artifact", f"patho-r1/{old}/rl/reference"),
        ]
        assert clean(places, wanted, 1, cluster=cluster) == ["Removed 2."]
        left = {path.parts[-2] for path in folder.glob("patho-r1/*/rl")}
        assert left - {old} == {needed, young}
        assert not (folder / "patho-r1" / old / "rl" / "reference").exists()
        assert sorted(path.name for path in checkpoints.iterdir()) == sorted([needed, young, "lost+found"])

    if not remote:
        look(str(tmp_path / "artifacts"), tmp_path / "artifacts")
    else:
        with s3_server(tmp_path / "s3") as server:
            for name, value in server.environment.items():
                monkeypatch.setenv(name, value)
            look(f"s3://{BUCKET}/v2", server.folder / BUCKET / "v2")
    client(places.workdir).set_model_version_tag(MODEL, str(version), "pathoflow.kfp_run_id", "local")


def test_a_version_without_lineage_stops_everything(used):
    places, _ = used
    mlflow = client(places.workdir)
    mlflow.create_registered_model("by hand")
    mlflow.create_model_version("by hand", "/tmp")
    before = sorted(path for path in places.workdir.root.rglob("*") if path.suffix != ".lock")
    with pytest.raises(InputError, match="by hand/1 has no readable lineage"):
        clean(places, plan(places, 0), 0)
    assert sorted(path for path in places.workdir.root.rglob("*") if path.suffix != ".lock") == before
    mlflow.delete_registered_model("by hand")


def test_a_needed_run_in_the_waste_bin_stops_everything(used):
    places, _ = used
    run_id = str(reference(places.workdir, "rl").run_id)
    client(places.workdir).delete_run(run_id)
    with pytest.raises(InputError, match=f"restore --run-id {run_id}"):
        clean(places, plan(places, 0), 0)
    client(places.workdir).restore_run(run_id)


def test_a_run_in_progress_stops_everything(used):
    places, _ = used
    with places.workdir.lock(), pytest.raises(BusyError):
        clean(places, plan(places, 0), 0)


def test_a_copied_work_directory_is_not_cleaned_where_it_was_made(used, tmp_path):
    places, _ = used
    copy = shutil.copytree(places.workdir.root, tmp_path / "copy")
    elsewhere = Places.of_workdir(copy)
    with pytest.raises(InputError, match="was made at"):
        clean(elsewhere, plan(elsewhere, 0), 0)


def test_the_clean_up_frees_the_rest_and_the_version_stays_whole(used):
    """The last test of this module: it removes what the others look at."""
    places, first = used
    wanted = plan(places, 0)
    assert first["rl"].run_id in names(wanted)
    # What changed since the plan is left alone.
    os.utime(places.workdir.dvc / "remote" / object_name(str(first["corpus"].dvc_md5)), times=(time.time() + 60,) * 2)
    clean(places, wanted, 0)
    assert (places.workdir.dvc / "remote" / object_name(str(first["corpus"].dvc_md5))).exists()
    assert plan(places, 0).items == []
    left = (places.workdir.mlflow / "artifacts" / str(first["rl"].run_id)).rglob("*")
    assert [path for path in left if path.is_file()] == []
    assert not (places.workdir.state / "scratch" / "rl" / "0123").exists()
    report = audit(f"{MODEL}/2", places)
    assert [link.detail for link in report.problems] == []
    assert report.verdict is Verdict.PASS


def test_mlflows_own_clean_up_of_a_champion_is_detected(used):
    """Really the last test of this module: nothing is left after it."""
    places, _ = used
    run_id = str(reference(places.workdir, "rl").run_id)
    client(places.workdir).delete_run(run_id)
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", places.tracking_uri]
    subprocess.run([*command, "--tracking-uri", places.tracking_uri], check=True, capture_output=True)
    assert client(places.workdir).get_model_version(MODEL, "2").status == "READY"
    report = audit(f"{MODEL}/2", places)
    assert report.verdict is Verdict.UNKNOWN
    assert any(link.subject == "rl" and run_id in link.where + link.detail for link in report.problems)
