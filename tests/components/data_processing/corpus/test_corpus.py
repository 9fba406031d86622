from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data_processing.corpus.captions import normalised
from components.data_processing.corpus.config import CorpusConfig
from components.data_processing.corpus.hamming import HammingIndex
from components.data_processing.corpus.splits import splitter
from components.data_processing.corpus.stage import run
from pathoflow.errors import InputError
from tests.pairs import contents, new_output, pair, picture, rows_of, write_pairs

HELDOUT = ("quilt_1m/val/*", "textbook/*heldout*/*")


def run_on(tmp_path, textbook=(), public=(), **keys):
    out = new_output(tmp_path)
    run(
        CorpusConfig(heldout=HELDOUT, **{"dev_share": 0.0, **keys}),
        textbook_pairs=write_pairs(tmp_path / "textbook_pairs", textbook),
        public_pairs=write_pairs(tmp_path / "public_pairs", public),
        out=out,
    )
    return out


def kept(out, split):
    return {row["pair_id"] for row in rows_of(out.path / split)}


def dropped(out):
    lines = (out.path / "duplicates.jsonl").read_text().splitlines()
    return {record["pair_id"]: (record["reason"], record["kept"]) for record in map(json.loads, lines)}


def test_pairs_go_to_the_split_that_their_names_ask_for(tmp_path):
    out = run_on(
        tmp_path,
        textbook=[
            pair("atlas/p1/1/A", "A book's image.", source="textbook"),
            pair("atlas_heldout/p1/1/A", "Another.", source="textbook"),
        ],
        public=[pair("a", "Lipoma."), pair("b", "Melanoma.", source="quilt_1m/val")],
    )
    assert kept(out, "train") == {"textbook/atlas/p1/1/A", "quilt_1m/train/a"}
    assert kept(out, "heldout") == {"textbook/atlas_heldout/p1/1/A", "quilt_1m/val/b"}
    assert {row["split"] for row in rows_of(out.path / "heldout")} == {"heldout"}
    assert (out.num_in, out.num_out, out.metrics["num_duplicates"]) == (4, 4, 0)
    assert sorted(path.name for path in (out.path / "plots").iterdir()) == [
        "composition.png",
        "contact_sheet.png",
    ]


def test_of_equal_pairs_the_one_with_in_line_references_stays(tmp_path):
    image = picture(1)
    out = run_on(
        tmp_path,
        textbook=[pair("book/p1/1/A", "Lipoma.", image, source="textbook", inline_refs=["See fig. 1."])],
        public=[pair("a", "Lipoma.", image)],
    )
    assert kept(out, "train") == {"textbook/book/p1/1/A"}
    assert dropped(out) == {"quilt_1m/train/a": ("same_image_and_caption", "textbook/book/p1/1/A")}


def test_further_captions_of_one_image_stay_up_to_the_limit(tmp_path):
    image = picture(1)
    rows = [pair(name, f"A lipoma, called {name}.", image) for name in ("a", "bb", "ccc")]
    one = run_on(tmp_path / "1", public=rows)
    assert kept(one, "train") == {"quilt_1m/train/ccc"}
    assert {reason for reason, _ in dropped(one).values()} == {"same_image"}
    two = run_on(tmp_path / "2", public=rows, max_captions_per_image=2)
    assert kept(two, "train") == {"quilt_1m/train/ccc", "quilt_1m/train/bb"}


def test_a_re_encoded_image_with_the_same_caption_is_a_duplicate(tmp_path):
    image = picture(1, 112)
    smaller = image.resize((80, 80))
    out = run_on(
        tmp_path,
        public=[
            pair("a", "Lipoma.", image),
            pair("b", "Lipoma.\n", smaller, quality=60),
            pair("c", "Melanoma.", smaller, quality=61),
            pair("d", "Lipoma.", picture(2)),
        ],
    )
    # c looks like a but says something else; d says the same as a but looks different.
    assert kept(out, "train") == {f"quilt_1m/train/{name}" for name in "acd"}
    assert dropped(out) == {"quilt_1m/train/b": ("similar_image_and_caption", "quilt_1m/train/a")}


