"""Pairs and shards that are broken: each is told by its reason, and the rest goes on."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.data_processing.corpus.config import CorpusConfig
from components.data_processing.corpus.stage import run
from pathoflow.contract.code import REPOSITORY
from pathoflow.data.image_io import encode_png
from pathoflow.data.schemas import PAIRS
from pathoflow.errors import InputError
from tests.support.pairs import contents, new_output, pair, picture, rows_of, write_pairs

HELDOUT = ("quilt_1m/val/*",)


def good(num: int = 5) -> list[dict]:
    return [pair(f"good{number}", f"A good caption, number {number}.", picture(100 + number)) for number in range(num)]


def run_on(tmp_path, rows, **keys):
    out = new_output(tmp_path)
    inputs = write_pairs(tmp_path / "public_pairs", rows)
    run(CorpusConfig(heldout=HELDOUT, dev_share=0.0, **keys), public_pairs=inputs, out=out)
    return out


def test_broken_pairs_are_set_aside_by_their_reason_and_give_way_to_nobody(tmp_path):
    image = picture(7)
    whole = pair("a", "Lipoma of the back.", image)
    cut = whole["image"]["bytes"][:300]
    rows = [
        *good(),
        # Its image is broken, so that the other one under the same words and looks must stay.
        whole | {"pair_id": "broken", "image": {"bytes": cut, "path": None}, "inline_refs": ["better"]},
        whole,
        pair("no_image", "Lipoma of the neck.") | {"image": None},
        pair("empty_image", "Lipoma of the arm.") | {"image": {"bytes": b"", "path": None}},
        pair("no_name", "Lipoma of the leg.") | {"pair_id": None},
        pair("no_source", "Lipoma of the toe.") | {"source": None},
        pair("no_caption", "x") | {"caption": None},
        pair("long", "word " * 20_000),
        pair("no_size", "Lipoma of the knee.") | {"width": 0},
        pair("no_hash", "Lipoma of the hip.") | {"phash": "no hash"},
        pair("null_hash", "Lipoma of the heel.") | {"phash": None},
    ]
    out = run_on(tmp_path, rows)
    assert len(rows_of(out.path / "train")) == 6
    assert whole["pair_id"] in {row["pair_id"] for row in rows_of(out.path / "train")}
    assert out.quarantined == {
        "image_changed": 1,
        "missing_image": 2,
        "missing_value": 3,
        "empty_caption": 1,
        "caption_too_long": 1,
        "bad_size": 1,
        "bad_hash": 1,
    }
    assert out.num_in == len(rows) == out.num_out + sum(out.quarantined.values())


def test_images_that_cannot_be_decoded_are_found_on_request(tmp_path):
    import hashlib

    data = encode_png(picture(7))
    cut = data[: len(data) // 2]
    broken = pair("cut", "Lipoma.") | {
        "image": {"bytes": cut, "path": None},
        "image_sha256": hashlib.sha256(cut).hexdigest(),
    }
    page = b"%PDF-1.7 and more"
    no_image = pair("pdf", "Melanoma.") | {
        "image": {"bytes": page, "path": None},
        "image_sha256": hashlib.sha256(page).hexdigest(),
    }
    assert run_on(tmp_path / "1", [*good(), broken, no_image]).quarantined == {"not_an_image": 1}
    found = run_on(tmp_path / "2", [*good(), broken, no_image], check_images="decode").quarantined
    assert found == {"not_an_image": 1, "corrupt_image": 1}


def test_of_two_pairs_with_one_id_the_better_stays_in_whatever_order(tmp_path):
    rows = [*good(2), pair("a", "Lipoma."), pair("a", "Lipoma, seen from above.", picture(8))]
    for number, order in enumerate((rows, rows[::-1])):
        out = run_on(tmp_path / str(number), order)
        captions = {row["pair_id"]: row["caption"] for row in rows_of(out.path / "train")}
        assert captions["quilt_1m/train/a"] == "Lipoma, seen from above."
        assert out.quarantined == {"repeated_pair_id": 1}


def test_a_shard_that_is_cut_short_is_named(tmp_path):
    inputs = write_pairs(tmp_path / "public_pairs", good())
    [shard] = inputs.rglob("*.parquet")
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    with pytest.raises(InputError, match=rf"{shard.name} is cut short or damaged"):
        run(CorpusConfig(heldout=HELDOUT), public_pairs=inputs, out=new_output(tmp_path))


def test_a_shard_with_other_columns_is_named(tmp_path):
    folder = tmp_path / "public_pairs" / "pairs"
    folder.mkdir(parents=True)
    table = pa.Table.from_pylist(good(), schema=PAIRS)
    pq.write_table(table.drop_columns(["phash"]), folder / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet lacks the column phash"):
        run(CorpusConfig(heldout=HELDOUT), public_pairs=tmp_path / "public_pairs", out=new_output(tmp_path))
    place = PAIRS.get_field_index("width")
    floats = table.set_column(place, "width", pa.array([math.nan] * len(table)))
    pq.write_table(floats, folder / "a.parquet")
    with pytest.raises(InputError, match="the column width holds double, not int32"):
        run(CorpusConfig(heldout=HELDOUT), public_pairs=tmp_path / "public_pairs", out=new_output(tmp_path))


def test_any_number_of_processes_and_shards_gives_the_same_corpus(tmp_path):
    rows = [*good(8), pair("again", "A good caption, number 3.", picture(103)), pair("none", "12")]
    one = contents(run_on(tmp_path / "1", rows).path)
    out = new_output(tmp_path / "2")
    for number in range(3):
        write_pairs(tmp_path / "2" / str(number), rows[number::3])
        target = tmp_path / "2" / "public_pairs" / "pairs" / f"{9 - number}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        next((tmp_path / "2" / str(number)).rglob("*.parquet")).rename(target)
    config = CorpusConfig(heldout=HELDOUT, dev_share=0.0, num_workers=2)
    run(config, public_pairs=tmp_path / "2" / "public_pairs", out=out)
    assert contents(out.path) == one


_RUN = """
import sys
from pathlib import Path
from components.data_processing.corpus.config import CorpusConfig
from components.data_processing.corpus.stage import run
from pathoflow.contract.output import StageOutput
root = Path(sys.argv[1])
config = CorpusConfig(heldout=("quilt_1m/val/*",), dev_share=0.2, webdataset=True)
run(config, public_pairs=root / "public_pairs", out=StageOutput(root / sys.argv[2], root / "scratch"))
"""


def _rounds(tmp_path, num):
    rows = [pair(f"r{number}", f"Caption {number} in its own words.", picture(number)) for number in range(60)]
    for number in range(3):
        inputs = write_pairs(tmp_path / str(number), rows[number::3])
        target = tmp_path / "public_pairs" / "pairs" / f"{number}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        next(inputs.rglob("*.parquet")).rename(target)
    whole = new_output(tmp_path / "whole")
    config = CorpusConfig(heldout=HELDOUT, dev_share=0.2, webdataset=True)
    start = time.monotonic()
    run(config, public_pairs=tmp_path / "public_pairs", out=whole)
    expected, took = contents(whole.path), time.monotonic() - start
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    for seed in range(num):
        process = subprocess.Popen([sys.executable, "-c", _RUN, str(tmp_path), f"killed{seed}"], env=environment)
        time.sleep(random.Random(seed).uniform(0.5, 2.5 + took))
        process.kill()
        process.wait()
        command = [sys.executable, "-c", _RUN, str(tmp_path), f"finished{seed}"]
        subprocess.run(command, env=environment, check=True)
        assert contents(tmp_path / f"finished{seed}") == expected


def test_killed_and_run_again_it_writes_the_same_bytes(tmp_path):
    _rounds(tmp_path, 2)


@pytest.mark.slow
def test_killed_at_many_moments_and_run_again_it_writes_the_same_bytes(tmp_path):
    _rounds(tmp_path, 30)
