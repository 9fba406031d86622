from __future__ import annotations

import pytest

from pathoflow.cluster.redaction import without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("It broke; password=tuna-salad, then ended", "It broke; password=[hidden], then ended"),
        ('{"api_key": "tuna-salad"}', '{"api_key": "[hidden]"}'),
        ("postgresql://me:pw@db:5432/x", "postgresql://[hidden]@db:5432/x"),
        ("with hf_abcdefghijklmnopqrst", "with [hidden]"),
        ("with ghp_abcdefghijklmnopqrstuv", "with [hidden]"),
        ("with sk-abcdefghijklmnopqrstuv", "with [hidden]"),
        ("with AKIAABCDEFGHIJKLMNOP", "with [hidden]"),
        ("with eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl", "with [hidden]"),
        ("Authorization: Bearer abcdefghijklmnop", "Authorization: Bearer [hidden]"),
        ("-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\nafter", "[hidden]\nafter"),
        ("-----BEGIN PRIVATE KEY-----\ncut off", "[hidden]"),
        ("max_tokens=2048 of pod cpt-node-0-0", "max_tokens=2048 of pod cpt-node-0-0"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_and_nothing_else(text, shown):
    assert without_secrets(text, {}) == shown


def test_what_the_environment_calls_a_secret_is_hidden_wherever_it_stands():
    environment = {"MLFLOW_TRACKING_PASSWORD": "opensesame", "HOME": "/tmp/home", "HF_TOKEN": "abc"}
    assert without_secrets("opensesame! in /tmp/home by abc", environment) == "[hidden]! in /tmp/home by abc"
