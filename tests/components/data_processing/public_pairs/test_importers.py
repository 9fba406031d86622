"""Each public data set in its published shape, small, with the mistakes that such files have."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image
from pydantic import ValidationError

from components.data_processing.public_pairs.config import PublicPairsConfig
from pathoflow.data.image_io import decode, encode_jpeg, encode_png
from pathoflow.errors import InputError
from tests.components.data_processing.public_pairs.sources import (
    SLIDE_PX,
    row,
    run_on,
    set_aside,
    write_empty_slide,
    write_json,
    write_slide,
    write_table,
)
from tests.support.pairs import picture, rows_of

FORMATS = Path(__file__).parents[4].parent / "shared" / "real" / "formats"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder `images` with two good files."""
    folder = tmp_path / "data" / "images"
    folder.mkdir(parents=True)
    for number in (1, 2):
        (folder / f"good_{number}.jpg").write_bytes(encode_jpeg(picture(number)))
    return folder


@pytest.fixture
def pathgen(tmp_path: Path) -> Path:
    """Two slides and a list in PathGen-1.6M's shape: both spellings of wsi_id, positions as text.

    Shape: the first records of the published PathGen-1.6M.json, and its data card (672 px at level 0).
    """
    for number, name in enumerate(("TCGA-F7-A50J-01Z-00-DX1.D754F90E", "TCGA-BH-A0AU-01Z-00-DX1.E852F218")):
        write_slide(tmp_path / "slides" / f"download-{number}" / f"{name}.svs", number)
    records = [
        {"wsi_id": "TCGA-BH-A0AU-01Z-00-DX1.E852F218", "position": ["672", "700"], "caption": "Ducts."},
        {"WSI_id": "TCGA-F7-A50J-01Z-00-DX1.D754F90E", "position": ["0", "0"], "caption": "Nests.", "file_id": "f"},
        {"wsi_id": "TCGA-BH-A0AU-01Z-00-DX1.E852F218", "position": [0, 672.0], "caption": "Stroma."},
    ]
    return write_json(tmp_path / "PathGen-1.6M.json", records)


def run_pathgen(path: Path, tmp_path: Path, **keys):
    return run_on(tmp_path, {"format": "pathgen", "records": path, "slides": tmp_path / "slides"}, **keys)


def test_pathgen_patches_come_from_their_positions_in_their_slides(pathgen, tmp_path):
    out = run_pathgen(pathgen, tmp_path)
    pairs = {pair["source_id"]: pair for pair in rows_of(out.path / "pairs")}
    assert {source_id: pair["caption"] for source_id, pair in pairs.items()} == {
        "TCGA-BH-A0AU-01Z-00-DX1.E852F218#672-700": "Ducts.",
        "TCGA-BH-A0AU-01Z-00-DX1.E852F218#0-672": "Stroma.",
        "TCGA-F7-A50J-01Z-00-DX1.D754F90E#0-0": "Nests.",
    }
    pair = pairs["TCGA-BH-A0AU-01Z-00-DX1.E852F218#672-700"]
    assert (pair["source"], pair["width"], pair["height"]) == ("pathgen", 672, 672)
    cut = np.asarray(picture(1, SLIDE_PX).crop((672, 700, 1344, 1372)), dtype=float)
    stored = np.asarray(decode(pair["image"]["bytes"], max_pixels=10**6), dtype=float)
    assert np.abs(cut - stored).mean() < 2


