"""The rows of a CSV in Quilt-1M's shape."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pathoflow.errors import InputError

REQUIRED_COLUMNS = ("caption", "image_path")
SPLIT_COLUMN = "split"


@dataclass(frozen=True)
class Row:
    """One line of the table: its number in the file, from 1, and the cells that the stage reads."""

    line: int
    caption: str
    image_path: str
    split: str


def read_table(path: Path) -> Iterator[Row]:
    """Yields the rows of a CSV; further columns are not read, and missing cells are empty.

    Raises:
        InputError: The file is missing or no UTF-8 CSV, or lacks a required column.
    """
    # Captions of whole figures exceed the module's limit of 128 KiB a cell.
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    line = 0
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            missing = [name for name in REQUIRED_COLUMNS if name not in (reader.fieldnames or [])]
            if missing:
                raise InputError(
                    f"{path} has no column {' and no column '.join(missing)}; it has "
                    f"{', '.join(reader.fieldnames or []) or 'no columns'}. Rename or add the column."
                )
            for cells in reader:
                line = reader.line_num
                yield Row(line, cells["caption"], cells["image_path"], cells.get(SPLIT_COLUMN, ""))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Correct public_pairs.csv.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV in UTF-8, after line {line}: {error}") from error
