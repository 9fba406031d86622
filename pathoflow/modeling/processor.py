"""Qwen2.5-VL's processor for images and text, without the video part that needs torchvision."""

from __future__ import annotations

from typing import Any

from transformers.models.qwen2_5_vl import processing_qwen2_5_vl as stock
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.processing_utils import ProcessorMixin

from pathoflow.modeling.tokenizer import IMAGE_PAD, VIDEO_PAD

_VIDEO_PROCESSOR_TYPE = "Qwen2VLVideoProcessor"


class Qwen2_5_VLProcessor(stock.Qwen2_5_VLProcessor):  # type: ignore[misc]  # noqa: N801 (the stock name)
    """The stock processor for images alone.

    It bears the stock class's name and writes what the stock class reads, so a checkpoint saved with it loads in
    stock transformers and vLLM.
    """

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str | None = None) -> None:
        self.image_token, self.video_token = IMAGE_PAD, VIDEO_PAD
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_PAD)
        self.video_token_id = tokenizer.convert_tokens_to_ids(VIDEO_PAD)
        # The stock constructor insists on a video processor.
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    def to_dict(self) -> dict[str, Any]:
        """The processor as JSON values, with the video part that the stock class looks for."""
        values: dict[str, Any] = super().to_dict()
        image_processor = values["image_processor"]
        video_processor = {key: value for key, value in image_processor.items() if key != "image_processor_type"}
        return values | {"video_processor": {**video_processor, "video_processor_type": _VIDEO_PROCESSOR_TYPE}}


def new_processor(tokenizer: Any, *, max_pixels: int) -> Qwen2_5_VLProcessor:
    """A processor that scales each image to at most `max_pixels` pixels, a multiple of 28 px per side."""
    image_processor = Qwen2VLImageProcessorPil(min_pixels=min(56 * 56, max_pixels), max_pixels=max_pixels)
    return Qwen2_5_VLProcessor(image_processor, tokenizer, chat_template=tokenizer.chat_template)