def test_pathgen_slides_that_are_missing_are_counted_once_and_their_records_each(pathgen, tmp_path):
    records = json.loads(pathgen.read_text())
    absent = [{"wsi_id": name, "position": ["0", "0"], "caption": "x"} for name in ("TCGA-A", "TCGA-A", "TCGA-B")]
    bad = [
        {"wsi_id": "TCGA-BH-A0AU-01Z-00-DX1.E852F218", "position": ["1500", "0"], "caption": "x"},
        {"wsi_id": "TCGA-BH-A0AU-01Z-00-DX1.E852F218", "position": ["-1", "0"], "caption": "x"},
        {"wsi_id": "TCGA-BH-A0AU-01Z-00-DX1.E852F218", "position": ["a", "0"], "caption": "x"},
        {"wsi_id": "../../etc/passwd", "position": ["0", "0"], "caption": "x"},
        {"wsi_id": "broken", "position": ["0", "0"], "caption": "x"},
        {"wsi_id": "cut", "position": ["1000", "1000"], "caption": "x"},
        {"wsi_id": "twice", "position": ["0", "0"], "caption": "x"},
        {"wsi_id": "link", "position": ["0", "0"], "caption": "x"},
        {"position": ["0", "0"], "caption": "x"},
        ["no record"],
        {"wsi_id": "TCGA-BH-A0AU-01Z-00-DX1.E852F218", "position": ["0", "0"], "caption": None},
    ]
    slides = tmp_path / "slides"
    (slides / "broken.svs").write_bytes(b"II*\0 no slide")
    whole = write_slide(tmp_path / "whole.tif", 5).read_bytes()
    (slides / "cut.svs").write_bytes(whole[:8] + bytes(len(whole) // 2) + whole[8 + len(whole) // 2 :])
    write_slide(slides / "a" / "twice.tif", 3)
    write_slide(slides / "b" / "twice.tif", 4)
    os.symlink(tmp_path / "whole.tif", slides / "link.svs")
    out = run_pathgen(write_json(pathgen, records + absent + bad), tmp_path)
    assert out.quarantined == {
        "missing_slide": 4,
        "outside_slide": 2,
        "bad_position": 1,
        "unreadable_slide": 2,
        "ambiguous_slide": 1,
        "path_outside_folder": 1,
        "missing_field": 1,
        "bad_record": 1,
        "empty_caption": 1,
    }
    assert (out.num_in, out.num_out) == (len(records) + len(absent) + len(bad), 3)
    assert out.metrics["num_missing_slides"] == 3
    missing = json.loads((out.path / "missing_slides.json").read_text())
    assert missing == {"TCGA-A": 2, "TCGA-B": 1, ".._.._etc_passwd": 1}


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_json_that_is_cut_gives_its_records_before_the_cut(pathgen, tmp_path, share):
    data = pathgen.read_bytes()
    cut = data[: int(len(data) * share)]
    pathgen.write_bytes(cut)
    out = run_pathgen(pathgen, tmp_path, max_quarantine_share=1)
    assert out.num_out == cut.count(b"\n }")
    [bad] = set_aside(out)
    assert bad["reason"] == "broken_json"
    assert bad["item"] == f"PathGen-1.6M.json: after record {out.num_out}"
    assert "Fetch it again" in bad["detail"]


def test_json_may_begin_with_a_byte_order_mark(pathgen, tmp_path):
    pathgen.write_bytes(b"\xef\xbb\xbf" + pathgen.read_bytes())
    out = run_pathgen(pathgen, tmp_path)
    assert (out.num_out, out.quarantined) == (3, {})


@pytest.mark.skipif(not FORMATS.is_dir(), reason="the real records lie beside the repository on some machines only")
def test_the_published_records_of_pathgen_are_read(tmp_path):
    """Shape: the first records of PathGen-1.6M as published; empty slides of the real ones' size stand in for them."""
    records = FORMATS / "pathgen_sample.json"
    published = json.loads(records.read_text())
    (tmp_path / "slides").mkdir()
    for record in published[1:]:
        write_empty_slide(tmp_path / "slides" / f"{record['wsi_id']}.svs", side_px=147_456)
    out = run_pathgen(records, tmp_path)
    assert (out.num_in, out.quarantined) == (len(published), {"missing_slide": 1})
    pairs = {pair["caption"]: pair["source_id"] for pair in rows_of(out.path / "pairs")}
    for record in published[1:]:
        assert pairs[record["caption"].strip()] == f"{record['wsi_id']}#{'-'.join(record['position'])}"


def pathcap_record(image: str, number: int = 7, **more) -> dict:
    return {"caption": "Adenocarcinoma.", "pmc_id": f"PMC{number}", "figure_fn": "fig-2", "img": image, **more}


@pytest.mark.parametrize("as_list", [True, False])
def test_pathcap_as_list_or_object_with_its_zip(images, tmp_path, as_list):
    """Shape: paper.md's table, after PathCap's data card; whether data.json is a list is not confirmed there."""
    records = [pathcap_record("good_1.jpg"), pathcap_record("good_2.jpg", 8), pathcap_record("good_3.jpg")]
    path = write_json(
        tmp_path / "cap" / "data.json", records if as_list else {str(at): record for at, record in enumerate(records)}
    )
    with zipfile.ZipFile(tmp_path / "cap" / "images.zip", "w") as archive:
        for file in images.iterdir():
            archive.write(file, f"images/{file.name}")
    out = run_on(tmp_path, {"format": "pathcap", "records": path, "licence": "CC-BY-NC"}, max_quarantine_share=1)
    assert [pair["source_id"] for pair in rows_of(out.path / "pairs")] == ["PMC7#good_1", "PMC8#good_2"]
    assert out.quarantined == {"missing_file": 1}
    assert json.loads((out.path / "sources.json").read_text()) == {
        "pathcap": {
            "format": "pathcap",
            "licence": "CC-BY-NC",
            "num_pairs": 2,
            "num_records": 3,
            "num_quarantined": {"missing_file": 1},
        }
    }


@pytest.mark.parametrize(
    ("records", "keys"),
    [
        ([{"caption": "A", "pmc_id": "P", "img_path": "good_1.jpg", "figure_fn": "2"}], {}),
        ([{"caption": "A", "pmc_id": "P", "figure_fn": "good_1.jpg"}], {}),
        ({"good_1.jpg": {"caption": "A", "pmc_id": "P"}}, {}),
        ([{"caption": "A", "pmc_id": "P", "image": "x", "img": "good_1.jpg"}], {"image_key": "img"}),
        ([{"caption": "A", "pmc_id": "P", "panel": "good_1.jpg"}], {"image_key": "panel"}),
    ],
)
def test_pathcap_images_are_found_under_the_keys_that_it_may_use(images, tmp_path, records, keys):
    path = write_json(images.parent / "data.json", records)
    out = run_on(tmp_path, {"format": "pathcap", "records": path, **keys})
    assert [pair["source_id"] for pair in rows_of(out.path / "pairs")] == ["P#good_1"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[{"caption": "A", "pmc_id": "P"}]', "Which key of .* names a record's image"),
        ('[{"caption": "A", "image": "a.jpg", "img": "b.jpg"}]', "image and img could"),
        ('"text"', "neither a JSON list nor a JSON object"),
        ("", "neither a JSON list nor a JSON object"),
        ("[]", "gave no pair"),
        ('{"version": 1}', r"gave no pair \(bad_record 1\)"),
    ],
)
def test_pathcap_in_another_shape_is_refused(images, tmp_path, content, words):
    path = images.parent / "data.json"
    path.write_text(content)
    with pytest.raises(InputError, match=words):
        run_on(tmp_path, {"format": "pathcap", "records": path})


def test_arch_books_and_articles_with_images_of_any_ending(tmp_path):
    """Shape: paper.md's table, after the published books_set and pubmed_set (captions.json, images/<uuid>.*)."""
    arch = tmp_path / "arch"
    for number, name in enumerate(("books_set/images/u1.png", "books_set/images/u2.jpg", "pubmed_set/images/u3.jpeg")):
        path = arch / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)
    picture(9).save(arch / "pubmed_set" / "images" / "u4.png")
    write_json(
        arch / "books_set" / "captions.json",
        {
            "0": {"figure_id": "00", "letter": "A", "caption": "Gland.", "uuid": "u1"},
            "1": {"figure_id": "00", "letter": "Single", "caption": "Duct.", "uuid": "u2"},
            "2": {"figure_id": "01", "letter": "A", "caption": "No image.", "uuid": "u9"},
        },
    )
    write_json(
        arch / "pubmed_set" / "captions.json",
        {"0": {"caption": "Shared.", "uuid": "u3"}, "1": {"caption": "Shared.", "uuid": "u4"}, "2": {"caption": "x"}},
    )
    out = run_on(tmp_path, {"format": "arch", "folder": arch})
    pairs = rows_of(out.path / "pairs")
    assert [pair["source"] for pair in pairs] == ["arch/books_set"] * 2 + ["arch/pubmed_set"] * 2
    assert [pair["source_id"] for pair in pairs[:2]] == ["00#u1", "00#u2"]
    groups = {pair["source_id"].partition("#")[0] for pair in pairs[2:]}
    assert len(groups) == 1, "images of one caption stay together"
    assert [(bad["item"], bad["reason"]) for bad in set_aside(out)] == [
        ("books_set/captions.json:2 u9", "missing_file"),
        ("pubmed_set/captions.json:2", "missing_field"),
    ]


