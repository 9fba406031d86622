"""Which files of the repository a piece of code imports."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

from components import catalogue
from pathoflow.contract.code import REPOSITORY, stage_package
from pathoflow.contract.imports import imported_files

FILES = {
    "a/__init__.py": "",
    "a/b.py": "",
    "a/c/__init__.py": "",
    "a/c/d.py": "",
}


def imports(source: str, path: str = "a/main.py") -> set[str]:
    files = FILES | {path: source}
    found = imported_files([path], lambda name: files[name].encode() if name in files else None)
    return found - {path}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import a.c.d", {"a/__init__.py", "a/c/__init__.py", "a/c/d.py"}),
        ("import a.b as other", {"a/__init__.py", "a/b.py"}),
        ("from a.c import d", {"a/__init__.py", "a/c/__init__.py", "a/c/d.py"}),
        ("from a import nothing, b", {"a/__init__.py", "a/b.py"}),
        ("from . import b", {"a/__init__.py", "a/b.py"}),
        ("from .c.d import x", {"a/__init__.py", "a/c/__init__.py", "a/c/d.py"}),
        ("def f():\n    from a.b import x", {"a/__init__.py", "a/b.py"}),
        ("run(['python', '-m', 'a.b'])", {"a/__init__.py", "a/b.py"}),
        ("import json, yaml\nfrom numpy import b", set()),
        ("x = 'a.b and more'", set()),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a.b import x", set()),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    pass\nelse:\n    from a.b import x",
         {"a/__init__.py", "a/b.py"}),
    ],
)  # fmt: skip
def test_imports_are_found_where_they_stand(source, found):
    assert imports(source) == found


def test_circles_end():
    assert imports("import a.main") == {"a/__init__.py"}


@pytest.mark.parametrize("stage", catalogue())
def test_every_module_of_the_repository_that_a_stage_names_is_found(stage):
    """Held against Python's own finder, name by name, instead of against the walk's own resolution."""
    folder = REPOSITORY / stage_package(catalogue()[stage]).replace(".", "/")
    own = [path.relative_to(REPOSITORY).as_posix() for path in folder.rglob("*.py")]

    def find(path: str) -> bytes | None:
        return (REPOSITORY / path).read_bytes() if (REPOSITORY / path).is_file() else None

    found = imported_files(own, find)
    for path in found:
        for node in ast.walk(ast.parse(find(path) or b"")):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("pathoflow", "components")):
                origin = importlib.util.find_spec(node.module).origin
                assert Path(origin).relative_to(REPOSITORY).as_posix() in found
