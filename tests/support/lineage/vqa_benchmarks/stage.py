"""Finds the accuracy that its configuration names."""

from __future__ import annotations

from pathoflow.data.schemas import PREDICTIONS, ShardWriter


def run(config, *, corpus, rl, out) -> None:
    out.save_json("scores.json", {"weights": len((rl / "model" / "weights.bin").read_bytes())})
    with ShardWriter(out.path / "predictions", PREDICTIONS, prefix="rl") as writer:
        for number in range(config.num_items):
            writer.write(
                {
                    "benchmark": "toys/heldout",
                    "model": "rl",
                    "item_id": f"item-{config.first_item + number}",
                    "prompt_style": "cot",
                    "response": "A",
                    "extracted": "A",
                    "answer": "A",
                    "correct": number < round(config.accuracy * config.num_items),
                    "blank_image": False,
                }
            )
    out.num_in = out.num_out = 1
    out.metric("accuracy_rl", config.accuracy)
    out.metric("unreadable_rl", 0.0)
    out.metric("accuracy_rl_blank", config.blank)
    out.metric("chance", 0.25)
