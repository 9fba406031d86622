from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from components.data_processing.textbook_pairs.boxes import Box
from components.data_processing.textbook_pairs.figures.graphics import classify_graphic, flat_share, is_barcode
from components.data_processing.textbook_pairs.figures.panels import find_panels
from components.data_processing.textbook_pairs.figures.pictures import find_ink, find_pictures, may_hold_pictures
from components.data_processing.textbook_pairs.layout.regions import Region
from components.data_processing.textbook_pairs.pixels import Mask, Pixels
from tests.components.data_processing.textbook_pairs.conftest import FILLER, Sheet

FOUR_PANELS = Path(__file__).parents[4].parent / "shared" / "real" / "figures" / "pone.0057128.g006.jpg"


def paper(seed: int = 0) -> Pixels:
    noise = np.random.default_rng(seed).normal(0, 3, (600, 420, 1))
    return (np.array([250, 248, 244]) + noise).clip(0, 255).astype(np.uint8)


def code(side: int = 80) -> Pixels:
    cells = np.random.default_rng(1).integers(0, 2, (20, 20), dtype=np.uint8) * 255
    return np.repeat(np.asarray(Image.fromarray(cells).resize((side, side), Image.Resampling.NEAREST))[..., None], 3, 2)


def test_a_pale_picture_stands_out_and_the_shadow_of_a_spine_does_not() -> None:
    page = paper()
    page[200:400, 120:320] -= 14
    shadow = 1 - 0.25 * np.exp(-np.arange(420) / 15)
    ink = find_ink((page * shadow[None, :, None]).astype(np.uint8))
    assert ink[210:390, 130:310].mean() > 0.9
    ink[195:405, 115:325] = False
    assert ink[:, 30:].mean() < 0.01


def test_pale_grounds_of_pictures_do_not_pass_for_paper() -> None:
    page = paper()
    page[100:300, 40:380] = np.clip(paper(1)[100:300, 40:380].astype(int) - 14, 0, 255)
    page[150:250, 150:280] = (150, 60, 50)
    ink = find_ink(page)
    assert ink[105:295, 45:375].mean() > 0.9
    ink[95:305, 35:385] = False
    assert ink.mean() < 0.01


@pytest.mark.parametrize("level", [0, 90, 255])
def test_a_page_of_one_tone_is_handled(level: int) -> None:
    ink = find_ink(np.full((100, 80, 3), level, dtype=np.uint8))
    assert ink.all() == (level < 150)


def test_what_is_no_figure_is_rejected_with_its_reason() -> None:
    page = paper()
    rng = np.random.default_rng(2)
    page[40:160, 40:220] = rng.integers(60, 180, (120, 180, 3))
    page[40:120, 300:380] = code()
    page[300:304, 40:220] = page[300:420, 40:44] = page[420:424, 40:224] = page[300:424, 220:224] = 20
    page[460:520, 40:220] = rng.integers(60, 180, (60, 180, 3))
    page[540:580, 300:340] = 90
    regions = [
        Region("figure", Box(36, 36, 224, 164), 0.9),
        Region("figure", Box(36, 296, 228, 428), 0.8),
        Region("footer", Box(30, 450, 230, 530), 0.8),
        Region("figure", Box(298, 538, 342, 582), 0.5),
    ]
    found = {picture.rejected: picture.box for picture in find_pictures(page, find_ink(page), regions, 56)}
    assert found.keys() == {"", "qr_code", "chart", "header_or_footer", "too_small"}
    assert found[""].iou(Box(40, 40, 220, 160)) > 0.9
    assert found["qr_code"].iou(Box(300, 40, 380, 120)) > 0.8


def test_a_chart_and_a_diagram_that_the_layout_does_not_see_are_found() -> None:
    page = paper()
    page[60:200, 40:43] = page[198:201, 40:240] = 40
    for number, top in enumerate((90, 140, 100)):
        page[top:200, 60 + 60 * number : 75 + 60 * number] = (60, 90, 170)
    for x in (40, 110, 180):
        for y in (320, 380):
            page[y : y + 40, x : x + 50] = 40
            page[y + 3 : y + 37, x + 3 : x + 47] = (215, 240, 205)
    found = {picture.rejected: picture.box for picture in find_pictures(page, find_ink(page), [], 56)}
    assert found.keys() == {"chart", "line_art"}
    assert found["chart"].iou(Box(40, 60, 240, 201)) > 0.9
    assert found["line_art"].iou(Box(40, 320, 230, 420)) > 0.9
    # The frame of a box with text in it is no drawing.
    text = [Region("text", Box(45, 325, 225, 415), 0.9)]
    page[320:420, 40:230] = paper()[320:420, 40:230]
    page[320:422, 40:42] = page[320:422, 228:230] = page[320:322, 40:230] = page[420:422, 40:230] = 40
    assert {picture.rejected for picture in find_pictures(page, find_ink(page), text, 56)} == {"chart"}


