"""The stage's output is the same for any number of shards, and whatever kills its processes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
import yaml

from components.data_processing.public_pairs import reading
from components.data_processing.public_pairs.chunks import plan_chunks
from components.data_processing.public_pairs.config import PublicPairsConfig
from components.data_processing.public_pairs.sources import CsvSource, PathGenSource, Source
from pathoflow.contract.code import REPOSITORY
from pathoflow.contract.sealing import Manifest, read_manifest, verify
from pathoflow.contract.sharding import Shard
from pathoflow.contract.stage import execute
from pathoflow.contract.workdir import WorkDir
from pathoflow.data.image_io import encode_jpeg
from pathoflow.errors import InputError, SealError, StageError
from tests.components.data_processing.public_pairs.sources import row, write_json, write_slide, write_table
from tests.support.pairs import picture

NUM_IMAGES = 60


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV and a PathGen list, each with records that make no pair."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "images").mkdir()
    for number in range(NUM_IMAGES):
        (folder / "images" / f"{number}.jpg").write_bytes(encode_jpeg(picture(number)))
    # Each image twice: which of the two is named #2 must not depend on who read it.
    rows = [row(f"{number % (NUM_IMAGES + 5)}.jpg", f"Caption {number}") for number in range(2 * NUM_IMAGES)]
    write_table(folder / "t.csv", rows)
    records = []
    for number in range(6):
        if number:
            write_slide(folder / "slides" / f"slide-{number}.tif", number)
        squares = [
            {"wsi_id": f"slide-{number}", "position": [x, "0"], "caption": f"{number}, {x}"} for x in ("0", "300")
        ]
        records += squares
    random.Random(0).shuffle(records)
    write_json(folder / "PathGen-1.6M.json", records)
    return folder


@pytest.fixture
def config(data: Path) -> PublicPairsConfig:
    return PublicPairsConfig.model_validate(values(data))


def values(data: Path) -> dict:
    sources = [
        {"format": "csv", "name": "mine", "table": "t.csv"},
        {"format": "pathgen", "records": "PathGen-1.6M.json", "slides": "slides", "slide_groups": 4},
    ]
    return {"root": str(data), "sources": sources, "chunk_rows": 7, "max_quarantine_share": 0.2, "num_workers": 1}


@pytest.fixture
def whole(config, new_workdir, services) -> Manifest:
    """Returns the output of a run without shards."""
    workdir = new_workdir("whole")
    execute(config, {}, workdir, services)
    return verify(workdir.output("public_pairs"))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_identity_is_the_same_for_any_number_of_shards(config, whole, workdir, services, count, monkeypatch):
    parts = []
    for index in range(1, count + 1):
        shard = Shard(index, count)
        execute(config, {}, workdir, services, shard=shard)
        parts.append(verify(workdir.output(shard.name("public_pairs"))))
    assert sum(part.counts.num_in for part in parts) == whole.counts.num_in
    assert sum(part.counts.num_out for part in parts) == whole.counts.num_out
    for reason, number in whole.counts.quarantined.items():
        assert sum(part.counts.quarantined.get(reason, 0) for part in parts) == number

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a shard's chunk was read again")

    monkeypatch.setattr(reading.Reader, "read", refuse)
    execute(config, {}, workdir, services)
    assert verify(workdir.output("public_pairs")).identity == whole.identity
    assert whole.counts.quarantined == {"missing_file": 5, "missing_slide": 2}


def test_the_merge_does_what_no_shard_did(config, whole, workdir, services):
    execute(config, {}, workdir, services, shard=Shard(2, 3))
    execute(config, {}, workdir, services)
    assert verify(workdir.output("public_pairs")).identity == whole.identity


def test_a_damaged_part_is_an_error_that_names_the_file(config, workdir, services):
    execute(config, {}, workdir, services, shard=Shard(1, 2))
    part = workdir.output("public_pairs.shard-1-of-2")
    victim = next(part.rglob("*.parquet"))
    victim.write_bytes(victim.read_bytes()[:-1])
    with pytest.raises(SealError, match=victim.name):
        execute(config, {}, workdir, services)


def test_parts_of_other_work_are_left_alone_where_they_lie_and_refused_where_they_are_given(
    config, data, whole, workdir, services
):
    other = PublicPairsConfig.model_validate(values(data) | {"chunk_rows": 8})
    execute(other, {}, workdir, services, shard=Shard(1, 2))
    execute(config, {}, workdir, services)
    assert verify(workdir.output("public_pairs")).identity == whole.identity
    with pytest.raises(InputError, match="Run the shards of public_pairs again"):
        execute(config, {}, workdir, services, force=True, parts=[workdir.output("public_pairs.shard-1-of-2")])


def test_a_shard_is_not_judged_by_its_own_share_of_bad_records(data, workdir, services):
    (alone := values(data))["sources"] = [{"format": "csv", "table": "t.csv"}]
    config = PublicPairsConfig.model_validate(alone | {"chunk_rows": 5, "max_quarantine_share": 0.1})
    for index in range(1, 25):
        execute(config, {}, workdir, services, shard=Shard(index, 24))
    shares = [
        sum(part.counts.quarantined.values()) / part.counts.num_in
        for part in map(read_manifest, workdir.root.glob("*.shard-*"))
    ]
    assert max(shares) > 0.1
    execute(config, {}, workdir, services)


class CommandLine:
    """The stage's own command on one work directory."""

    def __init__(self, data: Path, folder: Path, workdir: WorkDir) -> None:
        recipe = folder / "recipe"
        recipe.mkdir()
        (recipe / "recipe.yaml").write_text("title: Tiny\ndescription: One stage.\n")
        (recipe / "public_pairs.yaml").write_text(yaml.safe_dump(values(data) | {"num_workers": 2}))
        self.workdir = workdir
        self._command = [sys.executable, "-m", "components.data_processing.public_pairs", "--no-versioned"]
        self._command += ["--recipe", str(recipe), "--workdir", str(workdir.root)]

    def start(self, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._command, *more], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def run(self, *more: str) -> None:
        process = self.start(*more)
        printed, _ = process.communicate(timeout=300)
        assert process.returncode == 0, printed

    def kill_once(self, seed: int, *more: str) -> None:
        """Kills the stage at a random moment after its work began."""
        moment = random.Random(seed)
        process = self.start(*more)
        at = moment.randrange(0, 20)
        deadline = time.monotonic() + 120
        while process.poll() is None and self.num_finished_chunks() < at and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(moment.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()

    def num_finished_chunks(self) -> int:
        return len(list((self.workdir.state / "scratch").glob("*/*/chunks/0*")))


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 22))])
def test_killed_at_random_moments_the_stage_and_its_shards_seal_the_same(data, tmp_path, whole, workdir, seed):
    command = CommandLine(data, tmp_path, workdir)
    shards = [("--shard", "1/2"), ("--shard", "2/2")] if seed % 2 else []
    for number, arguments in enumerate([*shards, ()]):
        command.kill_once(seed * 10 + number, *arguments)
        command.run(*arguments)
    # Of another number of workers, which its configuration tells, and nothing else.
    manifest = verify(workdir.output("public_pairs"))
    assert (manifest.files, manifest.counts, manifest.metrics) == (whole.files, whole.counts, whole.metrics)
    assert not any((workdir.state / "scratch").iterdir())


