"""Measures how well captions retrieve their images and images their captions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import CLIPModel, CLIPProcessor

from components.training.pathoclip.contrastive import tokenize
from components.training.pathoclip.examples import CHUNK, Examples, normalised

CUTOFFS = (1, 5, 10, 20)


def embed(model: CLIPModel, processor: CLIPProcessor, examples: Examples) -> tuple[Tensor, Tensor]:
    """Returns unit embeddings `[N, D]` of the images and of the captions, on the CPU."""
    model.eval()
    images, texts = [], []
    for start in range(0, len(examples), CHUNK):
        chunk = slice(start, start + CHUNK)
        pixels = normalised(examples.pixels[chunk].to(model.device), processor)
        tokens = tokenize(processor, examples.captions[chunk]).to(model.device)
        with torch.no_grad():
            output = model(**tokens, pixel_values=pixels)
        images.append(output.image_embeds.cpu())
        texts.append(output.text_embeds.cpu())
    return torch.cat(images), torch.cat(texts)


def ranks(queries: Tensor, candidates: Tensor, caption_ids: Tensor) -> Tensor:
    """Returns the rank, from 1, of the best positive of each query among all candidates.

    Every candidate with the query's caption is a positive. One that ties with a wrong candidate ranks behind it, so
    that a model that gives everything the same score finds nothing.

    Args:
        queries: `[N, D]`, unit length.
        candidates: `[N, D]`, unit length, in the same order.
        caption_ids: `[N]`, equal for equal captions.
    """
    found = []
    for start in range(0, len(queries), CHUNK):
        similarity = queries[start : start + CHUNK] @ candidates.T
        positive = caption_ids[start : start + CHUNK, None] == caption_ids[None, :]
        best = similarity.masked_fill(~positive, -torch.inf).amax(dim=1, keepdim=True)
        found.append(((similarity >= best) & ~positive).sum(dim=1) + 1)
    return torch.cat(found)


def recalls(images: Tensor, texts: Tensor, caption_ids: Tensor) -> dict[str, float]:
    """Computes recall at each cutoff, from text to image, from image to text, and the mean of both."""
    directions = {
        "text_to_image": ranks(texts, images, caption_ids),
        "image_to_text": ranks(images, texts, caption_ids),
    }
    figures: dict[str, float] = {}
    for cutoff in CUTOFFS:
        shares = {name: (rank <= cutoff).double().mean().item() for name, rank in directions.items()}
        figures |= {f"{name}_recall_at_{cutoff}": share for name, share in shares.items()}
        figures[f"recall_at_{cutoff}"] = sum(shares.values()) / len(shares)
    return figures


def chance_at_1(caption_ids: Sequence[int]) -> float:
    """Returns Recall@1 of a random order: the mean over queries of the share of candidates that are positives.

    >>> chance_at_1([0, 0, 1, 2])
    0.375
    """
    num = len(caption_ids)
    sizes = [caption_ids.count(number) for number in set(caption_ids)]
    return sum(size * size for size in sizes) / (num * num)
