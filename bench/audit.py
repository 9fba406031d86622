"""Measures an audit's throughput and memory over a version's bytes, and the latency of lineage queries.

The bytes stand in a real MLflow store (a model) and a real DVC remote (a data set) on this machine's disk, and are
audited through a registered version, records and all. The peer reads the same files with the same number of threads and
computes nothing but SHA-256. Rounds of both alternate, so that what else goes on falls on both. The lineage index holds
50 versions, each on a corpus of its own: the same 3.5 million pairs but for 1 %, in shards that no two share.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.report import Figure, conclude
from pathoflow.contract.config import OutputKind, StageConfig
from pathoflow.contract.lineage import LINEAGE_TAG, write_references
from pathoflow.contract.publication import log_output
from pathoflow.contract.references import Reference
from pathoflow.contract.sealing import Code, Counts, Manifest, seal
from pathoflow.contract.workdir import WorkDir
from pathoflow.governance.audit import Places, Verdict, audit
from pathoflow.governance.audit.forward import forward
from pathoflow.governance.audit.index import IndexedFile, IndexedOutput, IndexedVersion, LineageIndex, add_ids
from pathoflow.stores.tracking import IDENTITY_TAG, Tracker
from pathoflow.stores.versioning import DvcStore

FILE_BYTES = 256 * 2**20
NUM_SHARDS = 40
CORE_COUNT = os.cpu_count() or 1
_MIB = 2**20


class DataConfig(StageConfig):
    """Configuration of a data set."""

    stage: ClassVar[str] = "corpus"


class ModelConfig(StageConfig):
    """Configuration of a model."""

    stage: ClassVar[str] = "model"
    output: ClassVar[OutputKind] = "model"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="0.5 GB, and 5 versions of 0.2 million pairs")
    parser.add_argument("--child", metavar="WORKDIR", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(_audit_once(Path(arguments.child))))
        return
    num_files, rounds = (1, 3) if arguments.quick else (20, 5)
    versions, pairs = (5, 200_000) if arguments.quick else (50, 3_500_000)
    # The peer and the audit read what the page cache holds, so that hashing is measured, and not the disk.
    with tempfile.TemporaryDirectory() as folder:
        figures = _throughput(Path(folder), num_files, rounds)
    with tempfile.TemporaryDirectory() as folder:
        figures += _lineage(Path(folder), versions, pairs)
    conclude("Audit", figures)


def _throughput(root: Path, num_files: int, rounds: int) -> list[Figure]:
    """Audits a version of 2 × `num_files` large files, half of them a model's and half a data set's."""
    workdir = _registered(root, num_files)
    shares: list[float] = []
    peaks: list[float] = []
    for _ in range(rounds):
        bare_s, num_bytes = _bare(workdir)
        child = [sys.executable, "-m", "bench.audit", "--child", str(workdir.root)]
        found = json.loads(subprocess.run(child, check=True, stdout=subprocess.PIPE, text=True).stdout)
        assert found["verdict"] == Verdict.UNKNOWN, found
        assert found["num_bytes"] > 0.999 * num_bytes
        shares.append(100 * (found["num_bytes"] / found["took_s"]) / (num_bytes / bare_s))
        peaks.append(found["peak_bytes"] / _MIB)
        print(
            f"{num_bytes / 1e9:.2f} GB: SHA-256 alone {num_bytes / bare_s / 1e6:,.0f} MB/s, the audit "
            f"{found['num_bytes'] / found['took_s'] / 1e6:,.0f} MB/s, {peaks[-1]:.0f} MiB"
        )
    size = f"{num_bytes / 1e9:.1f} GB"
    return [
        Figure(
            f"audit of {size}, records included",
            statistics.median(shares),
            "%",
            f"SHA-256 alone of the same files, {CORE_COUNT} threads",
            80,
            higher_is_better=True,
        ),
        Figure(f"peak memory of the audit of {size}", max(peaks), "MiB", "a bar we set", 300),
    ]


def _audit_once(root: Path) -> dict[str, object]:
    """Runs one audit in a process of its own; no repository knows the code's commit, everything else passes."""
    places = Places.of_workdir(root)
    # What MLflow's client does once in a process, as the peer's start is not counted either.
    places.client.search_experiments()
    started = time.perf_counter()
    report = audit("bench.dev", places)
    took_s = time.perf_counter() - started
    bad = [link for link in report.problems if link.check != "code"]
    assert not [link for link in bad if link.check == "bytes"], bad
    return {
        "verdict": report.verdict,
        "num_bytes": report.num_bytes,
        "took_s": took_s,
        "peak_bytes": _peak_bytes(),
    }


