"""Pairs that repeat what models are scored on, by name and by image, from sets of every shape."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from PIL import ImageEnhance

from components.data_processing.corpus.config import CorpusConfig
from components.data_processing.corpus.evaluation_sets import read_evaluation_set
from components.data_processing.corpus.stage import run
from pathoflow.data.image_io import encode_jpeg, encode_png
from pathoflow.data.schemas import MCQ, ShardWriter
from pathoflow.errors import ConfigError, InputError
from tests.support.pairs import new_output, pair, picture, rows_of, write_pairs

FORMATS = Path(__file__).parents[4].parent / "shared" / "real" / "formats"


def run_on(tmp_path, rows, *sets):
    out = new_output(tmp_path)
    config = CorpusConfig(heldout=("quilt_1m/val/*",), dev_share=0.0, evaluation_sets=sets)
    assert config.external_files()
    run(config, public_pairs=write_pairs(tmp_path / "public_pairs", rows), out=out)
    return out, json.loads((out.path / "decontamination.json").read_text())


def test_images_of_a_folder_go_as_they_are_and_re_encoded(tmp_path):
    folder = tmp_path / "pathcls"
    (folder / "deep").mkdir(parents=True)
    image = picture(1, 112)
    (folder / "deep" / "tile_00001.jpg").write_bytes(encode_jpeg(image, 92))
    rows = [
        pair("same", "The same file.", image),
        pair("smaller", "Smaller and brighter.", ImageEnhance.Brightness(image.resize((80, 80))).enhance(1.1)),
        pair("other", "Another image.", picture(2)),
    ]
    out, report = run_on(tmp_path, rows, folder)
    assert {row["source_id"] for row in rows_of(out.path / "train")} == {"other"}
    found = report["pathcls"]
    assert found["items"]["images"] == 1
    assert found["dropped"] == {"same_file": 1, "similar_image": 1}
    assert {example["pair_id"].rpartition("/")[2] for example in found["examples"]} == {"same", "smaller"}
    assert (
        "**pathcls** (1 images, 3 names) took out 1 by same_file, 1 by similar_image"
        in (out.path / "datasheet.md").read_text()
    )


def test_pathmmu_goes_by_the_names_of_its_images_and_arch_books_by_a_pattern(tmp_path):
    # The shape of PathMMU's data.json: a list of questions for each split.
    folder = tmp_path / "pathmmu"
    (folder / "images").mkdir(parents=True)
    name = "f0446d74e1428791a7f049a8169891ef39f6490d9bb25b8fd779adec573b53c7.jpg"
    question = {"No": 0, "img": name, "question": "Which?", "options": ["A) a", "B) b"], "answer": "A) a"}
    (folder / "data.json").write_text(json.dumps({"val": [question], "test": [question | {"img": "1.jpg"}]}))
    (folder / "images" / "another_name.png").write_bytes(encode_png(picture(3)))
    books = tmp_path / "arch_books.txt"
    books.write_text("# PathMMU-Atlas is ARCH's books\narch/books/*\n")
    rows = [
        pair(name.removesuffix(".jpg") + "#2", "Bears the name."),
        pair("elsewhere/" + name.removesuffix(".jpg"), "Bears it, too."),
        pair("1", "A name that says nothing."),
        pair("uuid", "From a book.", source="arch/books"),
        pair("look", "Shows the same.", picture(3)),
    ]
    out, report = run_on(tmp_path, rows, folder, books)
    assert {row["source_id"] for row in rows_of(out.path / "train")} == {"1"}
    assert report["pathmmu"]["dropped"] == {"name": 2, "similar_image": 1}
    assert report["arch_books.txt"]["dropped"] == {"pattern": 1}


@pytest.mark.skipif(not FORMATS.is_dir(), reason="the real records lie beside the repository on some machines only")
def test_the_published_questions_of_pathmmu_and_medxpertqa_give_their_names(tmp_path):
    """Shape: the first records of PathMMU's SocialPath and of MedXpertQA-MM as published."""
    social, medical = FORMATS / "pathmmu_socialpath_sample.json", FORMATS / "medxpertqa_mm_sample.jsonl"
    asked = json.loads(social.read_text())["val"][0]["img"]
    shown = json.loads(medical.read_text().splitlines()[0])["images"][0]["image_path"]
    rows = [
        pair(asked.removesuffix(".jpg"), "Asked about in PathMMU."),
        pair(shown, "Shown in MedXpertQA."),
        pair("other", "Unlike any."),
    ]
    for number, sets in enumerate(([social, medical], [FORMATS])):
        out, report = run_on(tmp_path / str(number), rows, *sets)
        assert {row["source_id"] for row in rows_of(out.path / "train")} == {"other"}
        assert {name: report[name]["dropped"]["name"] for name in report} == (
            {"formats": 2} if len(sets) == 1 else {social.name: 1, medical.name: 1}
        )


