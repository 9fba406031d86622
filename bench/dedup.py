"""Measures the corpus stage at scale: time, memory, quality of deduplication and decontamination, shard writing.

Rows are synthetic: random hashes and captions of 10 to 60 words drawn by Zipf's law, each with a tiny image file. Among
them are planted

- pairs that repeat others (at most 4 bits flipped, words changed with a Jaccard index still above the threshold);
- pairs that repeat only another's image, or only its caption, and must stay under the default rule; a caption counts
  only within a split, since between splits the look alone decides;
- pairs whose image looks like an image of an evaluation set (at most 6 bits flipped);
- a crowd: one row in fifty has the same image hash, or nearly the same, under words of its own.

Whether a drop is right is judged here anew, from the integers and the words, with nothing of the stage's own code.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ipc

from bench.report import Figure, conclude
from components.data_processing.corpus.config import CorpusConfig
from components.data_processing.corpus.decisions import decide
from components.data_processing.corpus.evaluation_sets import read_evaluation_set
from components.data_processing.corpus.neighbours import near_captions, near_images
from components.data_processing.corpus.shingles import CaptionSets
from components.data_processing.corpus.shuffling import take_in_chunks
from components.data_processing.corpus.stage import run
from components.data_processing.corpus.survey import take_survey
from pathoflow.contract.output import StageOutput
from pathoflow.data.image_io import encode_png
from pathoflow.data.schemas import CORPUS, PAIRS, ShardWriter
from pathoflow.system.files import sha256_of_file, sync_file, sync_tree

NUM_EVALUATION_IMAGES = 1000
NUM_SHARDS = 8
BITS, EVALUATION_BITS, SIMILARITY = 4, 6, 0.8
_KINDS = ("plain", "repeat", "same_look", "same_words", "evaluation", "crowd")
_SHARES = (0.90, 0.02, 0.02, 0.02, 0.02, 0.02)
_GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="40 000 rows instead of a million")
    parser.add_argument("--work", nargs=2, metavar=("HOW", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        _work(arguments.work[0], Path(arguments.work[1]))
        return
    rows = 40_000 if arguments.quick else 1_000_000
    with tempfile.TemporaryDirectory(prefix="bench-dedup-") as name:
        figures = _scale(Path(name), rows) + _writing(Path(name), 128 if arguments.quick else 512) + _peers()
    conclude("Corpus: deduplication, decontamination, shard writing", figures)


def _scale(folder: Path, num_rows: int) -> list[Figure]:
    half, full = _measured(folder / "half", num_rows // 2), _measured(folder / "full", num_rows)
    truth = _truth(folder / "full")
    print(f"{num_rows:,} rows: stage {full['stage']}, either image or caption {full['either']}")
    print(f"{num_rows // 2:,} rows: stage {half['stage']}, either {half['either']}; judged: {truth}")
    label = f"{num_rows // 1000} k rows"
    peak = max(full[how]["peak_bytes"] for how in ("stage", "either")) / _GIB
    return [
        Figure(f"peak memory, {label}", peak, "GiB", "a bar we set", 6),
        *(
            Figure(
                f"{kind} time of {what}, {label} to half", full[how][key] / half[how][key], "×", "half the rows", 2.3
            )
            for how, what in (("stage", "the stage"), ("either", "the strictest rule"))
            for kind, key in (("wall", "seconds"), ("processor", "cpu_seconds"))
        ),
        *(
            Figure(f"{name.replace('_', ' ')}, {label}", value, "share", "the planted truth", 0.99, True)
            for name, value in truth.items()
        ),
    ]


def _measured(folder: Path, num_rows: int) -> dict[str, dict[str, float]]:
    _plant(folder, num_rows)
    measured = {}
    for how in ("stage", "either"):
        command = [sys.executable, "-m", "bench.dedup", "--work", how, str(folder)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        measured[how] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _work(how: str, folder: Path) -> None:
    """Runs in a measured process; `either` decides anew by the strictest rule on what `stage` surveyed."""
    out = StageOutput(folder / f"output_{how}", folder / "scratch")
    keys: dict[str, Any] = {"duplicate_rule": "image_or_caption"} if how == "either" else {}
    config = CorpusConfig(
        heldout=("no/*",),
        evaluation_sets=(folder / "evaluation",),
        evaluation_bits=EVALUATION_BITS,
        near_duplicate_bits=BITS,
        isolation_bits=BITS,
        caption_similarity=SIMILARITY,
        **keys,
    )
    start = time.perf_counter()
    if how == "stage":
        run(config, public_pairs=folder / "public_pairs", out=out)
    else:
        shards = sorted((folder / "public_pairs" / "pairs").iterdir())
        survey = take_survey(config, shards, out.scratch / "survey", lambda num: None)
        sets = [read_evaluation_set(folder / "evaluation", min_name_characters=8, max_pixels=10**6)]
        pq.write_table(decide(survey, sets, config).dropped, out.path / "dropped.parquet")
    seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime, "peak_bytes": used.ru_maxrss * 1024}
    print(json.dumps({name: round(value, 1) for name, value in figures.items()}))


def _plant(folder: Path, num_rows: int) -> None:
    """Writes pairs, an evaluation set, and the planted repeats."""
    rng = np.random.default_rng(num_rows)
    looks = _evaluation_set(folder / "evaluation", rng)
    kinds = rng.choice(len(_KINDS), size=num_rows, p=_SHARES)
    kinds[: num_rows // 100] = 0
    plain = np.flatnonzero(kinds == 0)
    models = rng.choice(plain, size=num_rows)
    vocabulary = np.array(
        [f"{stem}{number}" for number in range(2000) for stem in ("carcino", "adeno", "fibro", "nev")]
    )
    lengths = rng.integers(10, 60, size=num_rows)
    words = rng.zipf(1.2, size=int(lengths.sum())) % len(vocabulary)
    texts = np.split(words, np.cumsum(lengths)[:-1])
    hashes = rng.integers(0, 2**64, size=num_rows, dtype=np.uint64)
    crowd = rng.integers(0, 2**64, dtype=np.uint64)
    for row in np.flatnonzero(kinds).tolist():
        kind, model = _KINDS[kinds[row]], models[row]
        if kind in ("repeat", "same_look"):
            hashes[row] = _flipped(hashes[model], BITS, rng)
        elif kind == "evaluation":
            hashes[row] = _flipped(rng.choice(looks), EVALUATION_BITS, rng)
        elif kind == "crowd":
            hashes[row] = _flipped(crowd, int(rng.integers(0, 2)), rng)
        if kind in ("repeat", "same_words"):
            texts[row] = _edited(texts[model], len(vocabulary), rng)
    names = [f"case_{number:08d}" for number in range(num_rows)]
    captions = [" ".join(vocabulary[text].tolist()) for text in texts]
    files = [b"\xff\xd8\xff" + rng.bytes(29) for _ in range(num_rows)]
    _save_pairs(folder / "public_pairs" / "pairs", names, captions, hashes, files)
    planted = {
        "pair_id": names,
        "kind": [_KINDS[kind] for kind in kinds],
        "model": [names[model] for model in models],
        "hash": hashes,
        "caption": captions,
    }
    pq.write_table(pa.table(planted), folder / "planted.parquet")
    np.save(folder / "looks.npy", looks)


def _save_pairs(
    folder: Path, names: list[str], captions: list[str], hashes: np.ndarray[Any, Any], files: list[bytes]
) -> None:
    folder.mkdir(parents=True)
    size = -(-len(names) // NUM_SHARDS)
    for number in range(NUM_SHARDS):
        here = slice(number * size, (number + 1) * size)
        num = len(names[here])
        columns: dict[str, Any] = {
            "pair_id": names[here],
            "image": [{"bytes": data, "path": None} for data in files[here]],
            "caption": captions[here],
            "inline_refs": [[]] * num,
            "source": ["bench"] * num,
            "source_id": names[here],
            "region": [None] * num,
            "language": ["en"] * num,
            "width": [672] * num,
            "height": [672] * num,
            "image_sha256": [hashlib.sha256(data).hexdigest() for data in files[here]],
            "phash": [f"{value:016x}" for value in hashes[here].tolist()],
        }
        pq.write_table(pa.table(columns, schema=PAIRS), folder / f"bench-{number:05d}.parquet", row_group_size=50_000)


def _evaluation_set(folder: Path, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Writes real images, and returns their hashes."""
    import imagehash
    from PIL import Image

    folder.mkdir(parents=True)
    looks = []
    for number in range(NUM_EVALUATION_IMAGES):
        patches = Image.fromarray(rng.integers(0, 256, size=(8, 8, 3), dtype=np.uint8))
        image = patches.resize((64, 64), Image.Resampling.BICUBIC)
        (folder / f"evaluation_{number:06d}.png").write_bytes(encode_png(image))
        looks.append(int(str(imagehash.phash(image)), 16))
    return np.array(looks, dtype=np.uint64)