def _peak_bytes() -> int:
    """Returns the most memory that this process held; the kernel's maximum begins with its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def _bare(workdir: WorkDir) -> tuple[float, int]:
    """Returns the seconds to compute the SHA-256 of the stored files, and their bytes."""
    folders = (workdir.mlflow / "artifacts", workdir.dvc / "remote")
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    paths.sort(key=lambda path: -path.stat().st_size)

    def digest(path: Path) -> int:
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")
        return path.stat().st_size

    started = time.perf_counter()
    with ThreadPoolExecutor(CORE_COUNT) as pool:
        num_bytes = sum(pool.map(digest, paths))
    return time.perf_counter() - started, num_bytes


def _registered(root: Path, num_files: int) -> WorkDir:
    """Creates a work directory with a version whose model and data have `num_files` large files each."""
    workdir = WorkDir(root)
    workdir.create()
    workdir.mlflow.mkdir()
    tracker = Tracker(workdir.tracking_uri, "bench")
    data = _sealed(workdir, DataConfig(), {}, num_files)
    remote = str(workdir.dvc / "remote")
    md5 = DvcStore(workdir.dvc, remote).push(workdir.output("corpus"), "corpus")
    run = tracker.stage_run("corpus", "bench/corpus", run_id=None, parent_run_id=None)
    run.log_config(data.config)
    corpus = Reference(
        stage="corpus", kind="data", identity=data.identity, dvc_md5=md5, dvc_remote=remote, run_id=run.run_id
    )
    log_output(run, data, workdir.output("corpus"), log_model=False, reference=corpus.model_dump_json())
    model = _sealed(workdir, ModelConfig(), {"corpus": data.identity}, num_files)
    run = tracker.stage_run("model", "bench/model", run_id=None, parent_run_id=None)
    run.log_config(model.config)
    run.log_inputs({"corpus": (md5, data.identity)})
    uri = run.artifact_uri("model")
    reference = Reference(stage="model", kind="model", identity=model.identity, model_uri=uri, run_id=run.run_id)
    log_output(run, model, workdir.output("model"), log_model=True, reference=reference.model_dump_json())
    tags = {IDENTITY_TAG: model.identity, LINEAGE_TAG: write_references([reference, corpus])}
    tracker.client.create_registered_model("bench.dev")
    source = f"{tracker.client.get_run(run.run_id).info.artifact_uri}/model"
    tracker.client.create_model_version("bench.dev", source, run.run_id, tags=tags)
    return workdir


def _sealed(workdir: WorkDir, config: StageConfig, inputs: dict[str, str], num_files: int) -> Manifest:
    folder = workdir.output(config.stage)
    folder.mkdir()
    rng = np.random.default_rng(len(config.stage))
    for number in range(num_files):
        (folder / f"part-{number:05}.bin").write_bytes(rng.bytes(FILE_BYTES))
    return seal(
        folder,
        config=config,
        code=Code(commit=None, dirty=None, digest="sha256:bench"),
        image_digest=None,
        inputs=inputs,
        external_files=(),
        counts=Counts(num_in=1, num_out=1, quarantined={}),
        metrics={},
        notes={},
    )


def _lineage(folder: Path, num_versions: int, num_pairs: int) -> list[Figure]:
    """Builds the index, and asks it by pair, page, book and shard in a new process' state each time."""
    started = time.perf_counter()
    _build_index(folder, num_versions, num_pairs)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(
        f"index of {num_versions} versions × {num_pairs:,} pairs: {time.perf_counter() - started:.0f} s, "
        f"{size / 1e9:.2f} GB"
    )
    middle = num_pairs // 2
    questions = {
        "a pair": f"pair-{middle:09}",
        "a page": _source_id(middle),
        "a book": _source_id(middle).partition("/")[0],
        "a shard": "corpus_0/train/shard-00000.parquet",
    }
    figures = []
    for what, asked in questions.items():
        took_s, num_found = _time(folder, asked)
        print(f"{what} ({asked}): {num_found} versions in {took_s:.2f} s")
        figures.append(
            Figure(
                f"forward lineage of {what}, {num_versions} versions × {num_pairs / 1e6:g} M pairs",
                took_s,
                "s",
                "a bar we set",
                2,
            )
        )
    return figures


