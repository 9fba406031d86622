"""Who gets another try, and in which order files come."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

from pathoflow.contract.code import REPOSITORY
from tests.conftest import pytest_collection_modifyitems

CASES = """
import pytest

tries = []

@pytest.mark.races
def test_that_races(): tries.append("races"); assert tries.count("races") == 2

@pytest.mark.races
def test_that_never_passes(): tries.append("never"); assert tries.count("never") == 3

def test_that_does_not_race(): tries.append("other"); assert tries.count("other") == 2
"""


def test_only_what_races_is_tried_once_more_and_that_is_counted(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = races\n")
    (tmp_path / "test_cases.py").write_text(CASES)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-c"]
    done = subprocess.run(
        [*command, tmp_path / "pytest.ini", tmp_path], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert "2 failed, 1 passed, 2 rerun" in done.stdout, done.stdout + done.stderr


def test_the_longest_files_come_first_and_keep_the_order_of_their_tests():
    names = ["pathoflow/a.py::b", "tests/test_run.py::z", "tests/pipelines/test_a.py::a", "tests/test_run.py::a"]
    items = [SimpleNamespace(nodeid=name, get_closest_marker=lambda _: None) for name in names]
    pytest_collection_modifyitems(items)
    assert [item.nodeid for item in items] == [names[1], names[3], names[2], names[0]]