def test_arch_without_either_set_is_refused(tmp_path):
    with pytest.raises(InputError, match="neither books_set"):
        run_on(tmp_path, {"format": "arch", "folder": tmp_path})


def test_frames_of_a_quilt_video_share_their_group(images, tmp_path):
    """Shape: Quilt-1M's lookup columns (paper.md); its frames are named `<video>_image_<id>.jpg`."""
    frames = ["4zbQB_x-FcM_image_0d1c-8b02.jpg", "4zbQB_x-FcM_image_77aa.jpg", "plain.jpg"]
    for name in frames:
        (images / name).write_bytes((images / "good_1.jpg").read_bytes())
    table = write_table(images.parent / "quilt_1M_lookup.csv", [row(name, subset="quilt") for name in frames])
    out = run_on(tmp_path, {"format": "quilt_1m", "table": table})
    ids = [pair["source_id"] for pair in rows_of(out.path / "pairs")]
    assert ids == ["4zbQB_x-FcM#0d1c-8b02", "4zbQB_x-FcM#77aa", "plain"]


def test_any_csv_with_columns_of_its_own(images, tmp_path):
    """Shape: ours; any folder of images with a CSV."""
    cells = [{"text": "Sjögren", "file": "good_1.jpg", "case": "c/1"}, {"text": "B", "file": "good_2.jpg", "case": ""}]
    table = write_table(images.parent / "t.csv", cells, "latin-1")
    columns = {"caption_column": "text", "image_column": "file", "group_column": "case", "encoding": "latin-1"}
    out = run_on(tmp_path, {"format": "csv", "name": "mine", "table": table, **columns})
    pairs = rows_of(out.path / "pairs")
    assert [(pair["pair_id"], pair["caption"]) for pair in pairs] == [
        ("mine/c_1#good_1", "Sjögren"),
        ("mine/good_2", "B"),
    ]


