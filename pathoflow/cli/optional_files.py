"""Lets options that name a file stand without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand

FILES = {"--json": "-", "--html": "dossier.html", "--bom": "bom.json", "--attest": "statement.json"}
"""Default file of each option that no file follows."""


class OptionalFiles(TyperCommand):
    """Command whose options of `FILES` need no value, which typer itself has no way to say."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Inserts the file's name where it was left out."""
        return super().parse_args(ctx, with_files(args))


def with_files(words: Sequence[str]) -> list[str]:
    """Returns the words of a command line with the names that were left out.

    >>> with_files(["m@champion", "--html", "--bom", "b.json", "--json"])
    ['m@champion', '--html', 'dossier.html', '--bom', 'b.json', '--json', '-']
    """
    full: list[str] = []
    for word, after in zip(words, [*words[1:], "--"], strict=True):
        full.append(word)
        if word in FILES and after.startswith("--"):
            full.append(FILES[word])
    return full
