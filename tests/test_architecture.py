"""docs/architecture.md names the rooms, what each imports, and files that are there."""

from __future__ import annotations

import re
import tomllib

import grimp
import pytest

from pathoflow.contract.code import REPOSITORY

PAGE = (REPOSITORY / "docs" / "architecture.md").read_text()
ROOMS = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", PAGE, re.MULTILINE))


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    graph = grimp.build_graph("pathoflow", cache_dir=None)
    for room in graph.find_children("pathoflow"):
        graph.squash_module(room)
    return graph


def test_each_room_is_there_with_what_it_imports(graph):
    imports = {
        room.removeprefix("pathoflow."): {
            name.removeprefix("pathoflow.") for name in graph.find_modules_directly_imported_by(room)
        }
        - {"errors", "pathoflow", room.removeprefix("pathoflow.")}
        for room in graph.find_children("pathoflow")
    }
    assert {room: set(re.findall(r"`(\w+)`", told)) for room, told in ROOMS.items()} == imports


def test_the_rooms_stand_in_the_order_that_lint_holds():
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract.get("containers") == ["pathoflow"])
    assert list(ROOMS) == [room for layer in layers for room in layer.split(" | ")]


def test_every_file_and_folder_that_the_page_names_is_there():
    folders = ["", "components/data_processing/", "components/data_processing/textbook_pairs/"]
    named = re.findall(r"`(?:…/)?((?:components|pathoflow|pipelines|tools|\w+)/[\w/]*[\w/.]+)`", PAGE)
    assert len(named) > 20
    for path in named:
        assert any((REPOSITORY / folder / path).exists() for folder in folders), path
