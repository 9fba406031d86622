"""Makes a pair of each line."""

from __future__ import annotations

import hashlib

from PIL import Image

from pathoflow.data.image_io import encode_jpeg, image_columns
from pathoflow.data.schemas import PAIRS, ShardWriter


def run(config, *, out) -> None:
    with ShardWriter(out.path / "pairs", PAIRS) as writer:
        for book in config.books:
            for number, line in enumerate(book.read_text().splitlines()):
                name = f"{book.stem}/p{number}/1-1/whole"
                image = Image.new("RGB", (8, 8), (number * 16 % 256, len(line) % 256, len(book.stem)))
                columns = image_columns(encode_jpeg(image, 90), image, f"{number}.jpg")
                pair_id = f"textbook-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
                writer.write({**columns, "pair_id": pair_id, "caption": line, "source": "textbook", "source_id": name})
                out.num_in += 1
                out.num_out += 1
