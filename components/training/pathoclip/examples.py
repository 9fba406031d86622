"""Pairs as tensors, and the batches and crops that each training step sees."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from transformers import CLIPProcessor

from pathoflow.schemas import count_rows, read_rows

CHUNK = 256


@dataclass(frozen=True)
class Examples:
    """The pairs of one split, in order.

    Attributes:
        pixels: `[N, 3, S, S]`, uint8: resized and cropped as the processor does, not yet normalised.
        captions: N captions.
        caption_ids: `[N]`, equal for equal captions.
    """

    pixels: Tensor
    captions: list[str]
    caption_ids: Tensor

    def __len__(self) -> int:
        return len(self.captions)


def load_captions(directory: Path) -> list[str]:
    """The captions of a split."""
    return [row["caption"] for row in read_rows(directory, ["caption"])]


def load_examples(directory: Path, processor: CLIPProcessor, done: Callable[[int], None]) -> Examples:
    """Decodes a whole split into memory (150 kB an image at 224 px).

    Args:
        directory: A split of the corpus.
        processor: Resizes and crops.
        done: Called with the number of images decoded so far.
    """
    size = processor.image_processor.crop_size
    pixels = torch.empty((count_rows(directory), 3, size["height"], size["width"]), dtype=torch.uint8)
    captions: list[str] = []
    for place, row in enumerate(read_rows(directory, ["image", "caption"])):
        with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
            resized = processor.image_processor(image.convert("RGB"), do_rescale=False, do_normalize=False)
        pixels[place] = torch.from_numpy(np.array(resized["pixel_values"][0]))
        captions.append(row["caption"])
        done(len(captions))
    numbers = {caption: number for number, caption in enumerate(dict.fromkeys(captions))}
    caption_ids = torch.tensor([numbers[caption] for caption in captions], dtype=torch.long)
    return Examples(pixels, captions, caption_ids)


def normalised(pixels: Tensor, processor: CLIPProcessor) -> Tensor:
    """Pixels `[B, 3, S, S]` of 0..255 as the model wants them."""
    mean = torch.tensor(processor.image_processor.image_mean, device=pixels.device).view(3, 1, 1)
    deviation = torch.tensor(processor.image_processor.image_std, device=pixels.device).view(3, 1, 1)
    return (pixels.float() / 255 - mean) / deviation


def batch_of(step: int, num_examples: int, batch_size: int, seed: int) -> Tensor:
    """The places of the examples that step `step` (from 0) sees; a resumed run sees the same.

    Every epoch is a new permutation; what is left of it when no full batch fits is not used.
    """
    batch_size = min(batch_size, num_examples)
    epoch, place = divmod(step, num_examples // batch_size)
    order = torch.randperm(num_examples, generator=_generator(seed, 0, epoch))
    return order[place * batch_size : (place + 1) * batch_size]


def random_crops(pixels: Tensor, min_share: float, step: int, seed: int) -> Tensor:
    """Crops each image `[B, 3, S, S]` at random and scales the crop back to S.

    A crop keeps the image's shape and shows between `min_share` and all of its area. Nothing is mirrored: captions
    may say left and right.
    """
    generator = _generator(seed, 1, step)
    num = len(pixels)
    shares = torch.rand(num, generator=generator) * (1 - min_share) + min_share
    scale = shares.sqrt()
    shift = (torch.rand(num, 2, generator=generator) * 2 - 1) * (1 - scale)[:, None]
    theta = torch.zeros(num, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = shift
    grid = functional.affine_grid(theta.to(pixels.device), list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels.float(), grid, padding_mode="border", align_corners=False)


def _generator(*key: int) -> torch.Generator:
    """A source of chance of its own for each key, on every machine the same."""
    seed = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed) >> 1)
