"""Reads one page: its figures, cut into panels with their captions, and its body text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from components.data_processing.textbook_pairs.boxes import Box, union
from components.data_processing.textbook_pairs.captions.blocks import CaptionBlock, find_captions, find_table_titles
from components.data_processing.textbook_pairs.captions.matching import match_captions
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
from components.data_processing.textbook_pairs.layout.models import layout_model
from components.data_processing.textbook_pairs.layout.regions import Region
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
from components.data_processing.textbook_pairs.text.paragraphs import join_paragraphs
from components.data_processing.textbook_pairs.text.text_layer import TextLayer, find_text_layer
from pathoflow.data.image_io import UnreadableImage, encode_jpeg

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
        self._layout_model = layout_model(config)
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
        ink = find_ink(rendering.cleaned)
        if not may_hold_pictures(ink, self.config.min_figure_px):
            # Most pages of most books are prose, and the layout model would tell nothing new of them.
            return _without_pictures(rendering), {}
        layout = self._analyze_layout(page, rendering, ink)
        boxes = [picture.box for picture in layout.pictures if not picture.rejected]
        rejected = [picture for picture in layout.pictures if picture.rejected]
        if not boxes:
            return self._build_record(layout, [], rejected, None), {}
        line_boxes = self._find_lines(layout, boxes)
        near = [line_box for line_box in line_boxes if self._is_near_picture(line_box, boxes, layout)]
        lines = self._read(near, layout)
        read_all = any(is_caption_start(line.text) for line in lines)
        if read_all:
            lines += self._read([line_box for line_box in line_boxes if line_box not in near], layout)
        matches = self._match_captions(layout, boxes, lines)
        found = [picture for _, group in matches for picture in group]
        orphans = [box for box in boxes if box not in found]
        figures: list[Figure] = []
        crops: dict[str, bytes] = {}
        for block, group in matches:
            if group:
                figures.append(self._cut_figure(layout, block, group, f"{crop_prefix}-{len(figures)}", crops))
        above = None if overleaf is None else self._caption_overleaf(layout, orphans, found, line_boxes, overleaf)
        if above is not None:
            prefix = f"{crop_prefix}-{len(figures)}"
            figures.append(
                self._cut_figure(layout, above, orphans, prefix, crops).model_copy(update={"overleaf": True})
            )
            orphans = []
        rejected += [Picture(box, "no_caption") for box in orphans]
        if not read_all:
            return self._build_record(layout, figures, rejected, None), crops
        return self._build_record(layout, figures, rejected, self._paragraphs(layout, lines)), crops

    def read_text(self, page: Page, seen: Seen) -> Text:
        """Reads the text of a page whose figures are known.

        Raises:
            UnreadableImage: The page cannot be read.
        """
        rendering = self._render(page, seen)
        no_ink = np.zeros(rendering.coarse.shape[:2], dtype=bool)
        if seen.regions is None:
            # Nothing there is thick or drawn: what counts is where the layout model sees text and tables.
            layout = self._analyze_layout(page, rendering, no_ink)
        else:
            layout = _PageLayout(page, rendering, seen.regions, no_ink, seen.pictures)
        graphics = [picture.box for picture in layout.pictures if picture.rejected not in ("line_art", "too_small")]
        line_boxes = self._find_lines(layout, graphics)
        lines = self._read([line_box for line_box in line_boxes if not _is_margin(line_box, layout)], layout)
        return Text(paragraphs=self._paragraphs(layout, lines), text_source=layout.text_source)

    def _paragraphs(self, layout: _PageLayout, lines: Sequence[Line]) -> list[str]:
        """Returns the body text: no captions, no words in tables and charts, no running heads."""
        aside = {line for block in find_captions(lines, layout.regions) for line in block.lines}
        aside.update(find_table_titles(lines))
        graphics = [picture.box for picture in layout.pictures if picture.rejected in _GRAPHICS_WITH_WORDS]
        body = [
            line
            for line in lines
            if line not in aside
            and not _is_margin(line.box, layout)
            and not any(line.box.covered_by(box) > _INSIDE for box in graphics)
        ]
        return join_paragraphs(body)

    def _match_captions(
        self, layout: _PageLayout, boxes: Sequence[Box], lines: Sequence[Line]
    ) -> list[tuple[CaptionBlock, list[Box]]]:
        """Returns the captions of a page, each with the pictures that belong to it."""
        captions = find_captions(lines, layout.regions)
        free = [line for line in lines if all(line not in block.lines for block in captions)]
        # A chart has its caption too, which must not go to the photograph beside it.
        others = [
            _include_words(picture.box, free)
            for picture in layout.pictures
            if picture.rejected and picture.rejected not in _NO_PICTURES
        ]
        reach = self.config.max_caption_distance * layout.rendering.size[1]
        groups = match_captions(captions, [*boxes, *others], lines, layout.regions, reach)
        return [(block, [box for box in group if box in boxes]) for block, group in groups]

    def _caption_overleaf(
        self,
        layout: _PageLayout,
        orphans: Sequence[Box],
        found: Sequence[Box],
        line_boxes: Sequence[Box],
        overleaf: Page,
    ) -> CaptionBlock | None:
        """Finds a caption at the top of the next page, if the remaining pictures end this page without one."""
        if not orphans:
            return None
        whole = union(orphans)
        below = [line_box for line_box in line_boxes if line_box.y0 > whole.y1 and not _is_margin(line_box, layout)]
        own_labels = [line_box for line_box in below if line_box.width < _LABEL_SHARE * layout.rendering.size[0]]
        if len(below) > len(own_labels) or any(box.covered_by(whole) > 0 for box in found):
            return None
        try:
            rendering = self._render(overleaf)
            after = self._analyze_layout(overleaf, rendering, find_ink(rendering.cleaned))
        except UnreadableImage:
            return None
        boxes = [picture.box for picture in after.pictures if not picture.rejected]
        line_boxes = self._below_head(after, self._find_lines(after, boxes))
        top = sorted(line_boxes, key=lambda line_box: line_box.y0)[:_LINES_AT_TOP]
        if not any(is_caption_start(line.text) for line in self._read(top, after)):
            return None
        lines = self._read(line_boxes, after)
        first = min(line.box.y0 for line in lines)
        height = float(np.median([line.box.height for line in lines]))
        for block, group in self._match_captions(after, boxes, lines):
            others = [picture.box for picture in after.pictures if picture.rejected not in _NO_PICTURES]
            beneath = any(box.y0 < block.box.y0 for box in others)
            if not group and block.caption.number and block.box.y0 - first < height and not beneath:
                return block
        return None

    def _below_head(self, layout: _PageLayout, line_boxes: Sequence[Box]) -> list[Box]:
        """Returns the lines but running head and foot; the layout model may take a caption for a head."""
        body = [line_box for line_box in line_boxes if not _is_margin(line_box, layout)]
        first = min((line_box.y0 for line_box in body), default=0.0)
        above = (line_box for line_box in line_boxes if _is_margin(line_box, layout) and line_box.y0 < first)
        head = sorted(above, key=lambda line_box: line_box.y0)
        for at, line_box in enumerate(head):
            if any(is_caption_start(line.text) for line in self._read([line_box], layout)):
                return [*head[at:], *body]
        return body

    def _analyze_layout(self, page: Page, rendering: Rendering, ink: Mask) -> _PageLayout:
        regions = self._layout_model.find(rendering.cleaned)
        pictures = [
            picture._replace(rejected="") if picture.rejected in self.config.keep_graphics else picture
            for picture in find_pictures(rendering.cleaned, ink, regions, self.config.min_figure_px)
        ]
        return _PageLayout(page, rendering, regions, ink, pictures)

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

    def _find_lines(self, layout: _PageLayout, pictures: Sequence[Box]) -> list[Box]:
        """Finds lines of text, with pictures painted over: the text model joins text to what it finds in them.

        A PDF that carries sound text says itself where its lines are.
        """
        layout.layer = self._find_layer(layout)
        if not layout.layer.refused:
            boxes = [line.box for line in layout.layer.lines]
            return [box for box in boxes if not any(box.covered_by(picture) > _INSIDE for picture in pictures)]
        page = layout.rendering.cleaned.copy()
        paper = np.median(page[::8, ::8], axis=(0, 1)).astype(np.uint8)
        for picture in pictures:
            x0, y0, x1, y1 = picture.clipped(*layout.rendering.size).pixel_bounds()
            page[y0:y1, x0:x1] = paper
        return self._text.find_lines(page)

    def _is_near_picture(self, line_box: Box, pictures: Sequence[Box], layout: _PageLayout) -> bool:
        """Checks whether a line may begin the caption of a picture."""
        reach = self.config.max_caption_distance * layout.rendering.size[1]
        return any(line_box.covered_by(picture.expanded(reach)) > 0 for picture in pictures) or any(
            region.kind == "figure_caption" and line_box.covered_by(region.box) > 0.5 for region in layout.regions
        )

    def _find_layer(self, layout: _PageLayout) -> TextLayer:
        if not self.config.use_text_layer:
            return TextLayer([], "not_wanted")
        return find_text_layer(
            layout.page, layout.rendering, layout.regions, lambda box: self._text.read(layout.rendering.crop(box))[0]
        )

    def _read(self, line_boxes: Sequence[Box], layout: _PageLayout) -> list[Line]:
        """Reads the lines of text in boxes, without labels that stand beside panels."""
        if layout.layer is not None and not layout.layer.refused:
            wanted = set(line_boxes)
            lines = [line for line in layout.layer.lines if line.box in wanted]
        else:
            readings = [(line_box, *self._text.read(layout.rendering.crop(line_box))) for line_box in line_boxes]
            lines = [
                Line(line_box, text) for line_box, text, sure in readings if text and sure >= _MIN_READING_CONFIDENCE
            ]
        return [line for line in lines if not labels.parse_label(line.text) or _ends_paragraph(line.box, line_boxes)]

    def _cut_figure(
        self, layout: _PageLayout, block: CaptionBlock, group: Sequence[Box], prefix: str, crops: dict[str, bytes]
    ) -> Figure:
        """Builds the figure of one caption, and adds its panels' crops to `crops`."""
        caption = block.caption
        cut = cut_figure(layout.rendering, layout.ink, group, caption, self.config.min_panel_px, self._text.read)
        panels = []
        for number, (box, name) in enumerate(zip(cut.boxes, cut.names, strict=True)):
            crop = f"{prefix}-{number}.jpg"
            crops[crop] = encode_jpeg(Image.fromarray(layout.rendering.crop(box)), self.config.jpeg_quality)
            text = caption.text_for(name) if name in caption.parts else caption.text
            panels.append(Panel(label=name, box=layout.rendering.to_page(box), caption=text, crop=crop))
        return Figure(
            number=caption.number,
            caption_box=layout.rendering.to_page(block.box),
            panels=panels,
            kept_whole=cut.kept_whole,
            labels_from=cut.labels_from,
        )

    @staticmethod
    def _build_record(
        layout: _PageLayout, figures: list[Figure], rejected: Sequence[Picture], body: list[str] | None
    ) -> PageRecord:
        width, height = layout.rendering.size
        return PageRecord(
            width=width,
            height=height,
            figures=figures,
            rejected=[
                Rejected(box=layout.rendering.to_page(picture.box), reason=picture.rejected) for picture in rejected
            ],
            paragraphs=body,
            seen=_build_seen(layout.rendering, layout.regions, layout.pictures),
            text_source=layout.text_source,
        )


