"""Finds the accuracy that its configuration names."""

from __future__ import annotations


def run(config, *, corpus, rl, out) -> None:
    out.save_json("scores.json", {"weights": len((rl / "model" / "weights.bin").read_bytes())})
    out.num_in = out.num_out = 1
    out.metric("accuracy_rl", config.accuracy)
