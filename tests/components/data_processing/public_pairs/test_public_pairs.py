from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from components.data_processing.public_pairs.config import PublicPairsConfig
from components.data_processing.public_pairs.stage import run
from pathoflow.data.image_io import decode, encode_jpeg, encode_png
from pathoflow.errors import ConfigError, InputError
from tests.components.data_processing.public_pairs.sources import row, write_table
from tests.components.data_processing.public_pairs.sources import run_on as run_on_sources
from tests.support.pairs import contents, new_output, picture, rows_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder `images` with two good files."""
    images = tmp_path / "data" / "images"
    images.mkdir(parents=True)
    for number in (1, 2):
        (images / f"good_{number}.jpg").write_bytes(encode_jpeg(picture(number)))
    return images


def run_on(table: Path, tmp_path: Path, *, images: Path | None = None, source: str = "quilt_1m", **keys: object):
    """The stage on one table in Quilt-1M's shape: paper.md's columns, as its lookup file has them."""
    place = {} if images is None else {"images": images}
    return run_on_sources(tmp_path, {"format": "quilt_1m", "name": source, "table": table, **place}, **keys)


def test_good_rows_become_pairs_and_unknown_columns_are_ignored(folder, tmp_path):
    rows = [
        row("good_1.jpg", "Lipoma, é.", magnification="10.0", roi_text="['x']"),
        row("good_2.jpg", "脂肪瘤", magnification="", roi_text=""),
    ]
    out = run_on(write_table(folder.parent / "t.csv", rows), tmp_path)
    first, second = rows_of(out.path / "pairs")
    assert (first["pair_id"], first["source"], first["source_id"]) == (
        "quilt_1m/train/good_1",
        "quilt_1m/train",
        "good_1",
    )
    assert (first["caption"], first["language"], second["language"]) == ("Lipoma, é.", "en", "zh")
    assert first["image"]["bytes"] == (folder / "good_1.jpg").read_bytes()
    assert (first["width"], first["height"], first["inline_refs"], first["region"]) == (64, 64, [], None)
    assert (out.num_in, out.num_out, out.metrics["num_pairs"]) == (2, 2, 2)


def test_a_byte_order_mark_before_the_first_column_is_no_part_of_its_name(folder, tmp_path):
    table = write_table(folder.parent / "t.csv", [row("good_1.jpg")], "utf-8-sig")
    assert table.read_bytes().startswith(b"\xef\xbb\xbfcaption")
    assert run_on(table, tmp_path).num_out == 1


def test_each_kind_of_bad_row_is_set_aside_with_its_reason(folder, tmp_path):
    good = encode_jpeg(picture(3))
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("not an image")
    (folder / "truncated.jpg").write_bytes(good[: len(good) // 2])
    (folder / "huge.png").write_bytes(encode_png(Image.new("1", (3000, 3000)).convert("L")))
    (folder.parent / "secret.jpg").write_bytes(good)
    os.symlink(folder.parent / "secret.jpg", folder / "link.jpg")
    expected = {
        "absent.jpg": "missing_file",
        "empty.jpg": "empty_file",
        "text.jpg": "not_an_image",
        "truncated.jpg": "corrupt_image",
        "huge.png": "image_too_large",
        "../secret.jpg": "path_outside_folder",
        str(folder / "good_1.jpg"): "path_outside_folder",
        "link.jpg": "path_outside_folder",
        ".": "path_outside_folder",
        "": "missing_file",
    }
    rows = [row(name) for name in expected] + [row("good_1.jpg", "  "), row("good_2.jpg")]
    out = run_on(write_table(folder.parent / "t.csv", rows), tmp_path, max_image_pixels=1_000_000)
    found = [json.loads(line) for line in (out.path / "quarantine.jsonl").read_text().splitlines()]
    assert [record["reason"] for record in found] == [*expected.values(), "empty_caption"]
    assert all(record["detail"] for record in found)
    assert found[0]["item"] == "t.csv:2 absent.jpg"
    assert (out.num_in, out.num_out) == (12, 1)


@pytest.mark.parametrize("missing", ["caption", "image_path"])
def test_a_missing_column_is_named(folder, tmp_path, missing):
    cells = row("good_1.jpg")
    del cells[missing]
    with pytest.raises(InputError, match=f"has no column {missing}; it has"):
        run_on(write_table(folder.parent / "t.csv", [cells]), tmp_path)


def test_a_table_without_split_is_one_source(folder, tmp_path):
    rows = [{"caption": "Lipoma", "image_path": "good_1.jpg"}]
    out = run_on(write_table(folder.parent / "t.csv", rows), tmp_path, source="mine")
    assert rows_of(out.path)[0]["pair_id"] == "mine/good_1"


def test_the_second_caption_of_an_image_has_a_name_of_its_own(folder, tmp_path):
    rows = [row("good_1.jpg", "Lipoma"), row("good_1.jpg", "Fat")]
    out = run_on(write_table(folder.parent / "t.csv", rows), tmp_path)
    assert [pair["source_id"] for pair in rows_of(out.path)] == ["good_1", "good_1#2"]


def test_a_zip_file_gives_the_same_pairs_as_its_folder(folder, tmp_path):
    rows = [row("good_1.jpg"), row("good_2.jpg"), row("absent.jpg"), row("../good_1.jpg")]
    from_folder = run_on(write_table(folder.parent / "t.csv", rows), tmp_path / "1", max_quarantine_share=1)
    packed = tmp_path / "packed"
    table = write_table(packed / "t.csv", rows)
    with zipfile.ZipFile(packed / "images.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"quilt/{path.name}")
    from_zip = run_on(table, tmp_path / "2", max_quarantine_share=1)
    assert contents(from_zip.path / "pairs") == contents(from_folder.path / "pairs")
    assert from_zip.quarantined == from_folder.quarantined == {"missing_file": 1, "path_outside_folder": 1}


def test_a_zip_entry_that_unfolds_beyond_the_limit_is_not_read(folder, tmp_path):
    table = write_table(folder.parent / "t.csv", [row("bomb.jpg"), row("good_1.jpg")])
    archive_path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive_path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.jpg", b"\0" * 10_000_000)
        archive.write(folder / "good_1.jpg", "good_1.jpg")
    out = run_on(table, tmp_path, images=archive_path, max_image_bytes=1_000_000)
    assert out.quarantined == {"file_too_large": 1}
    assert out.num_out == 1


def test_a_damaged_zip_entry_is_set_aside(folder, tmp_path):
    table = write_table(folder.parent / "t.csv", [row("good_1.jpg"), row("good_2.jpg")])
    archive_path = tmp_path / "a.zip"
    with zipfile.ZipFile(archive_path, "w") as archive:
        archive.write(folder / "good_1.jpg", "good_1.jpg")
        archive.write(folder / "good_2.jpg", "good_2.jpg")
    data = bytearray(archive_path.read_bytes())
    data[200] ^= 0xFF
    archive_path.write_bytes(data)
    out = run_on(table, tmp_path, images=archive_path)
    assert out.quarantined == {"corrupt_image": 1}


def test_a_file_that_is_no_zip_is_an_input_error(folder, tmp_path):
    table = write_table(folder.parent / "t.csv", [row("good_1.jpg")])
    (tmp_path / "a.zip").write_bytes(b"PK not really")
    with pytest.raises(InputError, match="neither a folder nor a readable zip"):
        run_on(table, tmp_path, images=tmp_path / "a.zip")


def test_images_that_readers_would_show_differently_are_stored_as_plain_png(folder, tmp_path):
    turned = picture(5, 32).crop((0, 0, 32, 16))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    turned.save(folder / "turned.jpg", exif=exif)
    picture(6).convert("CMYK").save(folder / "cmyk.jpg")
    out = run_on(write_table(folder.parent / "t.csv", [row("turned.jpg"), row("cmyk.jpg")]), tmp_path)
    pairs = rows_of(out.path)
    assert (pairs[0]["width"], pairs[0]["height"]) == (16, 32)
    for pair in pairs:
        with Image.open(io.BytesIO(pair["image"]["bytes"])) as stored:
            assert (stored.format, stored.mode) == ("PNG", "RGB")
            assert stored.size == (pair["width"], pair["height"])
        decode(pair["image"]["bytes"], max_pixels=10_000)


@pytest.mark.parametrize("content", [b"caption,image_path\n\xff\xfe,a.jpg\n", b"\x89PNG\r\n\x1a\n\0\0", b""])
def test_what_is_no_csv_is_an_input_error_that_names_the_file(folder, tmp_path, content):
    table = folder.parent / "broken.csv"
    table.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.csv"):
        run_on(table, tmp_path)


def test_a_table_without_a_good_row_is_an_input_error(folder, tmp_path):
    with pytest.raises(InputError, match=r"gave no pair \(missing_file 1\)"):
        run_on(write_table(folder.parent / "t.csv", [row("absent.jpg")]), tmp_path)


def test_the_atlas_is_read_when_no_csv_is_named(folder, tmp_path):
    folder.parent.rename(tmp_path / "public")
    write_table(tmp_path / "public" / "quilt_1M_lookup.csv", [row("good_1.jpg")])
    out = new_output(tmp_path)
    run(PublicPairsConfig(), teaching_atlas=tmp_path, out=out)
    assert out.num_out == 1


def test_without_csv_and_atlas_the_key_to_set_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"public_pairs\.sources"):
        run(PublicPairsConfig(), out=new_output(tmp_path))