def _without_pictures(rendering: Rendering) -> PageRecord:
    """Builds the record of a page that the layout model was not asked about."""
    width, height = rendering.size
    seen = _build_seen(rendering, None, [])
    return PageRecord(width=width, height=height, figures=[], rejected=[], paragraphs=None, seen=seen)


def _build_seen(rendering: Rendering, regions: list[Region] | None, pictures: list[Picture]) -> Seen:
    return Seen(
        regions=regions,
        pictures=pictures,
        skew_degrees=rendering.skew_degrees,
        is_clean=rendering.cleaned is rendering.coarse,
    )


@dataclass
class _PageLayout:
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


def _include_words(graphic: Box, lines: Sequence[Line]) -> Box:
    """Extends a graphic by the words at its edges, such as the numbers along an axis.

    >>> years, caption = Line(Box(60, 105, 190, 120), "2012 2013"), Line(Box(50, 130, 190, 145), "Fig. 3. Cases")
    >>> _include_words(Box(50, 0, 200, 100), [years, caption])
    Box(x0=50, y0=0, x1=200, y1=120)
    """
    words = [
        line.box
        for line in lines
        if line.box.width <= graphic.width and line.box.covered_by(graphic.expanded(line.box.height)) > _INSIDE
    ]
    return union([graphic, *words])


