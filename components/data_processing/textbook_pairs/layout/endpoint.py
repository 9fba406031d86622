"""Layout by a vision-language model behind an OpenAI-compatible endpoint: the route of the authors' page curation.

Source: Patho-R1's repository, which asks qwen2.5-vl-72b-instruct for regions as JSON. Qwen2.5-VL gives boxes in pixels
of the image that it sees: pages are rendered at sizes that it does not resize (sides multiples of 28 px).
"""

from __future__ import annotations

from typing import Annotated, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from components.data_processing.textbook_pairs.boxes import Box
from components.data_processing.textbook_pairs.layout.regions import Region, sort_by_confidence
from components.data_processing.textbook_pairs.pixels import Pixels
from pathoflow.data.image_io import UnreadableImage, encode_jpeg
from pathoflow.inference.endpoint import Endpoint
from pathoflow.inference.openai_endpoint import OpenAIEndpoint
from pathoflow.inference.protocol import Request

_PROMPT = (
    "The image is a page of a textbook, {width} x {height} pixels. List every region on it with its category and its "
    "box [x0, y0, x1, y1] in pixels, from the upper left to the lower right corner. Categories: text (body text), "
    "title (headings), figure (photographs, micrographs and drawings; all panels of one figure together), "
    "figure_caption, table, table_caption, equation, reference (bibliography), header and footer (running heads, page "
    "numbers, decorations). Answer with JSON only."
)
_JPEG_QUALITY = 92
_MIN_SHARE_ON_PAGE = 0.5


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _FoundRegion(_Answer):
    category: Literal[
        "text",
        "title",
        "figure",
        "figure_caption",
        "table",
        "table_caption",
        "equation",
        "reference",
        "header",
        "footer",
    ]
    bbox_2d: Annotated[list[float], Field(min_length=4, max_length=4)]


class _Regions(_Answer):
    regions: list[_FoundRegion]


class EndpointLayout:
    """Asks a vision-language model for the regions of a page.

    Raises:
        ConfigError: The key that the configuration speaks of is not in the environment.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._engine = OpenAIEndpoint(endpoint)

    def find(self, page: Pixels) -> list[Region]:
        """The regions of a page, all equally certain.

        Raises:
            EndpointUnavailable: The endpoint cannot be reached, stays busy, or refuses this client.
            UnreadableImage: Its answer cannot be used.
        """
        height, width = page.shape[:2]
        question = {"type": "text", "text": _PROMPT.format(width=width, height=height)}
        picture = encode_jpeg(Image.fromarray(page), _JPEG_QUALITY)
        request = Request([{"role": "user", "content": [{"type": "image"}, question]}], [picture], _Regions)
        (response,) = self._engine.generate([request])
        if response.fault is not None:
            raise UnreadableImage("layout_failed", response.fault)
        found = _Regions.model_validate_json(response.text).regions
        regions = [Region(region.category, _box(region.bbox_2d), 1.0) for region in found]
        on_page = [
            region for region in regions if region.box.covered_by(Box(0, 0, width, height)) >= _MIN_SHARE_ON_PAGE
        ]
        if regions and not on_page:
            raise UnreadableImage("layout_failed", f"all {len(regions)} boxes lie outside of {width} x {height} px")
        return sort_by_confidence([region._replace(box=region.box.clipped(width, height)) for region in on_page])


def _box(corners: list[float]) -> Box:
    x0, y0, x1, y1 = corners
    return Box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
