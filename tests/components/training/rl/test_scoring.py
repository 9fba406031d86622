"""Probabilities of completions: on a CPU, too, TRL computes no others, and gets the same ones."""

from __future__ import annotations

import pytest
import torch
from trl.trainer import utils as trl_utilities

from components.training.rl.worker import score_completions_alone
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import train_tokenizer
from tests.support.conversations import TINY_SHAPE


@pytest.mark.skipif(torch.cuda.is_available(), reason="TRL does it by itself")
def test_probabilities_and_gradients_stay_as_they_are(monkeypatch):
    # They are set for a whole process; this puts them back.
    for name in ("_use_triton", "_CHUNKED_LOGPROB_CHUNK_SIZE"):
        monkeypatch.setattr(trl_utilities, name, getattr(trl_utilities, name))
    tokenizer = train_tokenizer(["A yellow lesion: lipoma."] * 4, 340)
    model = build_tiny_model(TinyShape(**TINY_SHAPE), tokenizer, seed=0)
    trl_utilities.add_fused_lm_head(model, temperature=0.7, outputs=("log_probs", "entropy"))
    ids = torch.randint(0, len(tokenizer), (3, 12), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    labels[:, :5] = labels[1, 9:] = -100

    scored = []
    usual = trl_utilities._ChunkedLogProbFunction.apply

    def noting(hidden, *rest):
        scored.append(hidden.shape[0])
        return usual(hidden, *rest)

    monkeypatch.setattr(trl_utilities._ChunkedLogProbFunction, "apply", noting)

    def score():
        model.zero_grad()
        output = model(input_ids=ids, labels=labels, fused_lm_head=True)
        output.log_probs.sum().backward()
        return (
            output.log_probs,
            output.entropy,
            [weight.grad for weight in model.parameters() if weight.grad is not None],
        )

    before = score()
    score_completions_alone(len(tokenizer))
    after = score()
    assert scored == [3 * 11, 3 * 7 - 3]
    for one, other in zip((*before[:2], *before[2]), (*after[:2], *after[2]), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)
