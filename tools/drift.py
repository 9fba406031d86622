"""Writing generated files, and finding those that no longer are what would be written."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from pathoflow.contract.code import REPOSITORY


def drifted(files: Mapping[Path, str]) -> list[Path]:
    """The files whose content on disk is not the one given, missing ones included."""
    return [
        path for path, content in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != content
    ]


def main(files: Mapping[Path, str], remedy: str) -> NoReturn:
    """The command line of a generator: writes what drifted, or with `--check` names it and exits 1.

    Args:
        files: What each generated file must hold.
        remedy: The command that regenerates them.
    """
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(f"usage: {remedy} [--check]")
    changed = drifted(files)
    for path in changed:
        print(f"{path.relative_to(REPOSITORY)}: {'out of date' if sys.argv[1:] else 'written'}")
    if sys.argv[1:]:
        sys.exit(f"{len(changed)} generated files are out of date. Run: {remedy}" if changed else 0)
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path], encoding="utf-8")
    sys.exit(0)