def _ends_paragraph(line_box: Box, line_boxes: Sequence[Box]) -> bool:
    """Checks whether a line is the last word of a paragraph: right under the start of a longer line, no label."""
    return any(
        abs(line_box.x0 - above.x0) < line_box.height
        and above.width > _LONGER * line_box.width
        and 0 < line_box.centre[1] - above.centre[1] < _MAX_PITCH * min(line_box.height, above.height)
        for above in line_boxes
    )


def _is_margin(line_box: Box, layout: _PageLayout) -> bool:
    """Checks whether a line is a running head, a foot line or a page number."""
    height = layout.rendering.size[1]
    outside = line_box.y1 < _MARGIN * height or line_box.y0 > (1 - _MARGIN) * height
    return outside or any(
        region.kind in ("header", "footer") and region.confidence > 0.5 and _covers(region.box, line_box)
        for region in layout.regions
    )


def _covers(region: Box, line_box: Box) -> bool:
    """Checks whether a region of the layout model covers a line: its boxes are tighter around the letters.

    >>> _covers(Box(80, 68, 152, 80), Box(77, 64, 155, 84)), _covers(Box(80, 68, 90, 80), Box(77, 64, 155, 84))
    (True, False)
    """
    return line_box.covered_by(region) > 0.6 or (
        line_box.covered_by(region) > 0.4 and region.covered_by(line_box) > 0.9
    )
