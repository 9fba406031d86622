"""Runs every benchmark and writes bench/README.md from what they measured."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent
_BENCHMARKS = ("startup", "smoke_run", "dedup")


def main() -> None:
    rows: list[str] = []
    failed = False
    for name in _BENCHMARKS:
        command = [sys.executable, "-m", f"bench.{name}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        print(done.stdout)
        failed |= done.returncode != 0
        rows += [_row(name, figure) for figure in json.loads(done.stdout.splitlines()[-1])]
    text = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Each figure comes from the command in its row.",
        "",
        f"Machine: {os.cpu_count()} cores of {_processor()}, Python {platform.python_version()}. "
        f"Date: {datetime.now(UTC):%Y-%m-%d}.",
        "",
        "| figure | value | goal | against | holds | command |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
    ]
    (_FOLDER / "README.md").write_text("\n".join(text))
    sys.exit(failed)


def _row(name: str, figure: dict[str, Any]) -> str:
    sign = "≥" if figure["higher_is_better"] else "≤"
    return (
        f"| {figure['name']} | {figure['value']:.3g} {figure['unit']} | {sign} {figure['goal']:g} "
        f"| {figure['against']} | {'yes' if figure['holds'] else '**no**'} | `python -m bench.{name}` |"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    main()
