"""Configuration of the `textbook_pairs` stage."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from components.data_processing.textbook_pairs.pages.listing import book_files
from pathoflow.contract.config import StageConfig
from pathoflow.errors import InputError
from pathoflow.inference.endpoint import Endpoint


class TextbookPairsConfig(StageConfig):
    """Settings of the way from pages to panel–caption pairs."""

    stage: ClassVar[str] = "textbook_pairs"
    inputs: ClassVar[tuple[str, ...]] = ("teaching_atlas",)
    key_metric: ClassVar[str | None] = "num_pairs"
    can_shard: ClassVar[bool] = True

    max_quarantine_share: float = Field(
        default=0.5,
        ge=0.0,
        le=1.0,
        description="Largest share of the pages that may be unreadable before the stage fails.",
    )
    books: tuple[Path, ...] = Field(
        default=(),
        description="The user's own books: PDFs, page images, or folders of them.",
    )
    use_atlas: bool = Field(
        default=True,
        description="Whether the books of the teaching atlas are read too.",
    )
    layout_pixels: int = Field(
        default=1280 * 28**2,
        ge=100 * 28**2,
        le=4 * 1280 * 28**2,
        description="Largest area of a rendered page in pixels, sides multiples of 28. Boxes are given at this size.",
    )
    crop_scale: int = Field(
        default=2,
        ge=1,
        le=4,
        description="Crops and text are taken from a rendering this many times as large per side.",
    )
    max_source_pixels: int = Field(
        default=120_000_000,
        ge=1_000_000,
        le=170_000_000,
        description="Largest page image, or image on a PDF page, that is decoded, in pixels.",
    )
    use_text_layer: bool = Field(
        default=True,
        description="Whether the text that a PDF carries takes the place of OCR on pages where it is sound.",
    )
    layout: Literal["cdla", "doclayout_yolo", "endpoint"] = Field(
        default="cdla",
        description="Finds the regions of a page: the bundled model, a DocLayout-YOLO file or a vision-language model.",
    )
    layout_model: Path | None = Field(
        default=None,
        description="The ONNX file of DocLayout-YOLO; its weights (AGPL) are not shipped.",
    )
    layout_endpoint: Endpoint | None = Field(
        default=None,
        description="The vision-language model of `layout: endpoint`; the authors asked qwen2.5-vl-72b-instruct. Each "
        "of the num_workers processes asks it for one page at a time.",
    )
    layout_confidence: float = Field(
        default=0.23,
        gt=0.0,
        lt=1.0,
        description="Least confidence of a region that the layout model finds.",
    )
    min_figure_px: int = Field(
        default=56,
        ge=8,
        le=1000,
        description="Least width and height of a figure, in pixels of the rendered page.",
    )
    min_panel_px: int = Field(
        default=40,
        ge=8,
        le=1000,
        description="Least width and height of a panel, in pixels of the rendered page.",
    )
    keep_graphics: tuple[Literal["chart", "line_art"], ...] = Field(
        default=(),
        description="Graphics that are taken for figures like photographs: `chart`, `line_art` (drawings, diagrams).",
    )
    max_caption_distance: float = Field(
        default=0.08,
        gt=0.0,
        le=0.5,
        description="Largest gap between a figure and its caption, as a share of the page's height.",
    )
    neighbour_pages: int = Field(
        default=1,
        ge=0,
        le=5,
        description="How many pages before and after a figure are searched for sentences that refer to it.",
    )
    references_endpoint: Endpoint | None = Field(
        default=None,
        description="Finds the sentences that refer to a figure without its number, by a language model; the authors "
        "asked qwen-max. Null: they are not looked for.",
    )
    jpeg_quality: int = Field(
        default=92,
        ge=50,
        le=100,
        description="JPEG quality of the cropped panels.",
    )
    num_workers: int = Field(
        default=2,
        ge=1,
        le=64,
        description="Processes that read pages at the same time, one thread each; the output does not depend on it.",
    )
    contact_pages: int = Field(
        default=24,
        ge=0,
        le=500,
        description="How many pages contact_sheet.html shows its reviewers, spread over all that have figures or "
        "rejected regions; about 100 KB each.",
    )
    contact_width_px: int = Field(
        default=700,
        ge=200,
        le=2000,
        description="Width of a page in contact_sheet.html, in pixels.",
    )
    num_plots: int = Field(
        default=4,
        ge=0,
        le=100,
        description="How many of the pages with figures are drawn with their boxes.",
    )

    def external_files(self) -> list[Path]:
        """Every file at or below `books`, and the layout model's file.

        Raises:
            InputError: A path does not exist, or a folder holds no page.
        """
        models = [self.layout_model] if self.layout == "doclayout_yolo" and self.layout_model else []
        if missing := [path for path in models if not path.is_file()]:
            raise InputError(f"{missing[0]} does not exist. layout_model names the ONNX file of DocLayout-YOLO.")
        return [*book_files(self.books), *models]

    @model_validator(mode="after")
    def _layout_is_complete(self) -> Self:
        if self.layout == "doclayout_yolo" and self.layout_model is None:
            raise ValueError("layout: doclayout_yolo needs layout_model, the path of the ONNX file")
        if self.layout == "endpoint" and not self.layout_endpoint:
            raise ValueError("layout: endpoint needs layout_endpoint with its url and model")
        return self
