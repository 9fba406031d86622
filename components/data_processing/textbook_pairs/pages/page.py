"""Pages of books: where each is found, and which files hold any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from components.data_processing.textbook_pairs.pages.listing import (
    PAGE_SUFFIXES,
    PDF_SUFFIX,
    find_copies,
    unique_names,
)
from components.data_processing.textbook_pairs.pages.pdfs import count_pdf_pages
from pathoflow.data.image_io import UnreadableImage


@dataclass(frozen=True)
class Page:
    """The place of a page: its file, and its number there.

    Attributes:
        path: The file.
        index: The page in the file, from 0.
        name: The file's stem, made unique among the files read.
        book: Pages of one book are neighbours: the pages of a PDF, or the images of one folder.
        label: The file as its user knows it.
    """

    path: Path
    index: int
    name: str
    book: str
    label: str

    @property
    def number(self) -> int:
        """The page in its file, from 1."""
        return self.index + 1

    @property
    def item(self) -> str:
        """The page as its user would name it."""
        paged = self.path.suffix.lower() == PDF_SUFFIX or self.index > 0
        return f"{self.label} page {self.number}" if paged else self.label


class BadFile(NamedTuple):
    """A file without pages that can be read, and why."""

    label: str
    error: UnreadableImage


def list_pages(files: Mapping[Path, str]) -> tuple[list[Page], list[BadFile]]:
    """Returns the pages of all files, and the files that have none.

    Args:
        files: The files to read, each with the name by which its user knows it.
    """
    pages: list[Page] = []
    bad_files: list[BadFile] = []
    copies = find_copies(list(files))
    for (path, label), name in zip(files.items(), unique_names(list(files)), strict=True):
        try:
            if path in copies:
                raise UnreadableImage("duplicate_file", f"the same bytes as {files[copies[path]]}, which is read")
            if path.suffix.lower() not in PAGE_SUFFIXES:
                raise UnreadableImage("unsupported_file", f"only {' '.join(sorted(PAGE_SUFFIXES))} are read")
            num_pages = count_pages(path)
        except UnreadableImage as error:
            bad_files.append(BadFile(label, error))
            continue
        book = str(path if path.suffix.lower() == PDF_SUFFIX else path.parent)
        pages += [Page(path, index, name, book, label) for index in range(num_pages)]
    return pages, bad_files


def count_pages(path: Path) -> int:
    """Counts the pages that a file holds.

    Raises:
        UnreadableImage: The file is no PDF, is encrypted, truncated or without pages.
    """
    suffix = path.suffix.lower()
    if suffix in (".tif", ".tiff"):
        return _count_frames(path)
    if suffix != PDF_SUFFIX:
        return 1
    return count_pdf_pages(path)


def _count_frames(path: Path) -> int:
    """Counts the pages of a scanned TIFF; 1 for a damaged one, whose reading will give the reason."""
    try:
        with Image.open(path, formats=["TIFF"]) as image:
            num_frames: int = getattr(image, "n_frames", 1)
            return num_frames
    except Exception:
        return 1
