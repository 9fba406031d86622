"""Turns the records of chunks into pairs in worker processes, and leaves them on disk."""

from __future__ import annotations

import io
import multiprocessing
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from multiprocessing.synchronize import Event
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
from PIL import ExifTags, Image

from components.data_processing.public_pairs.chunks import Chunk, read_chunk_rows
from components.data_processing.public_pairs.config import PublicPairsConfig
from components.data_processing.public_pairs.image_store import ImageStore, open_store
from components.data_processing.public_pairs.rows import BadRow, Row, check_caption, check_text, printable
from components.data_processing.public_pairs.slides import SlideStore
from components.data_processing.public_pairs.sources import (
    ArchSource,
    CsvSource,
    PathCapSource,
    PathGenSource,
    Source,
    images_beside,
)
from pathoflow.data.image_io import UnreadableImage, decode, encode_jpeg, encode_png, image_columns, language_of
from pathoflow.data.schemas import PAIRS, ShardWriter
from pathoflow.errors import PathoflowError, StageError
from pathoflow.system.files import sync_directory, sync_tree
from pathoflow.system.processes import die_with_parent

RECORDS = pa.schema([*PAIRS, *(pa.field(name, pa.string()) for name in ("group", "item", "reason", "detail"))])
"""Every record of a chunk in its order: a pair without its pair_id, or the item, reason and detail of a bad one."""

_PORTABLE = {("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGB"), ("PNG", "L")}


def read_chunks(
    chunks: Sequence[Chunk],
    sources: Sequence[Source],
    config: PublicPairsConfig,
    scratch: Path,
    parts: Sequence[Path],
    on_done: Callable[[int], None],
) -> None:
    """Reads the chunks that are neither in `scratch` nor in `parts`; `on_done` hears how many records are finished.

    Raises:
        StageError: A worker process died; the same command continues with what it left.
    """
    waiting = [chunk for chunk in chunks if find_chunk(chunk, scratch, parts) is None]
    num_done = sum(chunk.num_rows for chunk in chunks) - sum(chunk.num_rows for chunk in waiting)
    on_done(num_done)
    if config.num_workers == 1 or len(waiting) <= 1:
        with Reader(sources, config, scratch) as reader:
            for chunk in waiting:
                reader.read(chunk)
                num_done += chunk.num_rows
                on_done(num_done)
        return
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(
        max_workers=min(config.num_workers, len(waiting)),
        mp_context=context,
        initializer=_start_worker,
        initargs=(sources, config, scratch, stop),
    )
    try:
        futures = {pool.submit(_read, chunk): chunk for chunk in waiting}
        for future in as_completed(futures):
            future.result()
            num_done += futures[future].num_rows
            on_done(num_done)
    except BrokenProcessPool as error:
        raise StageError(
            "A process that read images died, most likely for want of memory. Lower public_pairs.num_workers or "
            "public_pairs.max_image_pixels and run the same command again: finished chunks are kept."
        ) from error
    finally:
        # A chunk takes longer than a pod that is told to stop has time.
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def find_chunk(chunk: Chunk, scratch: Path, parts: Sequence[Path]) -> Path | None:
    """Returns the folder with a finished chunk's records."""
    places = (place / "chunks" / chunk.name for place in (scratch, *parts))
    return next((folder for folder in places if folder.is_dir()), None)


