"""A second work directory gets an output by its reference alone, and only if every byte is right."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pathoflow.contract.references import Reference, fetch
from pathoflow.contract.sealing import MANIFEST_FILE, verify
from pathoflow.contract.stage import Services, execute
from pathoflow.errors import SealError
from tests.support.toy.config import ToyConfig
from tests.support.toy_model.config import ToyModelConfig


@pytest.fixture
def published(workdir) -> dict[str, Reference]:
    """References of a data set and a model, as they travel: through JSON."""
    services = Services.from_environment(workdir)
    references = {"toy": execute(ToyConfig(), {}, workdir, services)}
    references["toy_model"] = execute(ToyModelConfig(), {"toy": workdir.output("toy")}, workdir, services)
    return {name: Reference.model_validate_json(item.model_dump_json()) for name, item in references.items()}


@pytest.fixture
def fetch_elsewhere(new_workdir, workdir):
    """Fetches into a second work directory, which knows the first one's servers and nothing else."""
    elsewhere = new_workdir("elsewhere")
    return lambda reference: fetch(reference, elsewhere, workdir.tracking_uri)


def stored(workdir, reference: Reference, name: str) -> Path:
    """The published copy of one file of the output."""
    content = (workdir.output(reference.stage) / name).read_bytes()
    root = workdir.dvc / "remote" if reference.kind == "data" else workdir.mlflow / "artifacts"
    found = [path for path in root.rglob("*") if path.is_file() and path.read_bytes() == content]
    path = found[0] if reference.kind == "data" else next(path for path in found if "model" in path.parts)
    path.chmod(0o644)
    return path


@pytest.mark.parametrize("stage", ["toy", "toy_model"])
def test_an_output_is_fetched_once_and_is_the_one_that_was_published(workdir, published, fetch_elsewhere, stage):
    folder = fetch_elsewhere(published[stage])
    assert not folder.is_relative_to(workdir.root)
    assert verify(folder) == verify(workdir.output(stage))
    shutil.rmtree(workdir.dvc / "remote")
    shutil.rmtree(workdir.mlflow / "artifacts")
    assert fetch_elsewhere(published[stage]) == folder


@pytest.mark.parametrize(("stage", "name"), [("toy", "text.txt"), ("toy_model", "model/weights.bin")])
def test_changed_bytes_are_refused(workdir, published, fetch_elsewhere, stage, name):
    path = stored(workdir, published[stage], name)
    good = path.read_bytes()
    path.write_bytes(good[:-1] + b"?")
    with pytest.raises(SealError, match=f"run {stage} again"):
        fetch_elsewhere(published[stage])
    path.write_bytes(good)
    assert verify(fetch_elsewhere(published[stage]))


def test_another_output_in_the_references_place_is_refused(published, fetch_elsewhere):
    wrong = published["toy_model"].model_copy(update={"identity": "sha256:" + "0" * 64})
    with pytest.raises(SealError, match=f"names {wrong.identity}, but {published['toy_model'].identity}"):
        fetch_elsewhere(wrong)


def test_the_work_directorys_own_output_is_used_if_it_is_the_one(workdir, published):
    assert fetch(published["toy"], workdir, workdir.tracking_uri) == workdir.output("toy")
    execute(ToyConfig(text="newer"), {}, workdir, Services.from_environment(workdir))
    older = fetch(published["toy"], workdir, workdir.tracking_uri)
    assert older != workdir.output("toy")
    assert (older / "text.txt").read_text() == "hello"


@pytest.mark.parametrize("stage", ["toy", "toy_model"])
def test_a_download_that_was_killed_is_begun_again(new_workdir, workdir, published, fetch_elsewhere, stage):
    folder = fetch_elsewhere(published[stage])
    partial = folder.with_suffix(".partial")
    partial.mkdir()
    left = folder.rename(partial / ("model" if stage == "toy_model" else stage))
    (left / MANIFEST_FILE).unlink()
    assert verify(fetch_elsewhere(published[stage]))
    assert not partial.exists()


def test_an_output_that_was_not_published_cannot_be_fetched(workdir, services, new_workdir):
    reference = execute(ToyConfig(), {}, workdir, services)
    with pytest.raises(SealError, match="was not published"):
        fetch(reference, new_workdir("elsewhere"), workdir.tracking_uri)
    assert fetch(reference, workdir, workdir.tracking_uri) == workdir.output("toy")
