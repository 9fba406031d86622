"""Reads one page: its figures, cut into panels with their captions, and its body text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from components.data_processing.textbook_pairs.boxes import Box, union
from components.data_processing.textbook_pairs.captions.blocks import CaptionBlock, find_captions, find_table_titles
from components.data_processing.textbook_pairs.captions.matching import match
from components.data_processing.textbook_pairs.captions.parsing import is_caption_start
from components.data_processing.textbook_pairs.config import TextbookPairsConfig
from components.data_processing.textbook_pairs.figures import labels
from components.data_processing.textbook_pairs.figures.cutting import cut_figure
from components.data_processing.textbook_pairs.figures.pictures import (
    Picture,
    find_ink,
    find_pictures,
    may_hold_pictures,
)
from components.data_processing.textbook_pairs.layout.regions import Region, layout_model
from components.data_processing.textbook_pairs.pages.page import Page
from components.data_processing.textbook_pairs.pages.rendering import Rendering, render
from components.data_processing.textbook_pairs.pixels import Mask
from components.data_processing.textbook_pairs.records import (
    Figure,
    PageRecord,
    Panel,
    Rejected,
    Seen,
    Text,
    TextSource,
)
from components.data_processing.textbook_pairs.text.ocr import Line, TextReader
from components.data_processing.textbook_pairs.text.paragraphs import paragraphs
from components.data_processing.textbook_pairs.text.text_layer import TextLayer, find_text_layer
from pathoflow.data.images import UnreadableImage, encode_jpeg

_MIN_READING_CONFIDENCE = 0.5
_MARGIN = 0.07
_INSIDE = 0.5
_LABEL_SHARE = 0.06
_LINES_AT_TOP = 3
# A paragraph's last word: how much longer the line above is, and how many heights their middles are apart.
_LONGER = 3.0
_MAX_PITCH = 1.6
_NO_PICTURES = frozenset({"page_edge", "too_small", "decoration", "header_or_footer"})
_GRAPHICS_WITH_WORDS = frozenset({"table", "chart", "line_art", "qr_code"})


class PageReader:
    """Reads pages with the layout and text models, loaded once per process."""

    def __init__(self, config: TextbookPairsConfig) -> None:
        self.config = config
        self._layout = layout_model(config)
        self._text = TextReader()

    def read_figures(
        self, page: Page, crop_prefix: str, overleaf: Page | None = None
    ) -> tuple[PageRecord, dict[str, bytes]]:
        """Reads the figures of a page; returns its record and the crops of its panels by file name.

        Text is read only where it is needed: the lines around pictures first, and the rest of the page only
        when one of them may be a caption.

        Args:
            page: The page.
            crop_prefix: Begins the names of the crops.
            overleaf: The next page of the book, which may hold the caption of this page's last figure.

        Raises:
            UnreadableImage: The page cannot be read.
        """
        rendering = self._render(page)
        ink = find_ink(rendering.even)
        if not may_hold_pictures(ink, self.config.min_figure_px):
            # Most pages of most books are prose, and the layout model would tell nothing new of them.
            return _without_pictures(rendering), {}
        sheet = self._look_at(page, rendering, ink)
        boxes = [picture.box for picture in sheet.pictures if not picture.rejected]
        rejected = [picture for picture in sheet.pictures if picture.rejected]
        if not boxes:
            return self._record(sheet, [], rejected, None), {}
        spots = self._find_lines(sheet, boxes)
        near = [spot for spot in spots if self._is_near(spot, boxes, sheet)]
        lines = self._read(near, sheet)
        read_all = any(is_caption_start(line.text) for line in lines)
        if read_all:
            lines += self._read([spot for spot in spots if spot not in near], sheet)
        matches = self._matches(sheet, boxes, lines)
        found = [picture for _, group in matches for picture in group]
        orphans = [box for box in boxes if box not in found]
        figures: list[Figure] = []
        crops: dict[str, bytes] = {}
        for block, group in matches:
            if group:
                figures.append(self._figure(sheet, block, group, f"{crop_prefix}-{len(figures)}", crops))
        above = None if overleaf is None else self._caption_overleaf(sheet, orphans, found, spots, overleaf)
        if above is not None:
            prefix = f"{crop_prefix}-{len(figures)}"
            figures.append(self._figure(sheet, above, orphans, prefix, crops).model_copy(update={"overleaf": True}))
            orphans = []
        rejected += [Picture(box, "no_caption") for box in orphans]
        if not read_all:
            return self._record(sheet, figures, rejected, None), crops
        return self._record(sheet, figures, rejected, self._paragraphs(sheet, lines)), crops

    def read_text(self, page: Page, seen: Seen) -> Text:
        """Reads the text of a page whose figures are known.

        Raises:
            UnreadableImage: The page cannot be read.
        """
        rendering = self._render(page, seen)
        no_ink = np.zeros(rendering.coarse.shape[:2], dtype=bool)
        if seen.regions is None:
            # Nothing there is thick or drawn: what counts is where the layout model sees text and tables.
            sheet = self._look_at(page, rendering, no_ink)
        else:
            sheet = _Sheet(page, rendering, seen.regions, no_ink, seen.pictures)
        graphics = [picture.box for picture in sheet.pictures if picture.rejected not in ("line_art", "too_small")]
        spots = self._find_lines(sheet, graphics)
        lines = self._read([spot for spot in spots if not _is_margin(spot, sheet)], sheet)
        return Text(paragraphs=self._paragraphs(sheet, lines), text_source=sheet.text_source)

    def _paragraphs(self, sheet: _Sheet, lines: Sequence[Line]) -> list[str]:
        """Returns the body text: no captions, no words in tables and charts, no running heads."""
        aside = {line for block in find_captions(lines, sheet.regions) for line in block.lines}
        aside.update(find_table_titles(lines))
        graphics = [picture.box for picture in sheet.pictures if picture.rejected in _GRAPHICS_WITH_WORDS]
        body = [
            line
            for line in lines
            if line not in aside
            and not _is_margin(line.box, sheet)
            and not any(line.box.share_in(box) > _INSIDE for box in graphics)
        ]
        return paragraphs(body)

    def _matches(
        self, sheet: _Sheet, boxes: Sequence[Box], lines: Sequence[Line]
    ) -> list[tuple[CaptionBlock, list[Box]]]:
        """Returns the captions of a page, each with the pictures that belong to it."""
        captions = find_captions(lines, sheet.regions)
        free = [line for line in lines if all(line not in block.lines for block in captions)]
        # A chart has its caption too, which must not go to the photograph beside it.
        others = [
            _with_words(picture.box, free)
            for picture in sheet.pictures
            if picture.rejected and picture.rejected not in _NO_PICTURES
        ]
        reach = self.config.max_caption_distance * sheet.rendering.size[1]
        groups = match(captions, [*boxes, *others], lines, sheet.regions, reach)
        return [(block, [box for box in group if box in boxes]) for block, group in groups]

    def _caption_overleaf(
        self, sheet: _Sheet, orphans: Sequence[Box], found: Sequence[Box], spots: Sequence[Box], overleaf: Page
    ) -> CaptionBlock | None:
        """Finds a caption at the top of the next page, if the remaining pictures end this page without one."""
        if not orphans:
            return None
        whole = union(orphans)
        below = [spot for spot in spots if spot.y0 > whole.y1 and not _is_margin(spot, sheet)]
        own_labels = [spot for spot in below if spot.width < _LABEL_SHARE * sheet.rendering.size[0]]
        if len(below) > len(own_labels) or any(box.share_in(whole) > 0 for box in found):
            return None
        try:
            rendering = self._render(overleaf)
            after = self._look_at(overleaf, rendering, find_ink(rendering.even))
        except UnreadableImage:
            return None
        boxes = [picture.box for picture in after.pictures if not picture.rejected]
        spots = self._below_head(after, self._find_lines(after, boxes))
        top = sorted(spots, key=lambda spot: spot.y0)[:_LINES_AT_TOP]
        if not any(is_caption_start(line.text) for line in self._read(top, after)):
            return None
        lines = self._read(spots, after)
        first = min(line.box.y0 for line in lines)
        height = float(np.median([line.box.height for line in lines]))
        for block, group in self._matches(after, boxes, lines):
            others = [picture.box for picture in after.pictures if picture.rejected not in _NO_PICTURES]
            beneath = any(box.y0 < block.box.y0 for box in others)
            if not group and block.caption.number and block.box.y0 - first < height and not beneath:
                return block
        return None

    def _below_head(self, sheet: _Sheet, spots: Sequence[Box]) -> list[Box]:
        """Returns the lines but running head and foot; the layout model may take a caption for a head."""
        body = [spot for spot in spots if not _is_margin(spot, sheet)]
        first = min((spot.y0 for spot in body), default=0.0)
        above = (spot for spot in spots if _is_margin(spot, sheet) and spot.y0 < first)
        head = sorted(above, key=lambda spot: spot.y0)
        for at, spot in enumerate(head):
            if any(is_caption_start(line.text) for line in self._read([spot], sheet)):
                return [*head[at:], *body]
        return body

    def _look_at(self, page: Page, rendering: Rendering, ink: Mask) -> _Sheet:
        regions = self._layout.find(rendering.even)
        pictures = [
            picture._replace(rejected="") if picture.rejected in self.config.keep_graphics else picture
            for picture in find_pictures(rendering.even, ink, regions, self.config.min_figure_px)
        ]
        return _Sheet(page, rendering, regions, ink, pictures)

    def _render(self, page: Page, seen: Seen | None = None) -> Rendering:
        config = self.config
        return render(
            page,
            layout_pixels=config.layout_pixels,
            crop_scale=config.crop_scale,
            max_source_pixels=config.max_source_pixels,
            skew_degrees=seen.skew_degrees if seen else None,
            is_clean=bool(seen and seen.is_clean),
        )

    def _find_lines(self, sheet: _Sheet, pictures: Sequence[Box]) -> list[Box]:
        """Finds lines of text, with pictures painted over: the text model joins text to what it finds in them.

        A PDF that carries sound text says itself where its lines are.
        """
        sheet.layer = self._find_layer(sheet)
        if not sheet.layer.refused:
            boxes = [line.box for line in sheet.layer.lines]
            return [box for box in boxes if not any(box.share_in(picture) > _INSIDE for picture in pictures)]
        page = sheet.rendering.even.copy()
        paper = np.median(page[::8, ::8], axis=(0, 1)).astype(np.uint8)
        for picture in pictures:
            x0, y0, x1, y1 = picture.clipped(*sheet.rendering.size).whole()
            page[y0:y1, x0:x1] = paper
        return self._text.find_lines(page)

    def _is_near(self, spot: Box, pictures: Sequence[Box], sheet: _Sheet) -> bool:
        """Checks whether a line may begin the caption of a picture."""
        reach = self.config.max_caption_distance * sheet.rendering.size[1]
        return any(spot.share_in(picture.grown(reach)) > 0 for picture in pictures) or any(
            region.kind == "figure_caption" and spot.share_in(region.box) > 0.5 for region in sheet.regions
        )

    def _find_layer(self, sheet: _Sheet) -> TextLayer:
        if not self.config.use_text_layer:
            return TextLayer([], "not_wanted")
        return find_text_layer(
            sheet.page, sheet.rendering, sheet.regions, lambda box: self._text.read(sheet.rendering.crop(box))[0]
        )

    def _read(self, spots: Sequence[Box], sheet: _Sheet) -> list[Line]:
        """Reads the lines of text at the spots, without labels that stand beside panels."""
        if sheet.layer is not None and not sheet.layer.refused:
            wanted = set(spots)
            lines = [line for line in sheet.layer.lines if line.box in wanted]
        else:
            readings = [(spot, *self._text.read(sheet.rendering.crop(spot))) for spot in spots]
            lines = [Line(spot, text) for spot, text, sure in readings if text and sure >= _MIN_READING_CONFIDENCE]
        return [line for line in lines if not labels.parse_label(line.text) or _ends_paragraph(line.box, spots)]

    def _figure(
        self, sheet: _Sheet, block: CaptionBlock, group: Sequence[Box], prefix: str, crops: dict[str, bytes]
    ) -> Figure:
        """Builds the figure of one caption, and adds its panels' crops to `crops`."""
        caption = block.caption
        cut = cut_figure(sheet.rendering, sheet.ink, group, caption, self.config.min_panel_px, self._text.read)
        panels = []
        for number, (box, name) in enumerate(zip(cut.boxes, cut.names, strict=True)):
            crop = f"{prefix}-{number}.jpg"
            crops[crop] = encode_jpeg(Image.fromarray(sheet.rendering.crop(box)), self.config.jpeg_quality)
            text = caption.text_for(name) if name in caption.parts else caption.text
            panels.append(Panel(label=name, box=sheet.rendering.on_page(box), caption=text, crop=crop))
        return Figure(
            number=caption.number,
            caption_box=sheet.rendering.on_page(block.box),
            panels=panels,
            kept_whole=cut.kept_whole,
            labels_from=cut.labels_from,
        )

    @staticmethod
    def _record(
        sheet: _Sheet, figures: list[Figure], rejected: Sequence[Picture], body: list[str] | None
    ) -> PageRecord:
        width, height = sheet.rendering.size
        return PageRecord(
            width=width,
            height=height,
            figures=figures,
            rejected=[
                Rejected(box=sheet.rendering.on_page(picture.box), reason=picture.rejected) for picture in rejected
            ],
            paragraphs=body,
            seen=_seen(sheet.rendering, sheet.regions, sheet.pictures),
            text_source=sheet.text_source,
        )


