from __future__ import annotations

import io
import json
import tarfile

import pyarrow.parquet as pq
import pytest
from PIL import Image

from components.data_processing.corpus import shuffling
from components.data_processing.corpus.config import CorpusConfig
from components.data_processing.corpus.splits import Splitter
from components.data_processing.corpus.stage import run
from pathoflow.errors import InputError
from tests.support.pairs import contents, new_output, pair, picture, rows_of, write_pairs

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
    records = pq.read_table(out.path / "dropped.parquet").to_pylist()
    return {record["pair_id"]: (record["reason"], record["kept"]) for record in records}


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
    assert (out.num_in, out.num_out, out.metrics["num_dropped"]) == (4, 4, 0)
    assert sorted(path.name for path in (out.path / "plots").iterdir()) == [
        "caption_lengths.png",
        "composition.png",
        "contact_sheet.png",
        "image_sizes.png",
    ]


def test_of_equal_pairs_the_textbook_one_stays(tmp_path):
    image = picture(1)
    out = run_on(
        tmp_path,
        textbook=[pair("book/p1/1/A", "Lipoma.", image, source="textbook", inline_refs=["See fig. 1."])],
        public=[pair("a", "Lipoma.", image)],
    )
    assert kept(out, "train") == {"textbook/book/p1/1/A"}
    assert dropped(out) == {"quilt_1m/train/a": ("same_image_and_same_caption", "textbook/book/p1/1/A")}


def test_further_captions_of_one_image_stay_up_to_the_limit(tmp_path):
    image = picture(1)
    rows = [pair(name, f"A lipoma, called {name}.", image) for name in ("a", "bb", "ccc")]
    one = run_on(tmp_path / "1", public=rows)
    assert kept(one, "train") == {"quilt_1m/train/ccc"}
    assert {reason for reason, _ in dropped(one).values()} == {"too_many_captions"}
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
    assert dropped(out) == {"quilt_1m/train/b": ("similar_image_and_same_caption", "quilt_1m/train/a")}


@pytest.mark.parametrize("quality", [92, 60])
def test_a_training_image_that_repeats_a_heldout_one_goes_under_any_caption(tmp_path, quality):
    image = picture(1, 112)
    out = run_on(
        tmp_path,
        public=[
            pair("a", "A long and much better caption than the other has.", image, quality=quality),
            pair("other", "Melanoma."),
            pair("v", "Lipoma.", image, source="quilt_1m/val"),
        ],
    )
    assert kept(out, "heldout") == {"quilt_1m/val/v"}
    assert kept(out, "train") == {"quilt_1m/train/other"}
    reason = "same_image_in_heldout" if quality == 92 else "similar_image_in_heldout"
    assert dropped(out) == {"quilt_1m/train/a": (reason, "quilt_1m/val/v")}
    assert out.metrics[f"num_{reason}"] == 1


def test_no_training_image_repeats_a_dev_image(tmp_path):
    image = picture(1)
    rows = [pair(f"name_{number}", f"Caption {number}.", image) for number in range(20)]
    rows += [pair(f"unlike_{seed}", f"Something else {seed}.", picture(seed)) for seed in range(2, 12)]
    out = run_on(tmp_path, public=rows, dev_share=0.5, max_captions_per_image=100)
    dev = {row["image_sha256"] for row in rows_of(out.path / "dev")}
    train = {row["image_sha256"] for row in rows_of(out.path / "train")}
    assert dev
    assert not dev & train


def test_books_and_images_are_never_divided_between_train_and_dev():
    split_of = Splitter(["nothing"], 0.5, {"quilt_1m*": "(.+)_image_"}).split_of
    books = {number: {split_of("textbook", f"b{number}/p{f}/1/A") for f in range(9)} for number in range(50)}
    assert all(len(splits) == 1 for splits in books.values())
    assert set().union(*books.values()) == {"train", "dev"}
    assert split_of("quilt_1m/train", "x") == split_of("quilt_1m/train", "x#2")
    assert len({split_of("quilt_1m/train", f"film_image_{number}") for number in range(20)}) == 1


def test_captions_are_stored_in_normal_form_and_empty_ones_set_aside(tmp_path):
    rows = [pair("a", " Lip\u00adoma\x00\n of  e\u0301 "), pair("b", "\u200b\x00"), pair("a", "Id.")]
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


def test_a_group_with_heldout_pairs_gives_none_to_training(tmp_path):
    rows = [pair("film_image_1", "Lipoma."), pair("other_image_1", "Melanoma.")]
    rows.append(pair("film_image_2", "Naevus.", source="quilt_1m/val"))
    out = run_on(tmp_path, public=rows, groups={"quilt_1m/*": "(.+)_image_"})
    assert kept(out, "train") == {"quilt_1m/train/other_image_1"}
    assert dropped(out) == {"quilt_1m/train/film_image_1": ("group_in_heldout", None)}


def test_the_same_words_under_other_images_stay_up_to_the_limit(tmp_path):
    rows = [pair(f"image{number}", "Spindle cells in bundles.", picture(number)) for number in range(5)]
    assert len(kept(run_on(tmp_path / "all", public=rows), "train")) == 5
    out = run_on(tmp_path / "two", public=rows, max_images_per_caption=2)
    assert len(kept(out, "train")) == 2
    assert {reason for reason, _ in dropped(out).values()} == {"too_many_images"}