def test_a_wrong_shard_is_told_by_the_command_line(data, tmp_path, workdir):
    process = CommandLine(data, tmp_path, workdir).start("--shard", "3/2")
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "--shard 3/2: write it as i/n" in printed
    assert os.listdir(workdir.state / "stages") == []


def test_a_reader_that_is_told_to_stop_leaves_no_half_of_a_chunk(config, tmp_path):
    sources = config.located()
    (tmp_path / "chunks").mkdir()
    chunk, *_ = plan_chunks(sources, 7, tmp_path, None, lambda done: None)
    calls = iter([False, False, True])
    with reading.Reader(sources, config, tmp_path, lambda: next(calls)) as reader, pytest.raises(StageError):
        reader.read(chunk)
    assert reading.find_chunk(chunk, tmp_path, ()) is None
    with reading.Reader(sources, config, tmp_path) as reader:
        reader.read(chunk)
    assert reading.find_chunk(chunk, tmp_path, ()) is not None


@pytest.mark.parametrize("form", ["csv", "json"])
def test_listing_four_times_the_records_takes_no_more_memory(tmp_path, form):
    peaks = []
    for num_rows in (1000, 4000):
        folder = tmp_path / str(num_rows)
        caption = "A caption of some length. " * 10
        if form == "csv":
            table = write_table(folder / "t.csv", [row(f"{at}.jpg", caption) for at in range(num_rows)])
            source: Source = CsvSource(format="csv", table=table)
        else:
            records = [
                {"wsi_id": f"{at % 50}", "position": ["1", f"{at}"], "caption": caption} for at in range(num_rows)
            ]
            path = write_json(folder / "r.json", records)
            source = PathGenSource(format="pathgen", records=path, slides=folder, slide_groups=16)
        # Threads that other tests have left may allocate something at the same time.
        peaks.append(min(_peak_of_listing(source, folder / f"scratch_{number}") for number in range(3)))
    # A list of all rows would hold 1.5 MB more.
    assert peaks[1] < peaks[0] + 300_000, peaks


def _peak_of_listing(source: Source, scratch: Path) -> int:
    tracemalloc.start()
    plan_chunks([source], 100, scratch, None, lambda done: None)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak
