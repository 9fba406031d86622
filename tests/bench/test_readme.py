"""bench/README.md says what the kept results say."""

from __future__ import annotations

from pathlib import Path

import bench.__main__ as benchmarks

_FOLDER = Path(benchmarks.__file__).parent


def test_readme_shows_the_kept_results() -> None:
    assert (_FOLDER / "README.md").read_text() == benchmarks.readme(_FOLDER / "results")


def test_every_benchmark_has_a_module() -> None:
    for name in benchmarks.BENCHMARKS:
        assert (_FOLDER / f"{name}.py").is_file()
