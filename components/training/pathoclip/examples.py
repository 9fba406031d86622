"""Loads pairs as tensors, and draws each training step's batch and crops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPProcessor

from pathoflow.contract.output import StageOutput
from pathoflow.data.image_io import UnreadableImage, decode
from pathoflow.data.schemas import count_rows, read_rows
from pathoflow.data.trainable.image_checks import MAX_PIXELS
from pathoflow.data.trainable.rows import caption_fault, pair_fault
from pathoflow.data.trainable.text_checks import Fault

CHUNK = 256
COLUMNS = ["pair_id", "image", "width", "height", "caption"]


@dataclass(frozen=True)
class Examples:
    """Pairs of one split, in order.

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
    """Returns the captions of a split that can be learned."""
    return [row["caption"] for row in read_rows(directory, ["caption"]) if not caption_fault(row["caption"])]


def load_examples(
    directory: Path, processor: CLIPProcessor, out: StageOutput, done: Callable[[int], None] = lambda num_rows: None
) -> Examples:
    """Decodes a whole split into memory (150 kB an image at 224 px). Pairs that cannot be learned are quarantined.

    Args:
        directory: A split of the corpus.
        processor: Resizes and crops.
        out: Where pairs are counted and set aside.
        done: Called with the number of pairs looked at so far.
    """
    size = processor.image_processor.crop_size
    pixels = torch.empty((count_rows(directory), 3, size["height"], size["width"]), dtype=torch.uint8)
    captions: list[str] = []
    for num_rows, row in enumerate(read_rows(directory, COLUMNS), start=1):
        seen = preprocess(processor, row)
        if isinstance(seen, Tensor):
            pixels[len(captions)] = seen
            captions.append(row["caption"])
        else:
            out.quarantine(row["pair_id"], *seen)
        out.num_in += 1
        done(num_rows)
    out.num_out += len(captions)
    numbers = {caption: number for number, caption in enumerate(dict.fromkeys(captions))}
    caption_ids = torch.tensor([numbers[caption] for caption in captions], dtype=torch.long)
    return Examples(pixels[: len(captions)], captions, caption_ids)


def preprocess(processor: CLIPProcessor, row: Mapping[str, Any]) -> Tensor | Fault:
    """Returns a pair's image as CLIP sees it, `[3, S, S]`, uint8, or why the pair cannot be learned."""
    if fault := pair_fault(row, with_references=False):
        return fault
    try:
        image = decode(row["image"]["bytes"], max_pixels=MAX_PIXELS)
    except UnreadableImage as error:
        return error.reason, error.detail
    resized = processor.image_processor(image, do_rescale=False, do_normalize=False)
    return torch.from_numpy(np.array(resized["pixel_values"][0]))


def normalised(pixels: Tensor, processor: CLIPProcessor) -> Tensor:
    """Normalises pixels `[B, 3, S, S]` of 0..255 for the model."""
    mean = torch.tensor(processor.image_processor.image_mean, device=pixels.device).view(3, 1, 1)
    deviation = torch.tensor(processor.image_processor.image_std, device=pixels.device).view(3, 1, 1)
    return (pixels.float() / 255 - mean) / deviation


def batch_of(step: int, num_examples: int, batch_size: int, seed: int) -> Tensor:
    """Returns the positions of the examples of step `step` (from 0); a resumed run gets the same.

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
    """Returns a random generator for a key, the same on every machine."""
    seed = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(seed) >> 1)