def test_bad_captions_and_cells_are_set_aside_one_by_one(images, tmp_path):
    lines = [
        b"caption,image_path",
        b"Good.,good_1.jpg",
        b"x" * 100_000 + b",good_1.jpg",
        b" ,good_1.jpg",
        "Sjögren,good_1.jpg".encode("latin-1"),
        b"A\0B,good_1.jpg",
        b"good_2.jpg,A caption in the wrong column",
        b'"open,good_1.jpg',
        "脂肪瘤,good_2.jpg".encode(),
        b"A,caf\xe9.jpg",
        b"A,a\0.jpg",
    ]
    table = images.parent / "t.csv"
    table.write_bytes(b"\n".join(lines))
    out = run_on(tmp_path, {"format": "csv", "table": table})
    assert [bad["reason"] for bad in set_aside(out)] == [
        "caption_too_long",
        "empty_caption",
        "not_utf8",
        "control_character",
        "swapped_cells",
        "bad_quoting",
        "not_utf8",
        "control_character",
    ]
    assert [pair["caption"] for pair in rows_of(out.path / "pairs")] == ["Good.", "脂肪瘤"]


def test_archive_members_that_lead_elsewhere_are_not_read(images, tmp_path):
    good = (images / "good_1.jpg").read_bytes()
    names = {
        "climbs.jpg": "../climbs.jpg",
        "root.jpg": "/root.jpg",
        "deep.jpg": "a/../../deep.jpg",
        "dos.jpg": "..\\dos.jpg",
    }
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names.values():
            archive.writestr(name, good)
        link = zipfile.ZipInfo("link.jpg")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("twice.jpg", good)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("twice.jpg", encode_jpeg(picture(8)))
        archive.writestr("same/copy.jpg", good)
        archive.writestr("again/copy.jpg", good)
        archive.writestr("fine.jpg", good)
    rows = [row(name) for name in (*names, *names.values(), "link.jpg", "twice.jpg", "copy.jpg", "fine.jpg")]
    table = write_table(images.parent / "t.csv", rows)
    out = run_on(tmp_path, {"format": "csv", "table": table, "images": tmp_path / "a.zip"}, max_quarantine_share=1)
    assert [pair["source_id"] for pair in rows_of(out.path / "pairs")] == ["copy", "fine"]
    reasons = {bad["item"].split(" ", 1)[1]: bad["reason"] for bad in set_aside(out)}
    assert reasons.pop("twice.jpg") == "missing_file"
    assert set(reasons.values()) <= {"path_outside_folder", "missing_file"}
    assert reasons["link.jpg"] == reasons["climbs.jpg"] == reasons["../climbs.jpg"] == "path_outside_folder"


