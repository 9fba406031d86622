"""Sends an image that is seen several times through the vision tower once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict, defaultdict
from types import TracebackType
from typing import Any, Self

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

DEFAULT_KEPT_TOKENS = 65_536
"""Image tokens whose features are kept: 0.5 GB of a model of 7 B parameters in bfloat16."""


class VisionFeatureCache:
    """Stands before a vision tower, so that equal images of one call go through it once.

    What comes out, and the gradients that come back, are what they would be without, up to rounding. With
    `kept_tokens`, features are also kept from call to call: only for weights that do not change meanwhile, and not
    where they are spread over processes (ZeRO-3), which must all call the tower equally often.

    Args:
        tower: The vision tower, merger included.
        kept_tokens: Image tokens whose features are kept, the least recently used ones being dropped.
    """

    def __init__(self, tower: Any, kept_tokens: int = 0) -> None:
        self._tower = tower
        self._forward: Any = None
        self._replaced: Any = None
        self._kept_tokens = kept_tokens
        self._kept: OrderedDict[bytes, torch.Tensor] = OrderedDict()

    def install(self) -> None:
        """Takes the place of the tower's `forward`."""
        self._replaced = self._tower.__dict__.get("forward")
        self._forward, self._tower.forward = self._tower.forward, self._features

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._replaced is None:
            # The class has one.
            del self._tower.forward
        else:
            self._tower.forward = self._replaced

    def _features(self, pixels: torch.Tensor, grid_thw: torch.Tensor, **options: Any) -> Any:
        sizes = grid_thw.prod(dim=1).tolist()
        images = pixels.split(sizes)
        first = _first_alike(images, grid_thw.tolist())
        distinct = sorted(set(first))
        keys = {number: _digest(images[number], grid_thw[number]) for number in distinct if self._kept_tokens}
        features = {number: self._kept[key] for number, key in keys.items() if key in self._kept}
        missing = [number for number in distinct if number not in features]
        if len(missing) == len(first) and not self._kept_tokens:
            return self._forward(pixels, grid_thw=grid_thw, **options)
        output = BaseModelOutputWithPooling()
        if missing:
            given = torch.cat([images[number] for number in missing])
            output = self._forward(given, grid_thw=grid_thw[missing], **options)
            num_tokens = [sizes[number] // self._tower.spatial_merge_unit for number in missing]
            features.update(zip(missing, output.pooler_output.split(num_tokens), strict=True))
        self._keep({key: features[number] for number, key in keys.items()})
        output.pooler_output = torch.cat([features[number] for number in first])
        # In the order of windows; the model has no use for it.
        output.last_hidden_state = None
        return output

    def _keep(self, features: dict[bytes, torch.Tensor]) -> None:
        for key, tokens in features.items():
            if key not in self._kept:
                # A part alone would hold the memory of the whole batch.
                self._kept[key] = tokens.detach().clone()
            self._kept.move_to_end(key)
        num_tokens = sum(len(tokens) for tokens in self._kept.values())
        while num_tokens > self._kept_tokens:
            num_tokens -= len(self._kept.popitem(last=False)[1])


def vision_tower(model: torch.nn.Module) -> Any:
    """Returns the vision tower inside a model, adapters or not; None if it has none."""
    towers = (module for module in model.modules() if isinstance(module, Qwen2_5_VisionTransformerPretrainedModel))
    return next(towers, None)


def _digest(patches: torch.Tensor, grid: torch.Tensor) -> bytes:
    content = patches.detach().float().cpu().contiguous().numpy()
    return hashlib.sha256(repr(grid.tolist()).encode() + content.tobytes()).digest()


def _first_alike(images: tuple[torch.Tensor, ...], grids: list[list[int]]) -> list[int]:
    """Returns for each image the number of the first that has the same patches."""
    sums = torch.stack([image.double().sum() for image in images]).tolist()
    alike: dict[tuple[float, ...], list[int]] = defaultdict(list)
    first = []
    for number, (image, grid, total) in enumerate(zip(images, grids, sums, strict=True)):
        earlier = alike[total, *grid]
        found = next((other for other in earlier if torch.equal(images[other], image)), number)
        if found == number:
            earlier.append(number)
        first.append(found)
    return first
