"""Computes the multimodal rotary positions (M-RoPE) of one sample, in data workers that have no model."""

from __future__ import annotations

import torch


def multimodal_positions(
    input_ids: torch.Tensor, grids: torch.Tensor | None, image_token_id: int, merge_size: int
) -> torch.Tensor:
    """Returns the positions `[3, L]` (time, row, column) of the tokens `[L]` of one sample that begins at 0.

    What the model itself would find (`get_rope_index`), without the model: data workers have none.

    Args:
        input_ids: Token ids; each image's tokens stand together.
        grids: Time, rows and columns of patches of each image, `[N, 3]`.
        image_token_id: Marks an image's place.
        merge_size: Patches per side of an image's token.
    """
    parts, next_position, cursor = [], 0, 0
    is_image = input_ids == image_token_id
    for grid in [] if grids is None else grids:
        time, rows, columns = (int(grid[0]), int(grid[1]) // merge_size, int(grid[2]) // merge_size)
        start = cursor + int(is_image[cursor:].int().argmax())
        parts.append(_text(start - cursor, next_position))
        next_position += start - cursor
        axes = torch.meshgrid(torch.arange(time), torch.arange(rows), torch.arange(columns), indexing="ij")
        parts.append(torch.stack(axes).flatten(1) + next_position)
        next_position += max(rows, columns)
        cursor = start + time * rows * columns
    parts.append(_text(len(input_ids) - cursor, next_position))
    return torch.cat(parts, dim=1)


def _text(length: int, start: int) -> torch.Tensor:
    return torch.arange(start, start + length).expand(3, -1)
