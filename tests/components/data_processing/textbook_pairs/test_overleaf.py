from __future__ import annotations

from pathlib import Path

import pytest

from components.data_processing.textbook_pairs.boxes import Box
from components.data_processing.textbook_pairs.config import TextbookPairsConfig
from components.data_processing.textbook_pairs.layout.regions import Region
from components.data_processing.textbook_pairs.page_reader import PageReader
from components.data_processing.textbook_pairs.pages.page import Page
from tests.components.data_processing.textbook_pairs.conftest import FILLER, Sheet, tissue


@pytest.mark.parametrize("taken_for_head", [False, True])
def test_a_caption_overleaf_is_found_even_if_the_layout_takes_it_for_a_running_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken_for_head: bool
) -> None:
    plate, after = Sheet(), Sheet()
    plate.text(160, 200, FILLER)
    plate.picture(240, 1300, tissue((1200, 800), 3))
    after.text(1200, 130, "Chapter of the breast")
    after.text(400, 230, "Fig. 6.1 Fibroadenoma of the breast.")
    after.text(160, 420, FILLER)
    pages = []
    for name, sheet in (("plate", plate), ("after", after)):
        sheet.image.save(tmp_path / f"{name}.png")
        pages.append(Page(tmp_path / f"{name}.png", 0, name, "book", name))
    reader = PageReader(TextbookPairsConfig(books=(tmp_path,)))
    find = reader._layout_model.find

    def find_heads(page):
        dark = (page[:160] < 100).any()
        head = [Region("header", Box(0, 50, 840, 140), 0.9)] if taken_for_head and dark else []
        return [region for region in find(page) if region.box.y0 > 150] + head

    monkeypatch.setattr(reader._layout_model, "find", find_heads)
    record, _ = reader.read_figures(pages[0], "crop", pages[1])
    assert [(figure.number, figure.overleaf) for figure in record.figures] == [("6.1", True)]
    assert record.figures[0].panels[0].caption == "Fibroadenoma of the breast."