@pytest.mark.parametrize("quality", [92, 60])
def test_a_training_image_that_repeats_a_heldout_one_goes_under_any_caption(tmp_path, quality):
    image = picture(1, 112)
    out = run_on(
        tmp_path,
        public=[
            pair("a", "A long and much better caption than the other has.", image, quality=quality),
            pair("other", "Melanoma."),
            pair("a", "Lipoma.", image, source="quilt_1m/val"),
        ],
    )
    assert kept(out, "heldout") == {"quilt_1m/val/a"}
    assert kept(out, "train") == {"quilt_1m/train/other"}
    reason = "same_image_in_heldout" if quality == 92 else "similar_image_in_heldout"
    assert dropped(out) == {"quilt_1m/train/a": (reason, "quilt_1m/val/a")}
    assert out.metrics[f"num_{reason}"] == 1


def test_no_training_image_repeats_a_dev_image(tmp_path):
    image = picture(1)
    rows = [pair(f"name_{number}", f"Caption {number}.", image) for number in range(20)]
    rows.append(pair("unlike", "Something else.", picture(2)))
    out = run_on(tmp_path, public=rows, dev_share=0.5, max_captions_per_image=100)
    dev = {row["image_sha256"] for row in rows_of(out.path / "dev")}
    train = {row["image_sha256"] for row in rows_of(out.path / "train")}
    assert dev
    assert not dev & train


def test_pages_and_images_are_never_divided_between_train_and_dev():
    split_of = splitter(["nothing"], 0.5)
    pages = {number: {split_of("textbook", f"b/p{number}/{f}/A") for f in range(9)} for number in range(50)}
    assert all(len(splits) == 1 for splits in pages.values())
    assert set().union(*pages.values()) == {"train", "dev"}
    assert split_of("quilt_1m/train", "x") == split_of("quilt_1m/train", "x#2")


def test_captions_are_stored_in_normal_form_and_empty_ones_set_aside(tmp_path):
    rows = [pair("a", " Lip\u00adoma\x00\n of  e\u0301 "), pair("b", "\u200b\x00"), pair("a", "Twice the same id.")]
    out = run_on(tmp_path, public=rows)
    assert [row["caption"] for row in rows_of(out.path / "train")] == ["Lipoma of \u00e9"]
    assert out.quarantined == {"empty_caption": 1, "repeated_pair_id": 1}


def test_the_decisions_do_not_depend_on_the_order_of_the_rows(tmp_path):
    image = picture(1)
    rows = [pair(f"p{number}", "Lipoma." if number % 3 else "Melanoma.", image) for number in range(6)]
    rows += [pair("v", "Other.", picture(9), source="quilt_1m/val"), pair("t", "Other words.", picture(9))]
    rows.append(pair("rest", "Something else.", picture(4)))
    forward = run_on(tmp_path / "1", public=rows)
    backward = run_on(tmp_path / "2", public=rows[::-1])
    assert kept(forward, "train") == kept(backward, "train")
    assert dropped(forward) == dropped(backward)


def test_the_same_input_gives_the_same_bytes(tmp_path):
    rows = [pair(f"p{number}", f"Caption {number}.", picture(number)) for number in range(8)]
    assert contents(run_on(tmp_path / "1", public=rows).path) == contents(run_on(tmp_path / "2", public=rows).path)


def test_without_pairs_or_without_training_pairs_the_reason_is_said(tmp_path):
    with pytest.raises(InputError, match="has no pairs"):
        run_on(tmp_path / "1")
    with pytest.raises(InputError, match=r"corpus\.heldout"):
        run_on(tmp_path / "2", public=[pair("a", "Lipoma.", source="quilt_1m/val")])


hashes = st.integers(min_value=0, max_value=2**64 - 1)


@given(st.lists(hashes, max_size=20), hashes, st.sets(st.integers(0, 63), max_size=12), st.integers(0, 10))
def test_the_index_finds_exactly_what_a_full_comparison_finds(others, value, flipped, max_bits):
    others.append(value ^ sum(1 << bit for bit in flipped))
    index = HammingIndex(max_bits)
    for number, other in enumerate(others):
        index.add(other, str(number))
    distances = {str(number): (value ^ other).bit_count() for number, other in enumerate(others)}
    expected = {name: distance for name, distance in distances.items() if distance <= max_bits}
    found = list(index.near(value))
    assert dict(found) == expected
    assert [distance for _, distance in found] == sorted(expected.values())


@given(st.text())
def test_a_normal_caption_is_stable_and_shows_no_control_characters(text):
    once = normalised(text)
    assert normalised(once) == once
    assert normalised("e\u00ad\u0301" + text)[0] == "\u00e9"
    assert not any(ord(character) < 32 or ord(character) == 127 for character in once)