def _without_pictures(rendering: Rendering) -> PageRecord:
    """Builds the record of a page that the layout model was not asked about."""
    width, height = rendering.size
    seen = _seen(rendering, None, [])
    return PageRecord(width=width, height=height, figures=[], rejected=[], paragraphs=None, seen=seen)


def _seen(rendering: Rendering, regions: list[Region] | None, pictures: list[Picture]) -> Seen:
    return Seen(
        regions=regions,
        pictures=pictures,
        skew_degrees=rendering.skew_degrees,
        is_clean=rendering.even is rendering.coarse,
    )


@dataclass
class _Sheet:
    """A rendered page with its regions, ink and pictures, and its text layer once that was asked for."""

    page: Page
    rendering: Rendering
    regions: list[Region]
    ink: Mask
    pictures: list[Picture]
    layer: TextLayer | None = None

    @property
    def text_source(self) -> TextSource:
        if self.layer is None:
            return TextSource()
        return TextSource(kind="ocr" if self.layer.refused else "layer", refused=self.layer.refused)


def _with_words(graphic: Box, lines: Sequence[Line]) -> Box:
    """Extends a graphic by the words at its edges, such as the numbers along an axis.

    >>> years, caption = Line(Box(60, 105, 190, 120), "2012 2013"), Line(Box(50, 130, 190, 145), "Fig. 3. Cases")
    >>> _with_words(Box(50, 0, 200, 100), [years, caption])
    Box(x0=50, y0=0, x1=200, y1=120)
    """
    words = [
        line.box
        for line in lines
        if line.box.width <= graphic.width and line.box.share_in(graphic.grown(line.box.height)) > _INSIDE
    ]
    return union([graphic, *words])


