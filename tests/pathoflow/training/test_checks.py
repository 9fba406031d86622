from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pathoflow.training.checks import image_fault

PIXELS = np.random.default_rng(0).integers(0, 256, (80, 60, 3), dtype=np.uint8)


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_image_that_is_cut_short_behind_a_sound_header_is_found(kind):
    data = encoded(kind)
    assert image_fault({"bytes": data, "path": "a"}) is None
    # A few programs append something; a whole image stays one.
    assert image_fault({"bytes": data + bytes(50), "path": "a"}) is None
    reason, detail = image_fault({"bytes": data[:-200], "path": "a"})
    assert reason == "unreadable_image"
    # Of a WebP the whole is read with the header.
    assert detail == f"a: {len(data) - 200} bytes that are {'no image' if kind == 'WEBP' else f'a broken {kind}'}"