def test_marks_on_both_sides_of_text_are_no_drawing() -> None:
    page = paper()
    for x in (40, 108):
        page[320:420, x : x + 3] = page[320:323, x : x + 40] = page[417:420, x : x + 40] = 40
    assert len(find_pictures(page, find_ink(page), [], 56)) == 1
    text = [Region("text", Box(82, 330, 106, 410), 0.9)]
    assert find_pictures(page, find_ink(page), text, 56) == []


def test_few_cells_on_a_slide_are_a_photograph_and_a_filled_band_is_none() -> None:
    rng = np.random.default_rng(5)
    slide = np.full((240, 300, 3), (226, 220, 212), dtype=np.float32)
    slide += cv2.GaussianBlur(rng.normal(0, 60, (240, 300, 1)).astype(np.float32), (0, 0), 12)[..., None] * 2
    for x, y in rng.integers(20, 220, (8, 2)).tolist():
        cv2.circle(slide, (x, y), 7, (110, 100, 150), -1)
    pixels = cv2.GaussianBlur(slide, (0, 0), 3).clip(0, 255).astype(np.uint8)
    full = np.ones((240, 300), dtype=bool)
    assert flat_share(pixels, full) > 0.93
    assert classify_graphic(pixels, full, 840) == ""
    band = np.full((240, 300, 3), (130, 90, 160), dtype=np.uint8)
    band[200:, :100] = (60, 150, 90)
    assert classify_graphic(band, full, 840) == "decoration"


def test_panels_that_the_layout_takes_for_a_table_are_a_picture() -> None:
    page = paper()
    page[100:200, 50:350] = np.random.default_rng(3).integers(60, 180, (100, 300, 3))
    (picture,) = find_pictures(page, find_ink(page), [Region("table", Box(48, 98, 352, 202), 0.9)], 56)
    assert picture.rejected == ""


def test_two_halves_of_one_figure_are_one_picture() -> None:
    page = paper()
    page[100:300, 50:350] = np.random.default_rng(4).integers(60, 180, (200, 300, 3))
    halves = [Region("figure", Box(48, 98, 352, 220), 0.9), Region("figure", Box(48, 180, 352, 304), 0.8)]
    (picture,) = find_pictures(page, find_ink(page), halves, 56)
    assert picture.box.iou(Box(50, 100, 350, 300)) > 0.95


def test_graphics_are_told_apart_by_their_pixels() -> None:
    page = paper()[:300, :400]
    chart = page.copy()
    chart[20:262, 40:43] = chart[260:263, 40:380] = 40
    for number, top in enumerate((60, 140, 100, 200, 80)):
        chart[top:260, 70 + 60 * number : 100 + 60 * number] = (60, 90, 170)
    table = page.copy()
    table[20:22] = table[70:72] = table[280:282] = 30
    bar = paper()[:40, :400].copy()
    bar[:] = (196, 60, 50)
    drawing = page.copy()
    drawing[50:120, 60:170] = drawing[150:240, 200:330] = (250, 220, 170)
    found = {
        name: classify_graphic(pixels, _ink(pixels), 840)
        for name, pixels in {"chart": chart, "table": table, "bar": bar, "drawing": drawing, "code": code()}.items()
    }
    assert found == {"chart": "chart", "table": "table", "bar": "decoration", "drawing": "line_art", "code": "qr_code"}


def _ink(pixels: Pixels) -> Mask:
    return (np.abs(pixels.astype(np.int16) - (250, 248, 244)) > 15).any(axis=2)


def test_a_photograph_is_not_flat() -> None:
    cells = np.random.default_rng(6).integers(60, 200, (20, 27), dtype=np.uint8)
    tissue = np.asarray(Image.fromarray(cells).resize((160, 120), Image.Resampling.BICUBIC))[..., None].repeat(3, 2)
    everywhere = np.ones((120, 160), dtype=bool)
    assert flat_share(tissue, everywhere) < 0.1
    assert flat_share(np.full_like(tissue, 120), everywhere) == 1.0


def test_a_large_region_that_holds_text_is_not_believed() -> None:
    page = paper()
    page[100:200, 50:200] = np.random.default_rng(3).integers(60, 180, (100, 150, 3))
    page[100:200, 230:380] = np.random.default_rng(4).integers(60, 180, (100, 150, 3))
    regions = [
        Region("figure", Box(0, 0, 420, 600), 0.7),
        Region("text", Box(20, 250, 400, 500), 0.9),
    ]
    found = find_pictures(page, find_ink(page), regions, 56)
    assert [tuple(round(side, -1) for side in picture.box) for picture in found] == [
        (50, 100, 200, 200),
        (230, 100, 380, 200),
    ]