def _ends_paragraph(spot: Box, spots: Sequence[Box]) -> bool:
    """Checks whether a line is the last word of a paragraph: right under the start of a longer line, no label."""
    return any(
        abs(spot.x0 - above.x0) < spot.height
        and above.width > _LONGER * spot.width
        and 0 < spot.centre[1] - above.centre[1] < _MAX_PITCH * min(spot.height, above.height)
        for above in spots
    )


def _is_margin(spot: Box, sheet: _Sheet) -> bool:
    """Checks whether a line is a running head, a foot line or a page number."""
    height = sheet.rendering.size[1]
    outside = spot.y1 < _MARGIN * height or spot.y0 > (1 - _MARGIN) * height
    return outside or any(
        region.kind in ("header", "footer") and region.confidence > 0.5 and _covers(region.box, spot)
        for region in sheet.regions
    )


def _covers(region: Box, spot: Box) -> bool:
    """Checks whether a region of the layout model covers a line: its boxes are tighter around the letters.

    >>> _covers(Box(80, 68, 152, 80), Box(77, 64, 155, 84)), _covers(Box(80, 68, 90, 80), Box(77, 64, 155, 84))
    (True, False)
    """
    return spot.share_in(region) > 0.6 or (spot.share_in(region) > 0.4 and region.share_in(spot) > 0.9)