class Reader:
    """Reads chunks, with the stores of images open."""

    def __init__(
        self,
        sources: Sequence[Source],
        config: PublicPairsConfig,
        scratch: Path,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self._sources, self._config, self._scratch, self._is_stopped = sources, config, scratch, is_stopped
        self._stores: dict[int, ImageStore | SlideStore] = {}
        self._stack = ExitStack()

    def read(self, chunk: Chunk) -> None:
        """Writes the pairs of a chunk, and the records that make none, where `find_chunk` finds them.

        Raises:
            StageError: The stage was told to stop; the chunk is read again by the next attempt.
        """
        folder = self._scratch / "chunks" / chunk.name
        partial = folder.with_name(f".{chunk.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        rows: Iterator[Row | BadRow] = read_chunk_rows(self._scratch, chunk)
        if isinstance(self._sources[chunk.source], PathGenSource):
            # A slide is opened once. Its patches stay in the order of the file.
            rows = iter(sorted(rows, key=lambda row: row.group if isinstance(row, Row) else ""))
        with ShardWriter(partial, RECORDS, prefix="records") as writer:
            for row in rows:
                if self._is_stopped():
                    raise StageError(f"Stopped in chunk {chunk.name}. Run the same command again to continue.")
                writer.write(self._record(row, chunk.source))
        sync_tree(partial)
        partial.rename(folder)
        sync_directory(folder.parent)

    def _record(self, row: Row | BadRow, source: int) -> dict[str, Any]:
        if isinstance(row, BadRow):
            return {"group": "", "item": printable(row.item), "reason": row.reason, "detail": printable(row.detail)}
        try:
            return self._pair(row, source) | {"group": row.group}
        except UnreadableImage as error:
            reason, detail = error.reason, error.detail
        except PathoflowError:
            raise
        except Exception as error:
            # One record that the libraries stumble over must not end a run over millions.
            reason, detail = "unexpected_error", f"{type(error).__name__}: {error}"
        told = {"group": row.group, "item": row.item, "reason": reason, "detail": detail}
        return {key: printable(value) for key, value in told.items()}

    def _pair(self, row: Row, source: int) -> dict[str, Any]:
        """Returns the pair of a record, without its pair_id.

        Raises:
            UnreadableImage: The record cannot make a pair.
        """
        if not row.image:
            raise UnreadableImage("missing_file", "the record names no image")
        if problem := check_caption(row.caption, self._config.max_caption_chars):
            raise UnreadableImage(*problem)
        if problem := check_text(row.image + row.source_id + row.source):
            raise UnreadableImage(*problem)
        data, image = self._image(row, source)
        name = PurePosixPath(row.image.replace("\\", "/")).name
        if row.position is not None:
            name = f"{name}-{row.position[0]}-{row.position[1]}.jpg"
        return image_columns(data, image, name) | {
            "caption": row.caption.strip(),
            "inline_refs": [],
            "region": None,
            "language": language_of(row.caption),
            "source": row.source,
            "source_id": row.source_id,
        }

    def _image(self, row: Row, number: int) -> tuple[bytes, Image.Image]:
        source, store = self._sources[number], self._store(number)
        if isinstance(store, SlideStore):
            assert isinstance(source, PathGenSource)
            assert row.position is not None
            data = encode_jpeg(store.read_patch(row.image, row.position, source.patch_px), source.jpeg_quality)
            # Described as its readers will see it.
            return data, decode(data, max_pixels=self._config.max_image_pixels)
        data = store.read(row.image, max_bytes=self._config.max_image_bytes)
        image = decode(data, max_pixels=self._config.max_image_pixels)
        return (data if _is_portable(data) else encode_png(image)), image

    def _store(self, number: int) -> ImageStore | SlideStore:
        if number not in self._stores:
            source = self._sources[number]
            store: ImageStore | SlideStore
            match source:
                case PathGenSource():
                    store = SlideStore(source.slides)
                case ArchSource():
                    store = open_store(source.folder)
                case PathCapSource():
                    store = open_store(source.images or images_beside(source.records))
                case CsvSource():
                    store = open_store(source.images or images_beside(source.table))
            self._stack.enter_context(store)
            self._stores[number] = store
        return self._stores[number]

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def _is_portable(data: bytes) -> bool:
    """Checks whether every reader shows these bytes as `decode` did: a plain JPEG or PNG, not rotated."""
    with Image.open(io.BytesIO(data)) as image:
        upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        return (image.format, image.mode) in _PORTABLE and upright and not image.has_transparency_data


_reader: Reader | None = None


def _start_worker(sources: Sequence[Source], config: PublicPairsConfig, scratch: Path, stop: Event) -> None:
    global _reader  # noqa: PLW0603  # the pool offers no other place for what its initializer makes
    die_with_parent()
    _reader = Reader(sources, config, scratch, stop.is_set)


def _read(chunk: Chunk) -> None:
    assert _reader is not None
    _reader.read(chunk)
