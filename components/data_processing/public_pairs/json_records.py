"""Reads the records of a JSON file that need not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import ijson

from components.data_processing.public_pairs.rows import BadRow
from pathoflow.errors import InputError

_BOM = b"\xef\xbb\xbf"


def read_records(path: Path) -> Iterator[tuple[str, Any] | BadRow]:
    """Yields each record of a JSON list with its number from 0, or each value of a JSON object with its key.

    Where the JSON is cut or damaged, one bad row says so after the records before it: what follows cannot be told.

    Raises:
        InputError: The file cannot be read, or begins with neither a list nor an object.
    """
    num_records = 0
    try:
        with path.open("rb") as file:
            for record in _items(file, path):
                yield record
                num_records += 1
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}. Correct public_pairs.sources.") from error
    except (ijson.JSONError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        yield BadRow(
            f"{path.name}: after record {num_records}",
            "broken_json",
            f"{reason}: what follows in the file is lost. Fetch it again.",
        )


def _items(file: IO[bytes], path: Path) -> Iterator[tuple[str, Any]]:
    head = file.read(4096)
    begin = head.removeprefix(_BOM).lstrip()[:1]
    file.seek(len(_BOM) if head.startswith(_BOM) else 0)
    if begin == b"[":
        for number, record in enumerate(ijson.items(file, "item", use_float=True)):
            yield str(number), record
    elif begin == b"{":
        yield from ijson.kvitems(file, "", use_float=True)
    else:
        raise InputError(f"{path} holds neither a JSON list nor a JSON object. Correct public_pairs.sources.")
