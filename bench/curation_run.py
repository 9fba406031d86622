"""Runs `textbook_pairs` once over one book with a clock inside its models; prints its times as JSON.

Started by `bench.curation` as a process of its own.
"""

from __future__ import annotations

import json
import sys
import time
from multiprocessing import util
from pathlib import Path
from typing import Any

import onnxruntime
import psutil

from components.data_processing.textbook_pairs import pool
from components.data_processing.textbook_pairs.config import TextbookPairsConfig
from components.data_processing.textbook_pairs.pool import PageStore
from components.data_processing.textbook_pairs.stage import run
from pathoflow.contract.output import StageOutput

_start_worker = pool._start_worker


def main() -> None:
    book, neighbour_pages, num_workers, folder = (
        Path(sys.argv[1]),
        int(sys.argv[2]),
        int(sys.argv[3]),
        Path(sys.argv[4]),
    )
    pool._start_worker = start_clocked_worker
    config = TextbookPairsConfig(books=(book,), neighbour_pages=neighbour_pages, num_workers=num_workers)
    out = StageOutput(folder / "output", folder / "scratch")
    started = time.perf_counter()
    run(config, out=out)
    wall_s = time.perf_counter() - started
    clocks = [json.loads(path.read_text()) for path in (folder / "scratch" / "pages").glob("clock-*")]
    own = psutil.Process().cpu_times()
    print(
        json.dumps(
            {
                "wall_s": wall_s,
                "inference_s": sum(clock["inference_s"] for clock in clocks),
                "inference_cpu_s": sum(clock["inference_cpu_s"] for clock in clocks),
                "cpu_s": own.user + own.system + own.children_user + own.children_system,
                "metrics": out.metrics,
            }
        )
    )


def start_clocked_worker(config: TextbookPairsConfig, store: PageStore) -> None:
    """Starts a worker that leaves the time spent inside of onnxruntime beside its pages when it ends."""
    clock = {"inference_s": 0.0, "inference_cpu_s": 0.0}
    bare = onnxruntime.InferenceSession.run

    def clocked(*arguments: Any, **options: Any) -> Any:
        started, cpu_started = time.perf_counter(), time.process_time()
        try:
            return bare(*arguments, **options)
        finally:
            clock["inference_s"] += time.perf_counter() - started
            clock["inference_cpu_s"] += time.process_time() - cpu_started

    def leave() -> None:
        (store.directory / f"clock-{psutil.Process().pid}").write_text(json.dumps(clock))

    onnxruntime.InferenceSession.run = clocked
    util.Finalize(None, leave, exitpriority=10)
    _start_worker(config, store)


if __name__ == "__main__":
    # The workers find their start under the module's real name.
    from bench.curation_run import main as named_main

    named_main()
