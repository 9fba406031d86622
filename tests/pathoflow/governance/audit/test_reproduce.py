"""A repetition needs sound records, runs what they say, and is told apart by bytes, then by figures."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pathoflow.contract.code import REPOSITORY
from pathoflow.contract.sealing import Manifest, read_manifest
from pathoflow.errors import InputError
from pathoflow.governance.audit.places import Places
from pathoflow.governance.audit.reproduce import Sameness, _placed, _write_recipe, check_recorded, compare, reproduce
from tests.pathoflow.governance.audit.tampering import logged_manifest, stored
from tests.support.lineage.registered import commit_of
from tests.support.small import SMALL


def changed(manifest: Manifest, **values) -> Manifest:
    return manifest.model_copy(update=values)


def test_records_that_do_not_suffice_are_told(case):
    report = case.audit()
    assert check_recorded(report, case.repository) == commit_of(case.repository)
    with pytest.raises(InputError, match="has no commit"):
        check_recorded(report, case.books)
    first, *others = report.outputs
    assert first.manifest
    dirty = changed(first.manifest, code=first.manifest.code.model_copy(update={"dirty": True}))
    for manifest, words in (
        (dirty, "ran with changes that were not committed"),
        (changed(first.manifest, code=first.manifest.code.model_copy(update={"commit": "abc"})), "several commits"),
    ):
        outputs = (first.model_copy(update={"manifest": manifest}), *others)
        with pytest.raises(InputError, match=words):
            check_recorded(report.model_copy(update={"outputs": outputs}), case.repository)
    for find in (stored, logged_manifest):
        arguments = (case.workdir, "corpus", "manifest.json")[: 3 if find is stored else 2]
        find(*arguments).unlink()
    with pytest.raises(InputError, match="no sound manifest of corpus"):
        check_recorded(case.audit(), case.repository)


def test_bytes_then_figures_decide(case, tmp_path):
    folder = case.workdir.output("rl")
    recorded = read_manifest(folder)
    assert compare(recorded, folder).sameness is Sameness.IDENTICAL
    assert compare(recorded, tmp_path / "rl").sameness is Sameness.MISSING
    other = recorded.files[0].model_copy(update={"sha256": "0" * 64})
    near = changed(recorded, files=(other, *recorded.files[1:]), metrics={"recall_at_1": 0.51})
    found = compare(near, folder)
    assert (found.sameness, found.num_same_files, found.num_files) == (Sameness.WITHIN, 1, 2)
    far = changed(near, metrics={"recall_at_1": 0.7})
    assert compare(far, folder).sameness is Sameness.DIFFERENT
    assert compare(far, folder).detail == "recall_at_1 0.7 became 0.5"
    assert compare(far, folder, tolerance=0.3).sameness is Sameness.WITHIN


def test_a_commit_without_this_code_is_refused_and_the_checkout_goes_again(case, tmp_path):
    workdir, other = tmp_path / "again", tmp_path / "other"
    git = ["git", "-C", str(other), "-c", "user.name=test", "-c", "user.email=test@example.org"]
    other.mkdir()
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "Nothing"]):
        subprocess.run([*git, *command], check=True)
    places = Places(case.workdir.tracking_uri, workdir=case.workdir, repository=other)
    with pytest.raises(InputError, match="holds no pathoflow"):
        reproduce(case.audit(), commit_of(other), places, workdir, tmp_path / "log")
    assert not workdir.with_name("again.code").exists()


def test_the_recorded_configurations_become_a_recipe(case, tmp_path):
    code = tmp_path / "code"
    shutil.copytree(REPOSITORY / "recipes" / "smoke", code / "recipes" / "smoke")
    report = case.audit()
    folder = _write_recipe(report.outputs, code, case.books, tmp_path / "recipe")
    written = {path.stem: yaml.safe_load(path.read_text()) for path in folder.glob("*.yaml")}
    for output in report.outputs:
        assert output.manifest
        if output.stage != "textbook_pairs":
            assert written[output.stage] == output.manifest.config
    assert written["register"]["model_name"]
    # Files from outside are taken from their recorded place as long as they are there.
    books = [Path(book) for book in written["textbook_pairs"]["books"]]
    assert [book.name for book in books] == ["atlas.txt", "primer.txt"]
    assert all(book.exists() for book in books)


def test_paths_are_placed(tmp_path):
    (tmp_path / "moved.txt").touch()
    config = {"a": ["recipes/x.yaml", "other"], "b": {"c": "/gone/moved.txt"}, "d": 3}
    external = {"recipes/x.yaml", "/gone/moved.txt"}
    assert _placed(config, external, Path("/code"), tmp_path) == {
        "a": ["/code/recipes/x.yaml", "other"],
        "b": {"c": str(tmp_path / "moved.txt")},
        "d": 3,
    }


@pytest.mark.slow
def test_the_smoke_pipeline_comes_out_the_same_again(tmp_path, clean_environment, monkeypatch):
    """The whole pipeline, made small: run, registered, audited and run again from its records."""
    monkeypatch.delenv("PATHOFLOW_CODE_COMMIT")
    git = ["git", "-C", str(REPOSITORY), "status", "--porcelain", "--untracked-files=no"]
    state = subprocess.run(git, capture_output=True, text=True, check=False)
    if state.returncode or state.stdout:
        pytest.skip("needs a clone without local changes: what is not committed cannot be run again")
    command = [sys.executable, "-c", "from pathoflow.cli import main; main()"]
    options = [word for value in SMALL for word in ("--set", value)]
    first, again = tmp_path / "first", tmp_path / "again"
    subprocess.run([*command, "run", "--recipe", "smoke", "--workdir", str(first), *options], check=True)
    done = subprocess.run(
        [*command, "reproduce", "patho-r1-smoke.dev/1", "--from", str(first), "--workdir", str(again)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("bit-identical") == 11
    assert read_manifest(first / "rl").files == read_manifest(again / "rl").files
