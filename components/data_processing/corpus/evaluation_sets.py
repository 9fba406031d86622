"""Reads evaluation sets: names and images that no training pair may bear or repeat."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import imagehash
import pyarrow as pa
import pyarrow.parquet as pq

from pathoflow.data.image_io import UnreadableImage, decode
from pathoflow.errors import InputError

_IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp"})
_NAME_COLUMNS = ("pair_id", "mcq_id", "image_id", "image_path", "item_id")
_IMAGE_KEYS = frozenset({"img", "image", "image_path", "img_path", "image_name", "images"})
_WILDCARDS = frozenset("*?[")


@dataclass
class EvaluationSet:
    """The names and images of one evaluation set.

    Attributes:
        name: Its folder's or file's name.
        names: Names of its items and image files, and those without their suffixes.
        patterns: Glob patterns over `<source>/<source_id>`.
        files: For the SHA-256 of each image file, its name.
        phashes: For each perceptual hash, an image that has it.
        unreadable: Images that could not be read, and why.
        num_images: Images read.
    """

    name: str
    names: set[str] = field(default_factory=set)
    patterns: list[str] = field(default_factory=list)
    files: dict[bytes, str] = field(default_factory=dict)
    phashes: dict[int, str] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    num_images: int = 0

    def add_name(self, name: str, min_characters: int) -> None:
        """Adds the name of an item or an image file, unless it is too short to identify anything."""
        last = PurePosixPath(name).name
        stem = last.removesuffix(PurePosixPath(last).suffix) if _is_image(last) else last
        self.names |= {each for each in (name, last, stem) if len(each) >= min_characters}

    def add_image(self, name: str, data: bytes, max_pixels: int) -> None:
        """Adds an image file."""
        try:
            image = decode(data, max_pixels=max_pixels)
        except UnreadableImage as error:
            self.unreadable[name] = str(error)
            return
        self.num_images += 1
        self.files.setdefault(hashlib.sha256(data).digest(), name)
        self.phashes.setdefault(int(str(imagehash.phash(image)), 16), name)


def read_evaluation_set(path: Path, *, min_name_characters: int, max_pixels: int) -> EvaluationSet:
    """Reads an evaluation set of any supported shape.

    Args:
        path: A folder of Parquet files, of JSON files that name images (PathMMU, MedXpertQA), or of images; one
            Parquet, JSON or zip file; or a list of names.
        min_name_characters: Shorter names are left out.
        max_pixels: Largest image that is decoded.

    Raises:
        InputError: Nothing in it can be compared with pairs, or no image of it can be read.
    """
    found = EvaluationSet(path.name)
    if path.suffix == ".txt":
        _read_list(path, found, min_name_characters)
    else:
        for name in _names_in_json(path):
            found.add_name(name, min_name_characters)
        for name, data in _images(path):
            found.add_name(name, min_name_characters)
            if data is not None:
                found.add_image(name, data, max_pixels)
    if found.unreadable and not found.files:
        name, problem = next(iter(found.unreadable.items()))
        raise InputError(f"No image of the evaluation set {path} can be read: {name}: {problem}. Correct the set.")
    if not (found.names or found.patterns or found.files):
        raise InputError(
            f"The evaluation set {path} holds nothing that pairs could be compared with. It must be a folder of "
            "Parquet files, of JSON that names images, or of images, a Parquet, JSON or zip file, or a .txt with names."
        )
    return found


def _read_list(path: Path, found: EvaluationSet, min_name_characters: int) -> None:
    for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        if not (name := line.strip()) or name.startswith("#"):
            continue
        if _WILDCARDS.intersection(name):
            found.patterns.append(name)
        elif len(name) < min_name_characters:
            raise InputError(
                f"{path}: {name!r} is shorter than corpus.min_name_characters = {min_name_characters}, and would "
                "match too much. Give a longer name, or lower the key."
            )
        else:
            found.add_name(name, min_name_characters)


def _names_in_json(path: Path) -> Iterator[str]:
    """Yields the images that PathMMU's `data.json`, MedXpertQA's `*.jsonl` and the like name, there or not."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for listing in files:
        if listing.suffix not in (".json", ".jsonl") or listing.name == "manifest.json":
            continue
        text = listing.read_text(encoding="utf-8-sig", errors="replace")
        try:
            for document in text.splitlines() if listing.suffix == ".jsonl" else [text]:
                if document.strip():
                    yield from _images_named_in(json.loads(document))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{listing} is no JSON: {error}. Restore it, or take it out of the folder.") from error


def _images_named_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, part in value.items():
            if key in _IMAGE_KEYS:
                yield from (name for name in (part if isinstance(part, list) else [part]) if isinstance(name, str))
            if isinstance(part, dict | list):
                yield from _images_named_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from _images_named_in(part)


def _images(path: Path) -> Iterator[tuple[str, bytes | None]]:
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in files:
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        if _is_image(file.name):
            yield name, file.read_bytes()
        elif file.suffix == ".zip":
            yield from _images_in_zip(file)
        elif file.suffix == ".parquet":
            yield from _images_in_parquet(file)


def _images_in_zip(path: Path) -> Iterator[tuple[str, bytes | None]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if _is_image(entry.filename):
                    yield entry.filename, archive.read(entry)
    except (zipfile.BadZipFile, OSError, RuntimeError) as error:
        raise InputError(f"{path} cannot be unpacked: {error}. Restore it.") from error


def _images_in_parquet(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """Yields images and names in a Parquet file: columns `image` or `images`, structs with bytes or bare bytes."""
    try:
        with pq.ParquetFile(path) as file:
            columns = [name for name in ("image", "images", *_NAME_COLUMNS) if name in file.schema_arrow.names]
            for batch in file.iter_batches(batch_size=64, columns=columns):
                for row in batch.to_pylist():
                    names = [row[key] for key in _NAME_COLUMNS if isinstance(row.get(key), str)]
                    # A name without an image still names an item.
                    yield from ((name, None) for name in names)
                    yield from _embedded(row, names[0] if names else path.name)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read: {error}. Restore it.") from error


def _embedded(row: dict[str, Any], fallback: str) -> Iterator[tuple[str, bytes | None]]:
    images = row.get("images") or ([row["image"]] if row.get("image") else [])
    for image in images if isinstance(images, list) else [images]:
        if isinstance(image, bytes):
            yield fallback, image
        elif isinstance(image, dict) and image.get("bytes"):
            yield image.get("path") or fallback, image["bytes"]


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in _IMAGE_SUFFIXES
