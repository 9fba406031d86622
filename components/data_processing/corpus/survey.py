"""Reads the pairs a first time: checks each, and keeps the facts by which it is judged, without its image.

The images are read here, too, so that a broken one is known before anything is decided: a pair must not give way to
another whose image then turns out to be damaged.
"""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from components.data_processing.corpus.captions import CaptionCleaner, count_letters_by_script
from components.data_processing.corpus.config import CorpusConfig
from components.data_processing.corpus.splits import SPLITS, Splitter
from pathoflow.data.image_io import UnreadableImage, decode, language_of
from pathoflow.data.schemas import PAIRS
from pathoflow.errors import InputError, StageError
from pathoflow.system.files import write_atomically
from pathoflow.system.processes import die_with_parent

SURVEY = pa.schema(
    [
        ("pair_id", pa.string()),
        ("source", pa.string()),
        ("source_id", pa.string()),
        ("caption", pa.string()),
        ("quality", pa.string()),
        ("language", pa.string()),
        ("split", pa.int8()),
        ("group", pa.uint64()),
        ("order", pa.uint64()),
        ("num_refs", pa.int32()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("image_sha256", pa.binary(32)),
        ("phash", pa.uint64()),
        ("image_bytes", pa.int64()),
        ("flaw", pa.string()),
        ("detail", pa.string()),
    ]
)
"""A row for each pair read, in the order of the shard. `flaw` is null if the pair is sound."""

BLANK_HASHES = frozenset({"0" * 16, "8" + "0" * 15})
"""Perceptual hashes of images of one colour: black, and any other."""

BATCH_ROWS = 128
_HEADS = {b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png", b"GIF8": "gif", b"BM": "bmp"}
_TIFF_HEADS = (b"II*\0", b"MM\0*")


def take_survey(
    config: CorpusConfig, shards: Sequence[Path], directory: Path, on_done: Callable[[int], None]
) -> pa.Table:
    """Checks all pairs, and returns the facts by which they are judged, in the order of the shards.

    A shard that was surveyed before a kill is not read again.

    Args:
        config: The stage's configuration.
        shards: Parquet files of pairs.
        directory: Keeps the survey of each shard.
        on_done: Hears how many shards are done.

    Raises:
        InputError: A shard cannot be read, or lacks columns.
        StageError: A worker died.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{number:05d}.arrow" for number in range(len(shards))]
    waiting = [(shard, path) for shard, path in zip(shards, paths, strict=True) if not path.exists()]
    on_done(len(shards) - len(waiting))
    for number, _ in enumerate(_surveys(config, waiting), len(shards) - len(waiting) + 1):
        on_done(number)
    tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in paths]
    return pa.concat_tables([SURVEY.empty_table(), *tables])


def open_shard(shard: Path) -> pq.ParquetFile:
    """Opens one shard of pairs.

    Raises:
        InputError: It is cut short, no Parquet, or lacks columns.
    """
    try:
        file = pq.ParquetFile(shard, memory_map=False)
    except (pa.ArrowException, OSError) as error:
        raise InputError(_damage_message(shard, error)) from error
    for field in PAIRS:
        place = file.schema_arrow.get_field_index(field.name)
        if place < 0:
            raise InputError(f"{shard} lacks the column {field.name}. Run the stage that made it again.")
        if file.schema_arrow.field(place).type != field.type:
            found = file.schema_arrow.field(place).type
            raise InputError(f"{shard}: the column {field.name} holds {found}, not {field.type}.")
    return file


def read_batches(shard: Path) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a shard in order, some at a time.

    Raises:
        InputError: The shard is damaged.
    """
    with open_shard(shard) as file:
        try:
            yield from file.iter_batches(batch_size=BATCH_ROWS, columns=PAIRS.names)
        except (pa.ArrowException, OSError) as error:
            raise InputError(_damage_message(shard, error)) from error


def image_extension(data: bytes | memoryview) -> str | None:
    """Returns the usual file extension for an image of these bytes; None if they are no image.

    >>> image_extension(bytes.fromhex("ffd8ffe0")), image_extension(b"%PDF-1.7")
    ('jpg', None)
    """
    head = bytes(data[:12])
    if head.startswith(_TIFF_HEADS):
        return "tif"
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return "webp"
    return next((extension for start, extension in _HEADS.items() if head.startswith(start)), None)


def _surveys(config: CorpusConfig, waiting: Sequence[tuple[Path, Path]]) -> Iterator[None]:
    if min(config.num_workers, len(waiting)) <= 1:
        for shard, path in waiting:
            _survey(config, shard, path)
            yield
        return
    pool = ProcessPoolExecutor(
        max_workers=min(config.num_workers, len(waiting)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=die_with_parent,
    )
    try:
        for future in as_completed([pool.submit(_survey, config, shard, path) for shard, path in waiting]):
            yield future.result()
    except BrokenProcessPool as error:
        raise StageError(
            "A process that read pairs died, most likely for want of memory. Lower corpus.num_workers and run the "
            "same command again: surveyed shards are kept."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _survey(config: CorpusConfig, shard: Path, path: Path) -> None:
    inspector = _Inspector(config)
    number = 0
    tables = []
    for batch in read_batches(shard):
        rows = []
        for row, image in _rows_with_images(batch):
            rows.append(inspector.inspect(row, image, f"{shard.name}:{number}"))
            number += 1
        tables.append(pa.Table.from_pylist(rows, schema=SURVEY))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SURVEY) as writer:
        writer.write_table(pa.concat_tables([SURVEY.empty_table(), *tables]).combine_chunks())
    write_atomically(path, sink.getvalue().to_pybytes())


def _rows_with_images(batch: pa.RecordBatch) -> Iterator[tuple[dict[str, Any], memoryview | None]]:
    """Yields the rows without their images, and views of the images' bytes."""
    images = batch.column("image").field("bytes")
    num_refs = pc.fill_null(pc.list_value_length(batch.column("inline_refs")), 0).to_pylist()
    plain = batch.drop_columns(["image", "inline_refs", "region"]).to_pylist()
    for row, image, num in zip(plain, images, num_refs, strict=True):
        yield row | {"num_refs": num}, memoryview(image.as_buffer()) if image.is_valid else None


class _Inspector:
    """Checks one pair after the other."""

    def __init__(self, config: CorpusConfig) -> None:
        self.config = config
        self._splitter = Splitter(config.heldout, config.dev_share, config.groups)
        self._cleaner = CaptionCleaner(
            boilerplate=config.boilerplate,
            saying_nothing=config.saying_nothing,
            min_letters=config.min_caption_letters,
            max_characters=config.max_caption_characters,
            languages=config.languages,
        )
        self._group = cache(_hash_to_int)

    def inspect(self, row: dict[str, Any], image: memoryview | None, place: str) -> dict[str, Any]:
        """Returns the survey of one pair, with its first flaw; `place` names a pair without a name."""
        name = row["pair_id"] or place
        found: dict[str, Any] = {"pair_id": name, "image_bytes": len(image) if image else 0}
        missing = [key for key in ("pair_id", "source", "source_id", "image_sha256", "phash") if not row[key]]
        if missing:
            return found | {"flaw": "missing_value", "detail": f"{place}: {', '.join(missing)} has no value."}
        found |= {key: row[key] for key in ("source", "source_id", "num_refs")}
        split = self._splitter.split_of(row["source"], row["source_id"])
        found |= {"split": SPLITS.index(split)}
        if flaw := self._image_flaw(row, image):
            return found | dict(zip(("flaw", "detail"), flaw, strict=True))
        caption = self._cleaner.clean(row["caption"])
        if caption.flaw:
            return found | {"flaw": caption.flaw, "detail": _shorten(row["caption"] or "")}
        found |= {"caption": caption.text, "quality": caption.quality, "language": _language(caption.text)}
        found |= {"width": row["width"], "height": row["height"]}
        found |= {"image_sha256": bytes.fromhex(row["image_sha256"]), "phash": int(row["phash"], 16)}
        found |= {"group": self._group(self._splitter.group_of(row["source"], row["source_id"]))}
        found |= {"order": _hash_to_int(f"{self.config.shuffle_seed}/{name}")}
        if self.config.drop_blank_images and row["phash"] in BLANK_HASHES:
            return found | {"flaw": "blank_image", "detail": "The image has one colour."}
        return found

    def _image_flaw(self, row: dict[str, Any], image: memoryview | None) -> tuple[str, str] | None:
        if not image:
            return "missing_image", "The pair has no image."
        digest = hashlib.sha256(image).hexdigest()
        checks = (
            (not ((row["width"] or 0) > 0 and (row["height"] or 0) > 0), "bad_size", _size),
            (not (_is_hex(row["phash"], 16) and _is_hex(row["image_sha256"], 64)), "bad_hash", _hashes),
            (digest != row["image_sha256"], "image_changed", lambda row: f"The bytes have the SHA-256 {digest}."),
            (image_extension(image) is None, "not_an_image", lambda _: f"It begins with {bytes(image[:8]).hex()}."),
        )
        for is_wrong, reason, detail in checks:
            if is_wrong:
                return reason, detail(row)
        return self._decoding_flaw(bytes(image)) if self.config.check_images == "decode" else None

    def _decoding_flaw(self, image: bytes) -> tuple[str, str] | None:
        try:
            decode(image, max_pixels=self.config.max_image_pixels)
        except UnreadableImage as error:
            return error.reason, error.detail
        return None


def _size(row: dict[str, Any]) -> str:
    return f"The image has {row['width']} x {row['height']} px."


def _hashes(row: dict[str, Any]) -> str:
    return f"{row['phash']!r} or {row['image_sha256']!r} is no hash in hexadecimal digits."


def _is_hex(text: str, length: int) -> bool:
    return len(text) == length and not text.strip("0123456789abcdef")


def _hash_to_int(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogatepass")).digest()[:8], "big")


def _language(caption: str) -> str:
    scripts = count_letters_by_script(caption)
    return "other" if scripts["other"] > max(scripts["en"], scripts["zh"]) else language_of(caption)


def _shorten(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[:most]}… ({len(text)} characters)"


def _damage_message(shard: Path, error: Exception) -> str:
    return f"{shard} is cut short or damaged ({' '.join(str(error).split())[:200]}). Run the stage that made it again."
