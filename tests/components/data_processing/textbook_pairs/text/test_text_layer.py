from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pypdfium2
import pytest
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure
from PIL import Image

from components.data_processing.textbook_pairs.boxes import Box
from components.data_processing.textbook_pairs.config import TextbookPairsConfig
from components.data_processing.textbook_pairs.layout.regions import Region
from components.data_processing.textbook_pairs.pages.page import Page
from components.data_processing.textbook_pairs.pages.rendering import Rendering, render
from components.data_processing.textbook_pairs.stage import run
from components.data_processing.textbook_pairs.text.ocr import TextReader
from components.data_processing.textbook_pairs.text.text_layer import TextLayer, find_text_layer
from pathoflow.contract.output import StageOutput
from pathoflow.data.schemas import read_rows
from tests.components.data_processing.textbook_pairs.conftest import tissue

WIDTH, HEIGHT = 595, 842
LINES = [
    (60, 90, "The lesion is well circumscribed and grows slowly (Fig. 3.2A and B)."),
    (60, 108, "Mitoses are rare, necrosis is absent and the margins are free."),
    (60, 126, "Recurrence after excision was not observed in this series."),
]
CAPTION = (60, 420, "Fig. 3.2 Fibroadenoma. (A) Narrow ducts. (B) Wide ducts.")


def born_digital(
    path: Path, lines: list[tuple[float, float, str]] | None = None, picture: Image.Image | None = None, turn: int = 0
) -> Path:
    """A page as a typesetting program writes it: fonts with their maps to Unicode."""
    with mpl.rc_context({"pdf.fonttype": 42, "pdf.compression": 0}):
        figure = Figure(figsize=(WIDTH / 72, HEIGHT / 72))
        FigureCanvasPdf(figure)
        for x, y, text in LINES if lines is None else lines:
            figure.text(x / WIDTH, 1 - y / HEIGHT, text, fontsize=11, family="DejaVu Serif", va="baseline")
        if picture is not None:
            axes = figure.add_axes((60 / WIDTH, 1 - 400 / HEIGHT, 475 / WIDTH, 240 / HEIGHT))
            axes.imshow(np.asarray(picture), aspect="auto")
            axes.axis("off")
        figure.savefig(path, format="pdf", metadata={"CreationDate": None})
    if turn:
        with pypdfium2.PdfDocument(path.read_bytes()) as document:
            document[0].set_rotation(turn)
            document.save(path)
    return path


@pytest.fixture(scope="module")
def reader() -> Iterator[TextReader]:
    return TextReader()


def look(path: Path) -> tuple[Page, Rendering]:
    page = Page(path, 0, path.stem, "book", path.name)
    return page, render(page, layout_pixels=1280 * 28**2, crop_scale=2, max_source_pixels=10_000_000)


def layer_of(path: Path, reader: TextReader, regions: tuple[Region, ...] = ()) -> TextLayer:
    page, rendering = look(path)
    return find_text_layer(page, rendering, regions, lambda box: reader.read(rendering.crop(box))[0])


def test_the_text_of_a_pdf_comes_with_its_place(tmp_path: Path, reader: TextReader) -> None:
    layer = layer_of(born_digital(tmp_path / "page.pdf"), reader)
    assert layer.refused == ""
    assert [line.text for line in layer.lines] == [text for _, _, text in LINES]
    scale = 840 / WIDTH
    for line, (x, y, _) in zip(layer.lines, LINES, strict=True):
        assert line.box.x0 == pytest.approx(x * scale, abs=3)
        assert line.box.y0 < (y - 6) * scale < y * scale < line.box.y1


def test_two_columns_and_words_placed_one_by_one_make_the_lines_that_a_reader_sees(
    tmp_path: Path, reader: TextReader
) -> None:
    words = [(60, 90, "Narrow ducts"), (320, 90, "Wide ducts"), (150, 90, "differ much"), (60, 108, "from others.")]
    lines = layer_of(born_digital(tmp_path / "page.pdf", words), reader).lines
    assert [line.text for line in lines] == ["Narrow ducts differ much", "Wide ducts", "from others."]


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_page_that_is_shown_turned_has_its_text_where_it_is_seen(
    tmp_path: Path, reader: TextReader, turn: int
) -> None:
    # Shown turned, the page's text lies on its side or its head: none of it is for a reader of upright lines.
    layer = layer_of(born_digital(tmp_path / "page.pdf", turn=turn), reader)
    assert layer == TextLayer([], "no_text")


