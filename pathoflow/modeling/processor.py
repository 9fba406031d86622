"""Processes images and text as Qwen2.5-VL does, without the video part that needs torchvision."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import torch
from PIL import Image
from transformers.image_utils import make_flat_list_of_images
from transformers.models.qwen2_5_vl import processing_qwen2_5_vl as stock
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.processing_utils import ProcessorMixin

from pathoflow.modeling.tokenizer import IMAGE_PAD, VIDEO_PAD

_VIDEO_PROCESSOR_TYPE = "Qwen2VLVideoProcessor"


class Qwen2_5_VLProcessor(stock.Qwen2_5_VLProcessor):  # type: ignore[misc]  # noqa: N801 (the stock name)
    """Stock processor without videos.

    It bears the stock class's name and writes what the stock class reads, so a checkpoint saved with it loads in
    stock transformers and vLLM.
    """

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str | None = None) -> None:
        self.image_token, self.video_token = IMAGE_PAD, VIDEO_PAD
        self.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_PAD)
        self.video_token_id = tokenizer.convert_tokens_to_ids(VIDEO_PAD)
        self._processed: dict[tuple[bytes, str], Any] = {}
        # The stock constructor insists on a video processor.
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    def _process_images(self, images: Any, **options: Any) -> tuple[dict[str, torch.Tensor], list[str]]:
        """Extracts the patches of each distinct image once, and reuses those of the call before for the same images.

        In reinforcement learning the completions of a question share its image, and TRL wants its patches twice.
        """
        flat = make_flat_list_of_images(images)
        options["return_tensors"] = "pt"
        how = repr(sorted(options.items(), key=lambda option: option[0]))
        digests = {id(image): _digest(image) for image in {id(image): image for image in flat}.values()}
        before, self._processed = self._processed, {}
        for image in flat:
            key = digests[id(image)], how
            if key not in self._processed:
                self._processed[key] = before.get(key) or self.image_processor([image], **options)
        parts = [self._processed[digests[id(image)], how] for image in flat]
        if len(self._processed) == len(flat):
            # Nothing was given twice, and will hardly be given again: large batches would fill the memory.
            self._processed = {}
        processed = {name: torch.cat([part[name] for part in parts]) for name in ("pixel_values", "image_grid_thw")}
        return processed, [self.replace_image_token(processed, number, **options) for number in range(len(flat))]

    def measure(self, texts: Sequence[str], sizes: Sequence[Sequence[tuple[int, int]]]) -> list[tuple[int, list[int]]]:
        """Returns each text's number of tokens, image tokens included, and its images' patches, without reading images.

        Args:
            texts: Rendered texts, in which each image stands as `modeling.tokenizer.IMAGE`.
            sizes: Width and height (in either order) of each text's images.
        """
        processor, measured = self.image_processor, []
        for ids, images in zip(self.tokenizer(list(texts))["input_ids"], sizes, strict=True):
            patches = [int(processor.get_number_of_image_patches(height, width)) for width, height in images]
            # One placeholder of each image was counted.
            num_more = sum(number // processor.merge_size**2 - 1 for number in patches)
            measured.append((len(ids) + num_more, patches))
        return measured

    def to_dict(self) -> dict[str, Any]:
        """Returns the processor as JSON values, with the video part that the stock class looks for."""
        values: dict[str, Any] = super().to_dict()
        image_processor = values["image_processor"]
        video_processor = {key: value for key, value in image_processor.items() if key != "image_processor_type"}
        return values | {"video_processor": {**video_processor, "video_processor_type": _VIDEO_PROCESSOR_TYPE}}


def new_processor(tokenizer: Any, *, max_pixels: int) -> Qwen2_5_VLProcessor:
    """Builds a processor that scales each image to at most `max_pixels` pixels, a multiple of 28 px per side."""
    image_processor = Qwen2VLImageProcessorPil(min_pixels=min(56 * 56, max_pixels), max_pixels=max_pixels)
    return Qwen2_5_VLProcessor(image_processor, tokenizer, chat_template=tokenizer.chat_template)


def _digest(image: Any) -> bytes:
    """Hashes an image's pixels; images in other modes than RGB count as distinct."""
    if not isinstance(image, Image.Image) or image.mode != "RGB":
        return uuid4().bytes
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).digest()
