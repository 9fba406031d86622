"""The completions of a question share its image: the vision tower sees it once for all of them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch


class SeenOnce:
    """Hooks of a vision tower, by which images that stand in a batch more than once go through it once.

    What comes out, and the gradients that come back, are what they would be without, up to rounding.

    Args:
        tower: The vision tower, merger included.
    """

    def __init__(self, tower: torch.nn.Module) -> None:
        self._order: list[int] = []
        self._sizes: list[int] = []
        tower.register_forward_pre_hook(self._before, with_kwargs=True)
        tower.register_forward_hook(self._after)

    def _before(
        self, tower: Any, arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        (pixels,), grids = arguments, options["grid_thw"]
        sizes = grids.prod(dim=1).tolist()
        images = pixels.split(sizes)
        first = _first_alike(images, grids.tolist())
        distinct = sorted(set(first))
        self._order = [distinct.index(number) for number in first] if len(distinct) < len(first) else []
        if not self._order:
            return None
        self._sizes = [sizes[number] // tower.spatial_merge_unit for number in distinct]
        return (torch.cat([images[number] for number in distinct]),), options | {"grid_thw": grids[distinct]}

    def _after(self, tower: Any, arguments: tuple[Any, ...], output: Any) -> Any:
        if self._order:
            tokens = output.pooler_output.split(self._sizes)
            output.pooler_output = torch.cat([tokens[number] for number in self._order])
            # In the order of windows; the model has no use for it.
            output.last_hidden_state = None
        return output


def _first_alike(images: tuple[torch.Tensor, ...], grids: list[list[int]]) -> list[int]:
    """Of each image the number of the first that has the same patches."""
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