def test_a_page_stored_on_its_side_and_shown_upright_keeps_its_text(tmp_path: Path, reader: TextReader) -> None:
    path = born_digital(tmp_path / "page.pdf")
    # The drawing is turned by a quarter within the page, and the page is shown turned back.
    with pypdfium2.PdfDocument(path.read_bytes()) as document:
        page = document[0]
        matrix = pypdfium2.PdfMatrix().rotate(90, ccw=True).translate(HEIGHT, 0)
        for thing in page.get_objects(max_depth=1):
            thing.transform(matrix)
        page.set_mediabox(0, 0, HEIGHT, WIDTH)
        page.set_cropbox(0, 0, HEIGHT, WIDTH)
        page.set_rotation(90)
        page.gen_content()
        document.save(path)
    layer = layer_of(path, reader)
    assert [line.text for line in layer.lines] == [text for _, _, text in LINES]


def test_text_under_a_scan_is_turned_upright_with_it(tmp_path: Path, reader: TextReader) -> None:
    path = born_digital(tmp_path / "page.pdf")
    with pypdfium2.PdfDocument(path.read_bytes()) as document:
        page = document[0]
        for thing in page.get_objects(max_depth=1):
            thing.transform(pypdfium2.PdfMatrix().translate(-297, -421).rotate(2, ccw=True).translate(297, 421))
        page.gen_content()
        document.save(path)
    assert look(path)[1].skew_degrees == pytest.approx(-2, abs=0.2)
    layer = layer_of(path, reader)
    assert [line.text for line in layer.lines] == [text for _, _, text in LINES]
    assert all(line.box.height < 25 for line in layer.lines)


def test_letters_without_a_meaning_are_not_taken_for_text(tmp_path: Path, reader: TextReader) -> None:
    path = born_digital(tmp_path / "page.pdf")
    content = path.read_bytes()
    # Every letter stands for one of the private area, as fonts without names for their glyphs give it.
    path.write_bytes(
        re.sub(rb"<(00[46][0-9a-f])>(?=\s*(<00|\n|\]))", lambda found: b"<e0" + found[1][2:] + b">", content)
    )
    assert layer_of(path, reader) == TextLayer([], "unknown_characters")


def test_text_that_says_something_else_than_the_print_is_not_used(tmp_path: Path) -> None:
    page, rendering = look(born_digital(tmp_path / "page.pdf"))
    layer = find_text_layer(page, rendering, (), lambda _: "Entirely other words stand here in print.")
    assert layer == TextLayer([], "differs_from_print")


def test_text_that_leaves_out_what_is_printed_is_not_used(tmp_path: Path, reader: TextReader) -> None:
    regions = tuple(Region("text", Box(80, 300 * at + 100, 760, 300 * at + 300), 0.9) for at in range(3))
    assert layer_of(born_digital(tmp_path / "page.pdf"), reader, regions[:1]).refused == ""
    assert layer_of(tmp_path / "page.pdf", reader, regions) == TextLayer([], "gaps")


def test_a_scan_has_no_text_of_its_own(tmp_path: Path, reader: TextReader, plain_page: Image.Image) -> None:
    plain_page.save(tmp_path / "scan.pdf")
    assert layer_of(tmp_path / "scan.pdf", reader).refused == "no_text"


def test_the_stage_reads_a_born_digital_book_without_ocr(tmp_path: Path) -> None:
    panels = Image.new("RGB", (950, 480), "white")
    panels.paste(tissue((465, 480), 1), (0, 0))
    panels.paste(tissue((465, 480), 2), (485, 0))
    path = born_digital(tmp_path / "book.pdf", [*LINES, CAPTION], panels)
    out = StageOutput(tmp_path / "output", tmp_path / "scratch")
    run(TextbookPairsConfig(books=(path,), num_workers=1), out=out)
    rows = {row["source_id"]: row for row in read_rows(out.path / "pairs")}
    assert [row["caption"] for row in rows.values()] == ["Fibroadenoma. Narrow ducts.", "Fibroadenoma. Wide ducts."]
    assert all(row["inline_refs"] == [LINES[0][2]] for row in rows.values())
    assert '"text": "layer"' in (out.path / "pages.jsonl").read_text()
    assert out.metrics["num_pages_text_layer"] == 1
