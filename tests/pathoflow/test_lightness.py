"""Listing, compiling and submitting need none of the libraries that stages compute with."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pathoflow.contract.code import REPOSITORY

HEAVY = {"torch", "transformers", "trl", "datasets", "accelerate", "rapidocr", "cv2", "matplotlib", "sklearn"}


def modules_after(*arguments: str) -> set[str]:
    """What is imported once the command line has done a command, and printed its result."""
    code = """
import json, sys
from pathoflow.cli import app
try:
    app(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code, ended.code
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], ["recipes"]], ids=" ".join)
def test_help_and_listing_import_next_to_nothing(arguments):
    loaded = modules_after(*arguments)
    assert "typer" in loaded
    assert not loaded & (HEAVY | {"mlflow", "dvc", "kfp", "pandas", "pyarrow"})


def test_estimating_needs_no_library_that_stages_compute_with():
    loaded = modules_after("estimate", "--recipe", "paper_7b", "--json", "--gpu", "h200")
    assert "pydantic" in loaded
    assert not loaded & (HEAVY | {"mlflow", "dvc", "kfp"})


def test_compiling_imports_no_library_that_stages_compute_with(tmp_path):
    loaded = modules_after("compile", "--recipe", "smoke", "--out", str(tmp_path / "deep" / "pipeline.yaml"))
    assert "kfp" in loaded
    assert not loaded & (HEAVY | {"mlflow", "dvc"})
    assert (tmp_path / "deep" / "pipeline.yaml").stat().st_size > 1000