def _time(folder: Path, asked: str) -> tuple[float, int]:
    """Returns the slowest of three answers, the index being loaded anew for each, and the number of versions found."""
    slowest, found = 0.0, 0
    for _ in range(3):
        started = time.perf_counter()
        found = len(forward(LineageIndex.load(folder), asked).versions)
        slowest = max(slowest, time.perf_counter() - started)
    return slowest, found


def _source_id(number: int) -> str:
    return f"book{number // 5000:04}/p{number // 10 % 500}/{number % 10}"


def _build_index(folder: Path, num_versions: int, num_pairs: int) -> None:
    """Builds an index of versions whose corpora and reasoning data are all different, from the same pairs.

    A corpus says which book a pair is from, reasoning data on a tenth of the pairs do not, as in the pipeline.
    """
    index = LineageIndex(folder)
    buckets = index.buckets
    numbers = np.arange(num_pairs)
    ids = {
        "pair_id": pa.array([f"pair-{number:09}" for number in range(num_pairs)]),
        "source_id": pa.array([_source_id(number) for number in range(num_pairs)]),
    }

    def add(stage: str, inputs: list[str], part: str, rows: NDArray[np.int64], columns: tuple[str, ...]) -> str:
        output = _add_output(index, stage, inputs)
        for number, own in enumerate(np.array_split(rows, NUM_SHARDS)):
            table = pa.table({name: ids[name].take(pa.array(own)) for name in columns})
            path = f"{part}/shard-{number:05}.parquet"
            sha256 = hashlib.sha256(f"{output}/{path}".encode()).hexdigest()
            file = add_ids(index, buckets, sha256, table, is_origin=not inputs)
            index.outputs[output].files.append(IndexedFile(path, sha256, file))
        return output

    pairs = add("pairs", [], "pairs", numbers, ("pair_id", "source_id"))
    rng = np.random.default_rng(0)
    for version in range(num_versions):
        kept = rng.permutation(numbers)[: int(num_pairs * 0.99)]
        corpus = add(f"corpus_{version}", [pairs], "train", kept, ("pair_id", "source_id"))
        reasoning = add(f"reasoning_{version}", [corpus], "train", kept[: num_pairs // 10], ("pair_id",))
        model = _add_output(index, f"model_{version}", [corpus, reasoning], kind="model")
        stands_on = (model, corpus, reasoning, pairs)
        index.versions.append(IndexedVersion("bench.dev", str(version + 1), (), model, stands_on))
    buckets.flush()
    index.save()


def _add_output(index: LineageIndex, stage: str, inputs: list[str], kind: str = "data") -> str:
    identity = "sha256:" + hashlib.sha256(stage.encode()).hexdigest()
    sources = {index.outputs[source].stage: source for source in inputs}
    index.outputs[identity] = IndexedOutput(stage, kind, None, sources, [], [])
    return identity


if __name__ == "__main__":
    main()
