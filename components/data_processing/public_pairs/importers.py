"""Reads the records of each public data set into one form.

A record that is plainly bad is told at once; whether its caption and image can be used is seen when they are read.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from components.data_processing.public_pairs.json_records import read_records
from components.data_processing.public_pairs.rows import BadRow, Row, grouped_source_id, printable
from components.data_processing.public_pairs.sources import (
    ArchSource,
    CsvSource,
    PathCapSource,
    PathGenSource,
    Quilt1MSource,
    Source,
)
from components.data_processing.public_pairs.table import read_table
from pathoflow.errors import InputError

_QUILT_FRAME = re.compile(r"(?P<video>.+?)_image_(?P<frame>.+)", re.DOTALL)
_WSI_KEYS = ("wsi_id", "WSI_id")
_IMAGE_KEYS = ("image", "img", "image_path", "img_path", "image_name", "img_name", "image_id", "file_name", "filename")
_IMAGE_NAME = re.compile(r"\S+\.(jpe?g|png|tiff?|webp|bmp|gif)", re.IGNORECASE)
_ARCH_SETS = ("books_set", "pubmed_set")


def import_rows(source: Source) -> Iterator[Row | BadRow]:
    """Yields every record of a source in the order of its files.

    Raises:
        InputError: The source as a whole is not in its format.
    """
    match source:
        case PathGenSource():
            return _pathgen(source)
        case PathCapSource():
            return _pathcap(source)
        case ArchSource():
            return _arch(source)
        case CsvSource():
            return _csv(source)


def _csv(source: CsvSource) -> Iterator[Row | BadRow]:
    required = tuple(filter(None, (source.caption_column, source.image_column, source.group_column)))
    for record in read_table(source.table, required, source.encoding):
        if isinstance(record, BadRow):
            yield record
            continue
        cells = record.cells
        image, caption = cells[source.image_column].strip(), cells[source.caption_column]
        item = printable(f"{source.table.name}:{record.line} {image}")[:300]
        if _IMAGE_NAME.fullmatch(caption.strip()) and not _IMAGE_NAME.fullmatch(image):
            yield BadRow(item, "swapped_cells", f"the caption is {printable(caption.strip())[:80]!r}, a file's name")
            continue
        split = cells.get(source.split_column, "").strip()
        yield Row(
            item=item,
            source=f"{source.name}/{split}" if split else source.name,
            source_id=_csv_source_id(source, cells, PurePosixPath(image.replace("\\", "/")).stem),
            caption=caption,
            image=image,
        )


def _csv_source_id(source: CsvSource, cells: Mapping[str, str], stem: str) -> str:
    if source.group_column:
        return grouped_source_id(cells[source.group_column].strip(), stem)
    if isinstance(source, Quilt1MSource) and (frame := _QUILT_FRAME.fullmatch(stem)):
        return grouped_source_id(frame["video"], frame["frame"])
    return stem


def _pathgen(source: PathGenSource) -> Iterator[Row | BadRow]:
    for record in read_records(source.records):
        if isinstance(record, BadRow):
            yield record
            continue
        number, cells = record
        item = f"{source.records.name}:{number}"
        if not isinstance(cells, dict):
            yield BadRow(item, "bad_record", f"a {type(cells).__name__} where an object is due")
            continue
        wsi = next((cells[key] for key in _WSI_KEYS if cells.get(key)), None)
        if not isinstance(wsi, str):
            yield BadRow(item, "missing_field", f"no wsi_id; it has {_keys(cells)}")
            continue
        item = f"{item} {printable(wsi)[:200]}"
        position = _position(cells.get("position"))
        if position is None:
            yield BadRow(item, "bad_position", f"{cells.get('position')!r} is no pair of whole numbers"[:200])
            continue
        yield Row(
            item=item,
            source=source.name,
            source_id=grouped_source_id(wsi, f"{position[0]}-{position[1]}"),
            caption=cells.get("caption"),  # type: ignore[arg-type]  # what is no text is told when captions are checked
            image=wsi,
            position=position,
        )


def _position(value: Any) -> tuple[int, int] | None:
    """Parses two integers, which PathGen writes as text.

    >>> _position(["21408", "27328"]), _position([672, 0.0]), _position(["1"]), _position(["x", "1"])
    ((21408, 27328), (672, 0), None, None)
    """
    if not isinstance(value, list) or len(value) != 2:
        return None
    try:
        x, y = (int(float(part)) if isinstance(part, float) else int(part) for part in value)
    except (TypeError, ValueError, OverflowError):
        return None
    return x, y


def _pathcap(source: PathCapSource) -> Iterator[Row | BadRow]:
    image_key = source.image_key
    for record in read_records(source.records):
        if isinstance(record, BadRow):
            yield record
            continue
        key, cells = record
        item = printable(f"{source.records.name}:{key}")[:300]
        if not isinstance(cells, dict):
            yield BadRow(item, "bad_record", f"a {type(cells).__name__} where an object is due")
            continue
        image_key = image_key or _image_key(cells, key, source.records)
        image = key if image_key == _THE_KEY else cells.get(image_key)
        if not isinstance(image, str) or not image.strip():
            yield BadRow(item, "missing_field", f"no image's name under {image_key}; it has {_keys(cells)}")
            continue
        image = image.strip()
        article = cells.get("pmc_id")
        yield Row(
            item=f"{item} {printable(image)}"[:300] if image != key else item,
            source=source.name,
            source_id=grouped_source_id("" if article is None else str(article), PurePosixPath(image).stem),
            caption=cells.get("caption"),  # type: ignore[arg-type]
            image=image,
        )


_THE_KEY = ""
"""Stands for the record's own key where records hang in an object under their images' names."""


def _image_key(cells: Mapping[str, Any], key: str, path: Path) -> str:
    """Returns the key that holds the images' names, by the first record.

    Raises:
        InputError: That cannot be told.
    """
    found = [name for name in _IMAGE_KEYS if isinstance(cells.get(name), str) and cells[name].strip()]
    if len(found) == 1:
        return found[0]
    if not found and _IMAGE_NAME.fullmatch(key):
        return _THE_KEY
    if not found and _IMAGE_NAME.fullmatch(str(cells.get("figure_fn"))):
        return "figure_fn"
    raise InputError(
        f"Which key of {path} names a record's image? The first record has {_keys(cells)}, of which "
        f"{' and '.join(found) or 'none'} could. Set image_key of this source in public_pairs.sources."
    )


def _arch(source: ArchSource) -> Iterator[Row | BadRow]:
    tables = [path for name in _ARCH_SETS if (path := source.folder / name / "captions.json").is_file()]
    if not tables:
        raise InputError(
            f"{source.folder} holds neither {' nor '.join(f'{name}/captions.json' for name in _ARCH_SETS)}."
        )
    for table in tables:
        yield from _arch_set(source, table)


def _arch_set(source: ArchSource, table: Path) -> Iterator[Row | BadRow]:
    """Yields records of ARCH's books or articles; figures (books) and captions (articles) group their images."""
    part = table.parent.name
    files: dict[str, str] = {}
    for path in sorted((table.parent / "images").iterdir()) if (table.parent / "images").is_dir() else ():
        files.setdefault(path.stem, f"{part}/images/{path.name}")
    for record in read_records(table):
        if isinstance(record, BadRow):
            yield BadRow(f"{part}/{record.item}", record.reason, record.detail)
            continue
        key, cells = record
        item = f"{part}/{table.name}:{key}"
        if not isinstance(cells, dict) or not isinstance(cells.get("uuid"), str):
            yield BadRow(item, "missing_field", f"no uuid; it has {_keys(cells)}")
            continue
        uuid, caption = cells["uuid"], cells.get("caption")
        item = f"{item} {printable(uuid)[:200]}"
        if uuid not in files:
            yield BadRow(item, "missing_file", f"{part}/images has no {printable(uuid)[:200]}.*")
            continue
        # An article's figure gives several images, which share its caption and nothing else.
        words = hashlib.sha256(str(caption).encode(errors="backslashreplace")).hexdigest()[:12]
        figure = cells.get("figure_id")
        yield Row(
            item=item,
            source=f"{source.name}/{part}",
            source_id=grouped_source_id(words if figure is None else str(figure), uuid),
            caption=caption,  # type: ignore[arg-type]
            image=files[uuid],
        )


def _keys(cells: Any) -> str:
    return printable(", ".join(cells))[:200] if isinstance(cells, dict) else type(cells).__name__
