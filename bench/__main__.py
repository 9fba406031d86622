"""Runs benchmarks, keeps their results in bench/results and writes bench/README.md from them.

`python -m bench` runs all of them, `python -m bench startup dedup` two; the figures of the others stay.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pathoflow.system.files import write_atomically

_FOLDER = Path(__file__).parent
_RESULTS = _FOLDER / "results"
BENCHMARKS = (
    "startup",
    "smoke_run",
    "curation",
    "curation_quality",
    "dedup",
    "loading",
    "packing",
    "train_throughput",
    "rl_vision",
    "inference",
    "estimate",
    "checkpoint",
    "metrics",
    "launcher",
    "audit",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; default: all")
    names = parser.parse_args().names or BENCHMARKS
    if unknown := sorted(set(names) - set(BENCHMARKS)):
        parser.error(f"no such benchmark: {', '.join(unknown)}")
    missed = [name for name in names if not _run(name)]
    write_atomically(_FOLDER / "README.md", readme(_RESULTS))
    sys.exit(f"A goal does not hold: {', '.join(missed)}" if missed else 0)


def readme(results: Path) -> str:
    """Renders the page of every benchmark's last result, in the order of `BENCHMARKS`."""
    found = [(name, results / f"{name}.json") for name in BENCHMARKS]
    measured = [(name, json.loads(path.read_text())) for name, path in found if path.is_file()]
    rows = [_row(name, result["date"], figure) for name, result in measured for figure in result["figures"]]
    text = [
        "# Benchmarks",
        "",
        "Written by `make bench`, or by `python -m bench NAME` for one of them. Each figure comes from the command in",
        "its row, run on the date in its row; what the commands printed stands below.",
        "",
        "| figure | value | goal | against | holds | command | date |",
        "|---|---|---|---|---|---|---|",
        *rows,
    ]
    for name, result in measured:
        text += ["", f"## {name}", "", f"{result['machine']}, {result['date']}.", "", "```", result["printed"], "```"]
    return "\n".join(text) + "\n"


def _run(name: str) -> bool:
    """Runs one benchmark, keeps its result and returns whether its goals hold."""
    command = [sys.executable, "-m", f"bench.{name}"]
    environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=environment)
    *printed, last = done.stdout.splitlines()
    print("\n".join(printed), flush=True)
    result = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{os.cpu_count()} cores of {_processor()}, Python {platform.python_version()}",
        "printed": "\n".join(line.rstrip() for line in printed).strip("\n"),
        "figures": json.loads(last),
    }
    _RESULTS.mkdir(exist_ok=True)
    write_atomically(_RESULTS / f"{name}.json", json.dumps(result, indent=2, ensure_ascii=False) + "\n")
    return done.returncode == 0


def _row(name: str, date: str, figure: dict[str, Any]) -> str:
    sign = "≥" if figure["higher_is_better"] else "≤"
    return (
        f"| {figure['name']} | {figure['value']:.3g} {figure['unit']} | {sign} {figure['goal']:g} "
        f"| {figure['against']} | {'yes' if figure['holds'] else '**no**'} | `python -m bench.{name}` | {date} |"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