def test_images_of_every_kind_become_upright_rgb(images, tmp_path):
    turned = picture(5, 32).crop((0, 0, 32, 16))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned.save(images / "exif.jpg", exif=exif)
    picture(6).convert("CMYK").save(images / "cmyk.jpg")
    picture(7).convert("P").save(images / "palette.png")
    picture(7).convert("RGBA").save(images / "alpha.png")
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16).save(images / "deep.png")
    picture(8).save(images / "frames.tiff")
    (images / "bomb.png").write_bytes(encode_png(Image.new("L", (8000, 7000))))
    names = ["exif.jpg", "cmyk.jpg", "palette.png", "alpha.png", "deep.png", "frames.tiff", "bomb.png"]
    table = write_table(images.parent / "t.csv", [row(name) for name in names])
    out = run_on(tmp_path, {"format": "csv", "table": table})
    assert out.quarantined == {"image_too_large": 1}
    for pair in rows_of(out.path / "pairs"):
        with Image.open(io.BytesIO(pair["image"]["bytes"])) as stored:
            assert (stored.mode, stored.size) == ("RGB", (pair["width"], pair["height"])), pair["source_id"]
            assert stored.getextrema()[0][1] > 100


def test_several_sources_in_one_run_keep_their_order_and_names(images, pathgen, tmp_path):
    table = write_table(images.parent / "t.csv", [row("good_1.jpg"), row("absent.jpg")])
    other = write_table(images.parent / "u.csv", [row("good_1.jpg")])
    sources = [
        {"format": "csv", "name": "mine", "table": table},
        {"format": "pathgen", "records": pathgen, "slides": tmp_path / "slides"},
        {"format": "csv", "name": "yours", "table": other, "licence": "CC0-1.0"},
    ]
    out = run_on(tmp_path, *sources)
    found = [pair["source"] for pair in rows_of(out.path / "pairs")]
    assert found == ["mine/train", "pathgen", "pathgen", "pathgen", "yours/train"]
    told = json.loads((out.path / "sources.json").read_text())
    assert [(name, told[name]["num_pairs"], told[name]["licence"]) for name in sorted(told)] == [
        ("mine", 1, "not stated"),
        ("pathgen", 3, "not stated"),
        ("yours", 1, "CC0-1.0"),
    ]
    assert out.metrics["num_pairs_pathgen"] == 3


def test_sources_of_one_name_are_refused(tmp_path):
    source = {"format": "csv", "table": tmp_path / "t.csv"}
    with pytest.raises(ValidationError, match="two sources are named public"):
        PublicPairsConfig.model_validate({"sources": [source, source]})
    with pytest.raises(ValidationError, match="quilt"):
        PublicPairsConfig.model_validate({"sources": [source | {"format": "quilt"}]})


def test_what_is_read_from_outside_decides_the_work(images, pathgen, tmp_path):
    table = write_table(images.parent / "t.csv", [row("good_1.jpg")])
    config = PublicPairsConfig.model_validate(
        {
            "root": tmp_path,
            "sources": [
                {"format": "csv", "table": "data/t.csv"},
                {"format": "pathgen", "records": pathgen.name, "slides": "slides"},
            ],
        }
    )
    assert config.external_files() == [table, pathgen]
    assert [folder.path for folder in config.external_folders()] == [images, tmp_path / "slides"]
    with pytest.raises(InputError, match=r"absent\.csv of public does not exist"):
        PublicPairsConfig.model_validate({"sources": [{"format": "csv", "table": tmp_path / "absent.csv"}]}).located()
    with pytest.raises(InputError, match=r"public_pairs\.root"):
        PublicPairsConfig.model_validate({"sources": [{"format": "csv", "table": "t.csv"}]}).located()
