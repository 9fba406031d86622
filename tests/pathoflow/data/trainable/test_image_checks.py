"""Which images models can see: the limits are the processors' own, and a header tells what decoding finds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from pathoflow.data.image_io import decode, encode_png, probe
from pathoflow.data.trainable.image_checks import MAX_ASPECT, MAX_PIXELS, aspect_fault, image_fault
from tests.support.odd import BROKEN, SOUND, embedded, encoded
from tests.support.pairs import picture

STOCK = Qwen2VLImageProcessorPil(min_pixels=784, max_pixels=3136)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("name", "data", "reason"), [(name, *odd) for name, odd in BROKEN.items()])
def test_what_is_wrong_with_an_image_is_named(name, data, reason, whole):
    found, detail = image_fault(embedded(data, name), whole=whole)
    assert found == reason
    assert detail.startswith(f"{name}.img: ")


def test_no_image_at_all_is_an_empty_one():
    assert image_fault(None) == ("empty_file", "image: 0 bytes")


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("name", SOUND)
def test_odd_images_that_can_be_seen_are_taken(name, whole):
    assert image_fault(embedded(SOUND[name], name), whole=whole) is None
    STOCK(decode(SOUND[name], max_pixels=MAX_PIXELS))


@given(st.integers(1, 30), st.integers(-2, 2), st.booleans())
def test_the_longest_image_is_the_stock_processors(short, off, upright):
    size = (short, max(1, short * MAX_ASPECT + off))
    width, height = size if upright else size[::-1]
    try:
        STOCK.get_number_of_image_patches(height, width)
    except ValueError:
        assert aspect_fault(width, height)
    else:
        assert aspect_fault(width, height) is None


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (200, 1), (3, 50), (1, 27)])
def test_tiny_images_are_scaled_up_to_a_token_or_more(size):
    grid = STOCK(Image.new("RGB", size), return_tensors="np")["image_grid_thw"][0]
    patches = STOCK.get_number_of_image_patches(size[1], size[0])
    assert grid.prod() == patches >= STOCK.merge_size**2


def test_the_row_must_know_the_size_of_the_upright_image():
    turned = embedded(SOUND["turned"], "turned")
    assert image_fault(turned, (28, 56)) is None
    assert image_fault(turned, (56, 28)) == (
        "wrong_size",
        "turned.img: 28 x 56 px, where the row says 56 x 28",
    )
    assert image_fault(turned, (None, None))[0] == "wrong_size"


@given(
    st.sampled_from(["JPEG", "PNG", "TIFF", "WEBP"]),
    st.integers(1, 8),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_the_header_tells_the_size_that_decoding_finds(kind, orientation, size):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture(1, 40).crop((0, 0, *size)), kind, exif=exif)
    assert probe(data, max_pixels=1600) == decode(data, max_pixels=1600).size


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_image_that_is_cut_short_behind_a_sound_header_is_found(kind):
    data = encoded(Image.effect_noise((80, 60), 90), kind)
    assert image_fault(embedded(data, "a")) is None
    # A few programs append something; a whole image stays one.
    assert image_fault(embedded(data + bytes(50), "a")) is None
    # Of a WebP the whole is read with the header.
    reason = "not_an_image" if kind == "WEBP" else "corrupt_image"
    assert image_fault(embedded(data[:-200], "a"))[0] == reason


def test_a_sound_image_is_not_decoded(monkeypatch):
    files = [encoded(picture(1), kind) for kind in ("JPEG", "PNG")]
    for plugin in (JpegImageFile, PngImageFile):
        monkeypatch.setattr(plugin, "load", None)
    assert [probe(file, max_pixels=10_000) for file in files] == [(64, 64)] * 2


def test_larger_images_than_asked_for_are_refused():
    assert image_fault(embedded(encode_png(picture(1)), "a"), max_pixels=64 * 63)[0] == "image_too_large"
