"""Data goes to a DVC remote and comes back by its digest, whole or not at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc.dirs import site_cache_dir

from pathoflow.errors import SealError
from pathoflow.stores.versioning import DvcStore


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "source"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.parquet").write_bytes(b"first")
    (folder / "deep" / "b #é.parquet").write_bytes(b"second")
    return folder


@pytest.fixture
def store(tmp_path) -> DvcStore:
    return DvcStore(tmp_path / "数据" / "dvc", str(tmp_path / "数据" / "remote"))


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def object_of(store: DvcStore, content: bytes) -> Path:
    [path] = [path for path in Path(store.remote).rglob("*") if path.is_file() and path.read_bytes() == content]
    return path


def test_what_was_pushed_is_pulled_elsewhere(store, source, tmp_path):
    digest = store.push(source, "toy")
    assert len(digest) == 36
    assert digest.endswith(".dir")
    DvcStore(tmp_path / "elsewhere", store.remote).pull("toy", digest, tmp_path / "deep" / "pulled")
    assert tree(tmp_path / "deep" / "pulled") == tree(source)
    assert store.push(source, "toy") == digest


def test_the_digest_is_the_one_that_dvcs_own_command_gives(store, source, tmp_path):
    place = tmp_path / "plain"
    shutil.copytree(source, place / "toy")
    (place / ".dvc").mkdir()
    (place / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    subprocess.run([sys.executable, "-m", "dvc", "add", "-q", "toy"], cwd=place, check=True)
    [out] = yaml.safe_load((place / "toy.dvc").read_text())["outs"]
    assert store.push(source, "toy") == out["md5"]


def test_the_cache_does_not_share_the_outputs_files(store, source):
    store.push(source, "toy")
    (source / "a.parquet").write_bytes(b"FIRST")
    assert object_of(store, b"first")
    cached = [path for path in (store.root / "cache").rglob("*") if path.is_file()]
    assert {path.stat().st_ino for path in cached}.isdisjoint(path.stat().st_ino for path in source.rglob("*"))
    assert b"FIRST" not in [path.read_bytes() for path in cached]


@pytest.mark.parametrize("damage", ["changed", "removed"])
def test_a_damaged_remote_gives_an_error_and_no_data(store, source, tmp_path, damage):
    digest = store.push(source, "toy")
    path = object_of(store, b"second")
    path.chmod(0o644)
    path.write_bytes(b"SECOND") if damage == "changed" else path.unlink()
    elsewhere = DvcStore(tmp_path / "elsewhere", store.remote)
    with pytest.raises(SealError, match="toy") as error:
        elsewhere.pull("toy", digest, tmp_path / "pulled")
    assert store.remote in str(error.value)
    assert not (tmp_path / "pulled").exists()


def test_nothing_is_left_of_a_workspace_that_a_kill_left(store, source):
    left = store.root / "workspace-toy"
    left.mkdir(parents=True)
    (left / "toy").mkdir()
    (left / "toy" / "half.bin").write_bytes(b"0" * 100)
    digest = store.push(source, "toy")
    assert not left.exists()
    assert digest == store.push(source, "toy")
    assert sorted(path.name for path in store.root.iterdir() if path.is_dir()) == ["cache"]


def test_dvcs_indices_go_with_the_workspace(store, source, monkeypatch):
    places = []

    def noted(configured: str | None) -> str:
        places.append(Path(site_cache_dir(configured)))
        return str(places[-1])

    monkeypatch.setattr("dvc.dirs.site_cache_dir", noted)
    monkeypatch.delenv("DVC_SITE_CACHE_DIR", raising=False)
    store.push(source, "toy")
    assert places
    assert all(path.is_relative_to(store.root) and not path.exists() for path in places)


def test_a_copy_that_fails_says_why(store, source):
    shutil.rmtree(source)
    with pytest.raises(OSError, match="No such file"):
        store.push(source, "toy")