def test_codes_are_told_from_micrographs() -> None:
    assert is_barcode(code())
    cells = np.random.default_rng(5).integers(0, 255, (80, 80, 3), dtype=np.uint8)
    assert not is_barcode(cells)
    assert not is_barcode(np.repeat(cells[..., :1] // 3 + 100, 3, 2))


@pytest.mark.skipif(
    not FOUR_PANELS.is_file(), reason="the real figure lies beside the repository on some machines only"
)
def test_a_real_figure_without_margins_is_cut_into_its_four_panels() -> None:
    figure = np.asarray(Image.open(FOUR_PANELS).convert("RGB"))
    panels = find_panels(figure, find_ink(figure), 4, 40)
    boxes = [Box(4, 3, 357, 267), Box(374, 2, 726, 267), Box(4, 283, 356, 545), Box(374, 283, 723, 545)]
    assert all(panel.iou(box) > 0.95 for panel, box in zip(panels, boxes, strict=True))


def test_a_caption_that_the_layout_takes_for_a_figure_too_is_no_picture() -> None:
    page = paper()
    page[100:200, 50:350] = np.random.default_rng(3).integers(60, 180, (100, 300, 3))
    for top in (230, 250):
        page[top : top + 10, 60:340:7] = 40
    caption = Box(58, 228, 342, 262)
    regions = [Region("figure_caption", caption, 0.9), Region("figure", caption, 0.6)]
    (picture,) = find_pictures(page, find_ink(page), regions, 56)
    assert picture.rejected == ""
    assert picture.box.iou(Box(50, 100, 350, 200)) > 0.95


def test_panels_on_plain_cloth_are_photographs() -> None:
    page = paper()[:300, :420].copy()
    specimen = np.random.default_rng(7).integers(60, 180, (120, 60, 3))
    for left in (20, 250):
        page[60:260, left : left + 150] = (90, 130, 100)
        page[100:220, left + 45 : left + 105] = specimen
    figure = page[60:260, 20:400]
    assert 0.5 < flat_share(figure, _ink(figure)) < 0.8
    assert classify_graphic(figure, _ink(figure), 840) == ""


def test_a_figure_that_the_layout_sees_in_dust_is_none() -> None:
    page = paper()
    for x, y in np.random.default_rng(4).integers(250, 590, (80, 2)).tolist():
        page[y : y + 2, x % 400 : x % 400 + 2] = 60
    regions = [Region("figure", Box(20, 240, 400, 590), 0.9)]
    assert find_pictures(page, find_ink(page), regions, 56) == []
    # A drawing there is looked at.
    page[300:400, 100:103] = page[397:400, 100:220] = 40
    assert [picture.rejected for picture in find_pictures(page, find_ink(page), regions, 56)] == ["line_art"]


def test_a_shadow_around_a_corner_does_not_swallow_the_picture_in_it() -> None:
    page = paper()
    page[:, :25] = page[:25, :] = 40
    page[100:250, 80:300] = np.random.default_rng(5).integers(60, 180, (150, 220, 3))
    found = [picture.box for picture in find_pictures(page, find_ink(page), [], 56) if not picture.rejected]
    assert [box.iou(Box(80, 100, 300, 250)) > 0.95 for box in found] == [True]


def test_boxes_filled_with_one_colour_are_drawn() -> None:
    box = np.full((120, 160, 3), (250, 220, 170), dtype=np.uint8)
    box[:3] = box[-3:] = 40
    box[:, :3] = box[:, -3:] = 40
    box[50:64, 30:110:6] = 40
    assert classify_graphic(box, _ink(box), 840) in ("line_art", "logo")
    ornament = np.full((40, 300, 3), (130, 90, 160), dtype=np.uint8)
    ornament[30:, :100] = (60, 150, 90)
    assert classify_graphic(ornament, _ink(ornament), 840) == "decoration"


def test_boxes_of_a_diagram_with_words_in_them_are_no_panels() -> None:
    diagram = np.full((270, 514, 3), (250, 248, 244), dtype=np.uint8)
    colours = ((248, 200, 200), (214, 240, 208), (200, 225, 248))
    for number in range(6):
        x, y = number % 3 * 184, number // 3 * 147
        cv2.rectangle(diagram, (x, y), (x + 145, y + 122), colours[number % 3], cv2.FILLED)
        cv2.rectangle(diagram, (x, y), (x + 145, y + 122), (40, 40, 40), 2)
        for line in range(4):
            cv2.putText(diagram, "Morphology of it", (x + 8, y + 24 + 26 * line), 0, 0.42, (40, 40, 40), 1, cv2.LINE_AA)
    assert classify_graphic(diagram, _ink(diagram), 840) in ("chart", "line_art")


def test_only_a_page_with_something_thick_or_drawn_may_hold_pictures() -> None:
    prose = Sheet()
    prose.text(150, 150, FILLER * 30)
    plain = np.asarray(prose.image.resize((840, 1188)))
    assert not may_hold_pictures(find_ink(plain), 56)
    photograph, drawing = plain.copy(), plain.copy()
    photograph[900:980, 300:400] = (180, 90, 140)
    cv2.line(drawing, (300, 900), (370, 960), (0, 0, 0), 2)
    assert may_hold_pictures(find_ink(photograph), 56)
    assert may_hold_pictures(find_ink(drawing), 56)
