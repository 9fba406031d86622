"""Attention within segments: the same from every kernel, here with stand-ins for those that need a GPU."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from pathoflow.modeling import attention
from pathoflow.modeling.attention import SEGMENTS, segment_attention, use_segment_attention

LENGTHS = [5, 5, 3, 9]
BOUNDARIES = torch.tensor([0, *torch.tensor(LENGTHS).cumsum(0)], dtype=torch.int32)


def heads(number: int, seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, number, sum(LENGTHS), 8, generator=generator).to(dtype)


def by_mask(query, key, value, causal):
    """One call for all, with a mask of blocks, as the definition has it."""
    segment = torch.arange(len(LENGTHS)).repeat_interleave(torch.tensor(LENGTHS))
    allowed = segment[:, None] == segment[None, :]
    if causal:
        allowed &= torch.ones_like(allowed).tril()
    groups = query.shape[1] // key.shape[1]
    key, value = (tensor.repeat_interleave(groups, dim=1) for tensor in (key, value))
    return functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed).transpose(1, 2)


def attend(query, key, value, causal):
    module = torch.nn.Module()
    output, _ = segment_attention(
        module, query, key, value, None, is_causal=causal, cu_seq_lens_q=BOUNDARIES, max_length_q=max(LENGTHS)
    )
    return output


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("num_keys", [4, 2])
def test_segments_do_not_see_each_other(causal, num_keys):
    query, key, value = heads(4, 0), heads(num_keys, 1), heads(num_keys, 2)
    assert torch.allclose(attend(query, key, value, causal), by_mask(query, key, value, causal), atol=1e-6)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("num_keys", [4, 2])
def test_the_kernel_of_variable_length_is_asked_for_the_same(monkeypatch, causal, num_keys):
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    signature = inspect.signature(varlen.varlen_attn)

    def stand_in(*arguments, **options):
        """Takes what the kernel takes and computes what it says that it computes."""
        given = signature.bind(*arguments, **options)
        given.apply_defaults()
        given = given.arguments
        assert given["query"].is_contiguous()
        assert given["cu_seq_q"].dtype == torch.int32
        assert given["enable_gqa"] == (num_keys != 4)
        assert given["max_q"] == given["max_k"] == max(LENGTHS)
        parts = []
        for start, end in zip(given["cu_seq_q"][:-1].tolist(), given["cu_seq_q"][1:].tolist(), strict=True):
            q, k, v = (given[name][start:end].transpose(0, 1) for name in ("query", "key", "value"))
            is_causal = given["window_size"] == (-1, 0)
            part = functional.scaled_dot_product_attention(
                q, k, v, is_causal=is_causal, scale=given["scale"], enable_gqa=given["enable_gqa"]
            )
            parts.append(part.transpose(0, 1))
        return torch.cat(parts)

    monkeypatch.setattr(varlen, "varlen_attn", stand_in)
    query, key, value = (heads(number, seed, torch.bfloat16) for seed, number in enumerate((4, num_keys, num_keys)))
    output, _ = attention._varlen(query, key, value, BOUNDARIES, max(LENGTHS), None, causal)
    assert output.shape == (1, sum(LENGTHS), 4, 8)
    assert torch.allclose(output.float(), by_mask(query, key, value, causal).float(), atol=2e-2)


def test_half_precision_is_taken_where_the_model_computes_in_it(monkeypatch):
    assert attention._half_precision(heads(1, 0, torch.bfloat16)) == torch.bfloat16
    assert attention._half_precision(heads(1, 0)) is None
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: kind == "cuda")
    monkeypatch.setattr(torch, "get_autocast_dtype", lambda kind: {"cuda": torch.bfloat16}[kind])
    assert attention._half_precision(heads(1, 0)) == torch.bfloat16


@pytest.mark.parametrize(("installed", "name"), [(True, "flash_attention_2"), (False, SEGMENTS)])
def test_flash_attention_is_used_where_it_is_installed(monkeypatch, installed, name):
    monkeypatch.setattr(attention, "is_flash_attn_2_available", lambda: installed)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    config = SimpleNamespace(text_config=SimpleNamespace(), vision_config=SimpleNamespace())
    use_segment_attention(SimpleNamespace(config=config))
    parts = (config, config.text_config, config.vision_config)
    assert {part._attn_implementation_internal for part in parts} == {name}