@pytest.mark.parametrize(
    ("rule", "num"), [("image_and_caption", 4), ("image", 3), ("caption", 3), ("image_or_caption", 2)]
)
def test_the_recipe_says_what_a_duplicate_is(tmp_path, rule, num):
    image = picture(1, 112)
    rows = [
        pair("a", "A lipoma of the back, seen from above.", image),
        pair("b", "Something quite different is said here.", image.resize((90, 90))),
        pair("c", "A lipoma of the back, seen from above!", picture(2)),
        pair("d", "Unlike all others in looks and words.", picture(3)),
    ]
    assert len(kept(run_on(tmp_path, public=rows, duplicate_rule=rule), "train")) == num


def test_what_says_nothing_is_dropped_and_boilerplate_is_cut_out(tmp_path):
    rows = [
        pair("scale", "Scale bar = 50 µm"),
        pair("number", "Figure 3. ×200"),
        pair("cyrillic", "Опухоль молочной железы"),
        pair("short", "PAS"),
        pair("blank", "An image of one colour.", Image.new("RGB", (30, 30), "white")),
        pair("good", "Lipoma of the back. Click here to enlarge. © 2012 The Publisher Ltd. All rights reserved."),
    ]
    out = run_on(tmp_path, public=rows)
    assert [row["caption"] for row in rows_of(out.path / "train")] == ["Lipoma of the back."]
    assert {name.rpartition("/")[2]: reason for name, (reason, _) in dropped(out).items()} == {
        "scale": "boilerplate_only",
        "number": "boilerplate_only",
        "cyrillic": "other_language",
        "short": "caption_too_short",
        "blank": "blank_image",
    }
    assert out.num_in == out.num_out + len(dropped(out)) + sum(out.quarantined.values())


def test_the_datasheet_accounts_for_every_pair(tmp_path):
    image = picture(1)
    rows = [
        pair("a", "Lipoma of the back.", image),
        pair("b", "Lipoma of the back.", image),
        pair("c", "| ` odd one | `"),
    ]
    rows.append(pair("d", "", picture(5)) | {"caption": None})
    out = run_on(tmp_path, public=rows, licences={"quilt*": "CC BY-NC"})
    text = (out.path / "datasheet.md").read_text()
    assert "4 pairs of an image and a caption were read; 2 are in the corpus" in text
    assert "| quilt_1m/train | 2 | 2 | 0 | 0 | CC BY-NC |" in text
    assert "| `same_image_and_same_caption` | 1 |" in text
    assert "| `empty_caption` | 1 |" in text
    for name in ("composition", "caption_lengths", "image_sizes", "dropped"):
        assert f"plots/{name}.png" in text
        assert (out.path / "plots" / f"{name}.png").is_file()


def test_the_output_depends_neither_on_the_order_of_the_rows_nor_on_how_they_are_cut_into_buckets(
    tmp_path, monkeypatch
):
    rows = [
        pair(f"p{number:02d}", f"Caption number {number} of its own kind.", picture(number)) for number in range(30)
    ]
    rows += [pair("again", "Caption number 3 of its own kind.", picture(3)), pair("p01", "The same id once more.")]
    rows += [pair(f"v{number}", f"Held out {number}.", source="quilt_1m/val") for number in range(5)]
    keys = {"dev_share": 0.3, "webdataset": True, "webdataset_samples": 7}
    whole = contents(run_on(tmp_path / "1", public=rows, **keys).path)
    other = run_on(tmp_path / "2", textbook=rows[20::-1], public=rows[:20:-1], **keys)
    assert contents(other.path) == whole

    def in_small_buckets(survey, kept, bucket_bytes):
        plan = shuffling.plan_order(survey, kept, 4000)
        assert plan.num_buckets > 5
        return plan

    monkeypatch.setattr(shuffling, "_STEP_BYTES", 3000)
    # As images are written that are large: named where they lie, not gathered.
    monkeypatch.setattr(shuffling, "_WORTH_A_CHUNK_BYTES", 1)
    monkeypatch.setattr("components.data_processing.corpus.stage.plan_order", in_small_buckets)
    assert contents(run_on(tmp_path / "3", public=rows, **keys).path) == whole


def test_the_pairs_are_shuffled(tmp_path):
    rows = [pair(f"p{number:02d}", f"Caption number {number} of its own.", picture(number)) for number in range(30)]
    order = [row["pair_id"] for row in rows_of(run_on(tmp_path / "1", public=rows).path / "train")]
    assert order != sorted(order)
    other = [row["pair_id"] for row in rows_of(run_on(tmp_path / "2", public=rows, shuffle_seed=1).path / "train")]
    assert sorted(order) == sorted(other)
    assert order != other


def test_open_clip_can_read_the_tar_files(tmp_path):
    rows = [pair(f"p.{number}/x", f"Caption number {number} of its own.", picture(number)) for number in range(12)]
    out = run_on(tmp_path, public=rows, webdataset=True, webdataset_samples=5)
    parquet = rows_of(out.path / "train")
    samples: dict[str, dict[str, bytes]] = {}
    tars = sorted((out.path / "webdataset").glob("train-*.tar"))
    assert [tar.name for tar in tars] == ["train-00000.tar", "train-00001.tar", "train-00002.tar"]
    for path in tars:
        with tarfile.open(path) as tar:
            for member in tar:
                assert (member.mtime, member.uid, member.uname) == (0, 0, "")
                key, _, extension = member.name.partition(".")
                samples.setdefault(key, {})[extension] = tar.extractfile(member).read()
    for row, sample in zip(parquet, samples.values(), strict=True):
        assert set(sample) == {"jpg", "json", "txt"}
        assert sample["txt"].decode() == row["caption"]
        assert json.loads(sample["json"])["pair_id"] == row["pair_id"]
        assert sample["jpg"] == row["image"]["bytes"]
        Image.open(io.BytesIO(sample["jpg"])).load()