def test_files_that_name_images_are_read_alone_and_one_document_to_a_line(tmp_path):
    listing = tmp_path / "questions.jsonl"
    listing.write_text('{"id": "MM-0", "images": ["MM-0-first.jpeg", "MM-0-second.jpeg"]}\n\n{"image": {"img": "x"}}\n')
    found = read_evaluation_set(listing, min_name_characters=8, max_pixels=10**6)
    assert {"MM-0-first", "MM-0-second"} < found.names
    listing.write_text('{"images": ["MM-0-first.jpeg"]}\n{"images": ["MM-1')
    with pytest.raises(InputError, match=r"questions\.jsonl is no JSON"):
        read_evaluation_set(listing, min_name_characters=8, max_pixels=10**6)


def test_a_sealed_set_of_questions_and_a_zip_file_are_read(tmp_path):
    with ShardWriter(tmp_path / "mcqs" / "heldout", MCQ) as writer:
        image = {"bytes": encode_png(picture(1)), "path": "q.png"}
        writer.write({"mcq_id": "q1", "images": [image], "pair_id": "quilt_1m/train/asked_about"})
    with zipfile.ZipFile(tmp_path / "lc25000.zip", "w") as archive:
        archive.writestr("colon_aca/colonca1.jpeg", encode_jpeg(picture(2)))
        archive.writestr("README.md", "not an image")
    rows = [
        pair("looks", "Looks like the question's image.", picture(1)),
        pair("asked_about", "Bears the name of the question's pair."),
        pair("zipped", "Looks like the zipped image.", picture(2)),
        pair("other", "Unlike any."),
    ]
    out, _ = run_on(tmp_path, rows, tmp_path / "mcqs", tmp_path / "lc25000.zip")
    assert {row["source_id"] for row in rows_of(out.path / "train")} == {"other"}


def test_sets_that_cannot_protect_anything_are_refused(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    keys = {"min_name_characters": 8, "max_pixels": 10**6}
    with pytest.raises(InputError, match="holds nothing"):
        read_evaluation_set(empty, **keys)
    (empty / "broken_image.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match="No image of the evaluation set"):
        read_evaluation_set(empty, **keys)
    (empty / "good_image.png").write_bytes(encode_png(picture(1)))
    assert list(read_evaluation_set(empty, **keys).unreadable) == ["broken_image.jpg"]
    (empty / "data.json").write_text('{"val": [')
    with pytest.raises(InputError, match=r"data\.json is no JSON"):
        read_evaluation_set(empty, **keys)
    names = tmp_path / "names.txt"
    names.write_text("a1\n")
    with pytest.raises(InputError, match=r"shorter than corpus\.min_name_characters"):
        read_evaluation_set(names, **keys)
    with pytest.raises(ConfigError, match="there is no"):
        CorpusConfig(heldout=("x",), evaluation_sets=(tmp_path / "missing",)).external_files()
