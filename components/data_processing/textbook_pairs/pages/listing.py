"""Lists the files that a user means by a path: a PDF, a page image, or a folder of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from pathoflow.errors import InputError
from pathoflow.system.files import sha256_of_file

PDF_SUFFIX = ".pdf"
PAGE_SUFFIXES = frozenset({PDF_SUFFIX, ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".gif"})
"""Endings, in lower case, of files that can hold pages."""


def book_files(paths: Iterable[Path]) -> list[Path]:
    """Lists every file at or below the paths, folder by folder, pages in the order of their numbers.

    Files of other types are listed too, so that they are set aside with a reason; hidden files are not.

    Raises:
        InputError: A path does not exist, or is a folder that holds no PDF and no image.
    """
    files: dict[Path, None] = {}
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist. Name a PDF, a page image or a folder of them.")
        files.update(dict.fromkeys([path] if path.is_file() else _files_below(path)))
    return list(files)


def unique_names(files: Sequence[Path]) -> list[str]:
    """Returns the stem of each file; where several share one, with their folder's name, and a number if need be.

    >>> unique_names([Path(path) for path in ("a/page_1.png", "b/page_1.png", "b/page_1.jpg", "page_2.png")])
    ['page_1@a', 'page_1@b', 'page_1@b~2', 'page_2']
    """
    stems = Counter(path.stem for path in files)
    seen: Counter[str] = Counter()
    names = []
    for path in files:
        name = path.stem if stems[path.stem] == 1 else f"{path.stem}@{path.parent.name}"
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}~{seen[name]}")
    return names


def find_copies(files: Sequence[Path]) -> dict[Path, Path]:
    """Finds files with pages that hold the same bytes as one before them, each with that one.

    Only files of one size can be copies, so that few are read for it.
    """
    sizes: dict[int, list[Path]] = {}
    for path in files:
        if path.suffix.lower() in PAGE_SUFFIXES and (size := path.stat().st_size):
            sizes.setdefault(size, []).append(path)
    copies: dict[Path, Path] = {}
    for group in sizes.values():
        firsts: dict[str, Path] = {}
        for path in group if len(group) > 1 else []:
            first = firsts.setdefault(sha256_of_file(path), path)
            if first != path:
                copies[path] = first
    return copies


def natural_key(text: str) -> list[tuple[int, str]]:
    """Returns a sort key that orders names by the numbers in them.

    >>> sorted(["page_10", "page_9"], key=natural_key)
    ['page_9', 'page_10']
    """
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in re.split(r"(\d+)", text) if part]


def _files_below(folder: Path) -> list[Path]:
    files = [
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if not any(path.suffix.lower() in PAGE_SUFFIXES for path in files):
        endings = " ".join(sorted(PAGE_SUFFIXES))
        raise InputError(f"{folder} holds no pages. Name a folder with PDFs or page images ({endings}).")
    return sorted(files, key=lambda path: (natural_key(str(path.parent)), natural_key(path.name)))
