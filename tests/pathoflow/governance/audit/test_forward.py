"""Which models were trained on this book, page, image or pair: answered from the manifests and the shards' ids."""

from __future__ import annotations

import shutil

import pyarrow.parquet as pq
import pytest

from pathoflow.contract.sealing import read_manifest
from pathoflow.errors import InputError
from pathoflow.governance.audit.forward import Use, forward
from pathoflow.governance.audit.index import LineageIndex, update
from tests.pathoflow.governance.audit.tampering import client, reference
from tests.support.lineage.registered import MODEL, commit_of, run_pipeline


@pytest.fixture
def index(case, tmp_path) -> LineageIndex:
    return update(tmp_path / "index", case.places())


def rows(case, split: str) -> list[dict]:
    return pq.read_table(
        case.workdir.output("corpus") / split, columns=["pair_id", "source_id", "image_sha256"]
    ).to_pylist()


def stages(index, answer) -> dict[str, set[str]]:
    return {
        index.outputs[identity].stage: {use.value for use in trace.uses} for identity, trace in answer.traces.items()
    }


def test_a_pair_of_the_training_part_leads_to_the_models(case, index):
    row = rows(case, "train")[0]
    for asked in (row["pair_id"], row["source_id"], row["image_sha256"]):
        answer = forward(index, asked)
        assert [(version.label, use) for version, use in answer.versions] == [("toy.dev/1", Use.TRAINED)]
        assert stages(index, answer) == {
            "textbook_pairs": {"held"},
            "corpus": {"trained"},
            "pathoclip": {"trained"},
            "rl": {"trained"},
            "vqa_benchmarks": {"trained"},
        }


def test_a_pair_that_was_held_out_was_only_evaluated_on(case, index):
    answer = forward(index, rows(case, "heldout")[0]["pair_id"])
    assert [(version.label, use) for version, use in answer.versions] == [("toy.dev/1", Use.EVALUATED)]
    assert stages(index, answer).keys() == {"textbook_pairs", "corpus", "vqa_benchmarks"}


@pytest.mark.parametrize(
    "asked", ["atlas", "atlas.txt", "textbook", "corpus", "corpus/train/train-00000.parquet", "rl"]
)
def test_a_book_a_source_a_stage_and_a_shard(index, asked):
    answer = forward(index, asked)
    assert [(version.label, use) for version, use in answer.versions] == [("toy.dev/1", Use.TRAINED)]
    if asked == "atlas":
        assert answer.num_pairs == 5


def test_digests(case, index):
    manifest = read_manifest(case.workdir.output("corpus"))
    asked = [manifest.identity, manifest.identity[7:19], str(reference(case.workdir, "corpus").dvc_md5)]
    asked += [next(file.sha256 for file in manifest.files if file.path.startswith("train/"))]
    for name in asked:
        assert [use for _, use in forward(index, name).versions] == [Use.TRAINED], name


def test_copies_and_later_versions_count_and_one_without_the_book_does_not(case, original, tmp_path, monkeypatch):
    mlflow = client(case.workdir)
    mlflow.copy_model_version(f"models:/{MODEL}/1", "toy.prod")
    mlflow.set_registered_model_alias("toy.prod", "champion", "1")
    folder = tmp_path / "index"
    before = update(folder, case.places())
    (case.books / "atlas.txt").rename(tmp_path / "withdrawn.txt")
    run_pipeline(case.workdir, case.books, commit_of(case.repository))
    index = update(folder, case.places())
    assert len(index.outputs) == 2 * len(before.outputs)
    assert {version.label for version, _ in forward(index, "atlas").versions} == {"toy.dev/1", "toy.prod/1"}
    assert {version.label for version, _ in forward(index, "primer").versions} == {
        "toy.dev/1",
        "toy.dev/2",
        "toy.prod/1",
    }
    assert {version.label for version, _ in forward(index, "toy.prod@champion").versions} == {"toy.dev/1", "toy.prod/1"}
    answers = [forward(index, asked).versions for asked in ("atlas", "primer", "textbook")]
    shutil.rmtree(folder)
    again = update(folder, case.places())
    assert [forward(again, asked).versions for asked in ("atlas", "primer", "textbook")] == answers


def test_what_nothing_stands_on_is_told_and_gaps_are_not_hidden(case, tmp_path):
    mlflow = client(case.workdir)
    mlflow.create_registered_model("by hand")
    mlflow.create_model_version("by hand", str(case.books))
    index = update(tmp_path / "index", case.places())
    assert index.problems == ["by hand/1 has no lineage: what it was trained on is not known"]
    with pytest.raises(InputError, match="Nothing registered stands on 'no such book'"):
        forward(index, "no such book")
    assert forward(index, "atlas").problems == index.problems