def _flipped(value: Any, most: int, rng: np.random.Generator) -> np.uint64:
    bits = rng.choice(64, size=int(rng.integers(0, most + 1)), replace=False)
    return np.uint64(int(value) ^ sum(1 << int(bit) for bit in bits))


def _edited(text: np.ndarray[Any, Any], num_words: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Returns the text with words changed for as long as it still counts as the same."""
    best = text.copy()
    for _ in range(int(rng.integers(0, 4))):
        trial = best.copy()
        trial[rng.integers(len(trial))] = rng.integers(num_words)
        if _jaccard(_runs(trial.tolist()), _runs(text.tolist())) < SIMILARITY:
            break
        best = trial
    return best


def _truth(folder: Path) -> dict[str, float]:
    """Returns the recall of planted repeats, and the share of drops that are right."""
    planted = pq.read_table(folder / "planted.parquet").to_pylist()
    by_name = {row["pair_id"]: row for row in planted}
    looks = np.load(folder / "looks.npy")
    splits = _splits(folder / "output_stage")
    scores = {}
    for how, kinds in (("stage", ("repeat", "evaluation")), ("either", ("same_look", "same_words"))):
        dropped = pq.read_table(folder / f"output_{how}" / "dropped.parquet").to_pylist()
        gone = {row["pair_id"] for row in dropped}
        for kind in kinds:
            # Of a pair and the one it was made from, either may be the better one.
            found = [
                row["pair_id"] in gone or (kind != "evaluation" and row["model"] in gone)
                for row in planted
                if row["kind"] == kind and (kind != "same_words" or splits[row["pair_id"]] == splits[row["model"]])
            ]
            scores[f"recall_of_{kind}"] = sum(found) / len(found)
        right = [_is_right(row, by_name, looks, need_both=how == "stage") for row in dropped]
        scores[f"precision_of_drops_{how}"] = sum(right) / len(right)
    return scores


def _splits(output: Path) -> dict[str, str]:
    """Returns the split of every pair, whether it was kept or dropped."""
    tables = [pq.read_table(path, columns=["pair_id", "split"]) for path in output.rglob("*.parquet")]
    return dict(zip(*(pa.concat_tables(tables)[name].to_pylist() for name in ("pair_id", "split")), strict=True))


def _is_right(row: dict[str, Any], by_name: dict[str, Any], looks: np.ndarray[Any, Any], *, need_both: bool) -> bool:
    own = by_name[row["pair_id"]]
    if row["reason"].startswith("evaluation"):
        return bool(np.bitwise_count(looks ^ np.uint64(own["hash"])).min() <= EVALUATION_BITS)
    other = by_name[row["kept"]]
    near = (own["hash"] ^ other["hash"]).bit_count() <= BITS
    if "_in_" in row["reason"]:
        return bool(near)
    alike = _jaccard(*(_runs(re.findall(r"\w+", each["caption"])) for each in (own, other))) >= SIMILARITY - 1e-6
    return (near and alike) if need_both else (near or alike)


def _runs(words: list[Any]) -> set[tuple[Any, ...]]:
    return {tuple(words[place : place + 2]) for place in range(max(len(words) - 1, 1))}


def _jaccard(one: set[Any], other: set[Any]) -> float:
    return len(one & other) / max(len(one | other), 1)


def _writing(folder: Path, mib: int) -> list[Figure]:
    """Sorts a bucket of pairs and writes it as shards, against copying these shards with the system's own `cp`.

    Both read files that lie in the page cache, write the same bytes, end when these are on the disk, and begin with
    nothing of their own left from the turn before. Who comes first changes from turn to turn: memory that the other
    has just freed is cheaper to fill than memory that the machine has to find.
    """
    bucket, shards, original, copies = (folder / name for name in ("bucket.arrows", "shards", "original", "copies"))
    num = _write_bucket(bucket, mib)
    order = np.random.default_rng(1).permutation(num)

    def write() -> None:
        with pa.memory_map(str(bucket)) as file, ipc.open_stream(file) as reader:
            table = reader.read_all()
        with ShardWriter(shards, CORPUS, shard_bytes=256 * 2**20) as writer:
            for pairs, num_bytes in take_in_chunks(table, order):
                writer.write_table(pairs, num_bytes)
        sync_tree(shards)

    def copy() -> None:
        subprocess.run(["cp", "-r", "--reflink=never", str(original), str(copies)], check=True)
        sync_tree(copies)

    def ready() -> None:
        for path in (bucket, *original.iterdir()):
            sha256_of_file(path)
        for path in (shards, copies):
            shutil.rmtree(path, ignore_errors=True)

    write()
    shards.rename(original)
    writing, copying = _alternate(write, copy, rounds=8, before_each=ready)
    size = sum(path.stat().st_size for path in original.iterdir()) / 2**20
    print(f"{size:.0f} MiB of shards: written at {size / writing:.0f} MiB/s, copied at {size / copying:.0f} MiB/s")
    return [Figure("shard writing, sync included", copying / writing, "of the rate", "cp and sync", 0.8, True)]


def _write_bucket(path: Path, mib: int) -> int:
    """Writes pairs with images of 20 to 100 kB as the stage's buckets hold them, and returns how many."""
    rng = np.random.default_rng(0)
    num = mib * 2**20 // 60_000
    with ipc.new_stream(path, CORPUS) as stream:
        for start in range(0, num, 100):
            rows = [_large_pair(number, rng) for number in range(start, min(start + 100, num))]
            stream.write_table(pa.Table.from_pylist(rows, schema=CORPUS))
    sync_file(path)
    return num


def _large_pair(number: int, rng: np.random.Generator) -> dict[str, Any]:
    return {
        "pair_id": f"bench/{number}",
        "image": {"bytes": rng.bytes(int(rng.integers(20_000, 100_000))), "path": f"{number}.jpg"},
        "caption": " ".join(f"word{word}" for word in rng.integers(0, 5000, size=40)),
        "inline_refs": [],
        "source": "bench",
        "source_id": str(number),
        "language": "en",
        "width": 672,
        "height": 672,
        "image_sha256": rng.bytes(32).hex(),
        "phash": rng.bytes(8).hex(),
        "split": "train",
    }


def _alternate(
    one: Callable[[], None],
    other: Callable[[], None],
    *,
    rounds: int,
    before_each: Callable[[], None] = lambda: None,
) -> tuple[float, float]:
    """Returns the median seconds of two functions called in turn, each first equally often."""
    seconds: tuple[list[float], list[float]] = ([], [])
    pairs = list(zip((one, other), seconds, strict=True))
    for number in range(rounds):
        for act, spent in pairs if number % 2 == 0 else reversed(pairs):
            before_each()
            start = time.perf_counter()
            act()
            spent.append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def _peers() -> list[Figure]:
    """Compares near captions with datasketch's MinHashLSH, and near images with all-pairs comparison."""
    import datasketch

    rng = np.random.default_rng(1)
    num = 4000
    texts = [rng.zipf(1.2, size=int(rng.integers(10, 60))) % 8000 for _ in range(num)]
    texts += [_edited(text, 8000, rng) for text in texts[: num // 4]]
    captions = [" ".join(f"w{word}" for word in text) for text in texts]
    rows = np.arange(len(captions))

    def ours() -> None:
        sets = CaptionSets([captions], shingle_words=2, num_hashes=48, similarity=SIMILARITY)
        near_captions(rows, rows, sets)

    def peer() -> None:
        index = datasketch.MinHashLSH(threshold=SIMILARITY, num_perm=48, params=(12, 4))
        for number, caption in enumerate(captions):
            signature = datasketch.MinHash(num_perm=48)
            signature.update_batch([" ".join(run).encode() for run in _runs(caption.split())])
            index.query(signature)
            index.insert(number, signature)

    hashes = rng.integers(0, 2**64, size=20_000, dtype=np.uint64)
    numbers = np.arange(len(hashes))

    def brute() -> None:
        for value in hashes:
            np.flatnonzero(np.bitwise_count(hashes ^ value) <= BITS)

    own, other = _alternate(ours, peer, rounds=3)
    tables, every = _alternate(lambda: _ignore(near_images(numbers, numbers, hashes, BITS)), brute, rounds=3)
    version = datasketch.__version__
    return [
        Figure("near captions, 5 k", other / own, "× faster", f"datasketch {version} MinHashLSH", 5, True),
        Figure("near images, 20 k", every / tables, "× faster", "numpy, each with each", 5, True),
    ]


def _ignore(_: object) -> None:
    """Discards a result that only had to be computed."""


if __name__ == "__main__":
    main()
