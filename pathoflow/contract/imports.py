"""Finds the files of the repository that a piece of code imports, from the source and never by running it.

So it holds for a commit of years ago, whose files an audit reads from git, as it does for the files that run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

_MODULE = re.compile(r"[a-z_]\w*(\.[a-z_]\w*)+")


def imported_files(start: Iterable[str], find: Callable[[str], bytes | None]) -> set[str]:
    """Returns `start` and every file of the repository that these import, directly or through others.

    Imports within functions count; those for type checkers alone do not. A string that is a module's whole name counts
    as an import: so are modules named that another process runs.

    Args:
        start: Paths of Python files, relative to the repository.
        find: The content of a file of the repository; None if it is not there.

    >>> files = {"a.py": b"import b.c", "b/__init__.py": b"", "b/c.py": b"import json", "d.py": b""}
    >>> sorted(imported_files(["a.py"], files.get))
    ['a.py', 'b/__init__.py', 'b/c.py']
    """
    found: dict[str, bytes | None] = {}

    def look(path: str) -> bool:
        if path not in found:
            found[path] = find(path)
        return found[path] is not None

    seen: set[str] = set()
    waiting = list(start)
    while waiting:
        path = waiting.pop()
        if path in seen or not look(path):
            continue
        seen.add(path)
        for name in _imported_names(path, found[path] or b""):
            parts = name.split(".")
            # Importing a module runs the packages that it lies in, too.
            for depth in range(1, len(parts) + 1):
                package = "/".join(parts[:depth])
                waiting += [file for file in (f"{package}/__init__.py", f"{package}.py") if look(file)]
    return seen


@lru_cache(maxsize=4096)
def _imported_names(path: str, source: bytes) -> frozenset[str]:
    """Returns the dotted names in a file's imports; of `from a import b` both `a` and `a.b`, as `b` may be a module."""
    package = path.split("/")[:-1]
    names: set[str] = set()
    for node in _executed(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names.update((base, *(f"{base}.{alias.name}" for alias in node.names)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _MODULE.fullmatch(node.value):
            names.add(node.value)
    return frozenset(names)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yields all nodes of a tree but those below `if TYPE_CHECKING`."""
    yield node
    skipped = node.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) else []
    for child in ast.iter_child_nodes(node):
        if child not in skipped:
            yield from _executed(child)
