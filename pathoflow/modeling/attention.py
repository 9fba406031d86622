"""Computes attention within each sample of a packed sequence.

No mask is built and no attention between samples is computed: on a GPU PyTorch's variable-length kernel gets the
samples' boundaries, on a CPU each run of equally long samples is one call of the usual kernel.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils import is_flash_attn_2_available

SEGMENTS = "flash_segments"
"""The name under which transformers finds it. Qwen2.5-VL's vision tower hands over the boundaries of its windows,
instead of calling once per window, only to implementations that have `flash` in their name."""


def use_segment_attention(model: Any) -> None:
    """Makes `model` attend within samples: by FlashAttention where it is installed, by this module elsewhere."""
    installed = is_flash_attn_2_available() and torch.cuda.is_available()
    name = "flash_attention_2" if installed else SEGMENTS
    config = model.config
    for part in (config, config.text_config, config.vision_config):
        # The public setter would look for FlashAttention because of the name.
        part._attn_implementation_internal = name


def segment_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    max_length_q: int | None = None,
    **rest: Any,
) -> tuple[torch.Tensor, None]:
    """Computes attention of queries `[1, H, T, D]` to keys and values `[1, K, T, D]` of their segment: `[1, T, H, D]`.

    Without boundaries (`cu_seq_lens_q` `[N + 1]`) it is transformers' usual attention with its mask.
    """
    if cu_seq_lens_q is None:
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, is_causal=is_causal, **rest
        )
        return output, None
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    if query.is_cuda and (dtype := _half_precision(query)) is not None:
        assert max_length_q is not None
        return _varlen(query.to(dtype), key.to(dtype), value.to(dtype), cu_seq_lens_q, max_length_q, scaling, causal)
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    return _by_runs(query, key, value, cu_seq_lens_q, scaling, causal), None


def run_lengths(lengths: list[int]) -> list[tuple[int, int]]:
    """Returns neighbours of equal length as (how many, how long each).

    >>> run_lengths([5, 5, 3, 5])
    [(2, 5), (1, 3), (1, 5)]
    """
    return [(len(list(run)), length) for length, run in groupby(lengths)]


def _by_runs(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    boundaries: torch.Tensor,
    scaling: float | None,
    causal: bool,
) -> torch.Tensor:
    runs = run_lengths(boundaries.diff().tolist())
    sizes = [number * length for number, length in runs]
    parts = zip(*(tensor.split(sizes, dim=2) for tensor in (query, key, value)), strict=True)
    outputs = []
    for (number, length), part in zip(runs, parts, strict=True):
        # [1, H, number · length, D] → [number, H, length, D]
        q, k, v = (x[0].unflatten(1, (number, length)).transpose(0, 1) for x in part)
        output = functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scaling)
        outputs.append(output.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs).unsqueeze(0)


def _varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    boundaries: torch.Tensor,
    longest: int,
    scaling: float | None,
    causal: bool,
) -> tuple[torch.Tensor, None]:
    # Only builds of PyTorch for GPUs need it, and it is younger than the oldest PyTorch that the rest runs on.
    from torch.nn.attention.varlen import varlen_attn

    q, k, v = (tensor[0].transpose(0, 1).contiguous() for tensor in (query, key, value))
    boundaries = boundaries.to(torch.int32)
    window = (-1, 0) if causal else (-1, -1)
    grouped = q.shape[1] != k.shape[1]
    output = varlen_attn(
        q, k, v, boundaries, boundaries, longest, longest, scale=scaling, window_size=window, enable_gqa=grouped
    )
    return output.unsqueeze(0), None


def _half_precision(query: torch.Tensor) -> torch.dtype | None:
    """Returns the half precision to compute in; None if the model computes in float32."""
    if query.dtype in (torch.bfloat16, torch.float16):
        return query.dtype
    # Rotary positions turn queries into float32 under autocast.
    return torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None


AttentionInterface.register(SEGMENTS, segment_attention)
AttentionMaskInterface.register(SEGMENTS, sdpa_mask)
