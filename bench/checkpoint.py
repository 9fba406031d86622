"""Measures the cost of checkpoints at the recipe's cadence, and a worker's time to its first step.

The smoke recipe's cpt, in as many processes as it asks for, on made-up patches. Both parts of the share are measured in
one run: the time for which saving holds training up, and the time of the steps between two checkpoints of the recipe.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.report import Figure, conclude
from components.training.base_model.config import BaseModelConfig
from components.training.base_model.stage import run as build_base_model
from components.training.cpt.config import CptConfig
from components.training.cpt.stage import run
from pathoflow.contract.output import StageOutput
from pathoflow.contract.recipe import find_recipe, load_stage
from pathoflow.data.image_io import encode_jpeg, image_columns
from pathoflow.data.schemas import CORPUS, REASONING, ShardWriter
from pathoflow.qa.prompts import mcq_text, prompt_messages, response_text, text_message

NUM_PAIRS = 512
EVERY_STEPS = 10
NAMES = ["lipoma", "melanoma", "naevus", "haemangioma"]
WORDS = ["yellow", "lobules", "of", "mature", "fat", "cells", "in", "a", "thin", "capsule", "without", "atypia"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer checkpoints, written at once only")
    quick = parser.parse_args().quick
    recipe = load_stage(CptConfig, find_recipe("smoke"), {})[0]
    assert isinstance(recipe, CptConfig)
    num_saves = 3 if quick else 10
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        write_data(data)
        shape, _ = load_stage(BaseModelConfig, find_recipe("smoke"), {"num_lookups": 0})
        assert isinstance(shape, BaseModelConfig)
        base = StageOutput(data / "base", data / "base_scratch")
        build_base_model(shape, corpus=data / "corpus", reasoning_data=data / "reasoning", out=base)
        for background in (False,) if quick else (False, True):
            how = "in the background" if background else "at once"
            started_s, save_s, step_s = measure(recipe, data, how.replace(" ", "_"), num_saves, background)
            cadence_s = recipe.save_every_steps * step_s
            print(f"{how}: {save_s * 1e3:.1f} ms a checkpoint, {step_s * 1e3:.1f} ms a step")
            figures.append(
                Figure(
                    f"stall of checkpoints written {how}, every {recipe.save_every_steps} steps",
                    100 * save_s / (save_s + cadence_s),
                    "%",
                    "the steps between two checkpoints, same run",
                    5,
                )
            )
            if not background:
                figures.append(Figure("start of the workers to the first step", started_s, "s", "a bar we set", 20))
    conclude("Checkpoints and starts, smoke recipe's cpt", figures)


def measure(recipe: CptConfig, data: Path, name: str, num_saves: int, background: bool) -> tuple[float, float, float]:
    """Measures the seconds to the first step, of a checkpoint, and of a step."""
    config = recipe.model_copy(
        update={
            "epochs": 1000.0,
            "max_steps": EVERY_STEPS * (num_saves + 1),
            "save_every_steps": EVERY_STEPS,
            "log_every_steps": EVERY_STEPS,
            "background_checkpoints": background,
        }
    )
    out = StageOutput(data / name / "output", data / name / "scratch")
    first = _FirstStep(out.directory / "progress.json")
    first.start()
    # The workers' output would stand among the figures.
    with contextlib.redirect_stderr(sys.stdout if "-v" in sys.argv else (data / "log").open("a")):
        run(config, corpus=data / "corpus", base_model=data / "base", out=out)
    first.join()
    points = [json.loads(line) for line in (out.directory / "series.jsonl").read_text().splitlines()]
    points = [point for point in points if "checkpoint_share" in point["values"]]
    saves, steps = [], []
    # A checkpoint is written right after a point, so that it counts in the next.
    for before, point in pairwise(points[1:]):
        elapsed_s = (point["at_ms"] - before["at_ms"]) / 1e3
        share = point["values"]["checkpoint_share"]
        saves.append(share * elapsed_s)
        steps.append((1 - share) * elapsed_s / (point["step"] - before["step"]))
    return first.after_s, statistics.median(saves), statistics.median(steps)


class _FirstStep(threading.Thread):
    """Records when the first step is reported."""

    def __init__(self, progress: Path) -> None:
        super().__init__(daemon=True)
        self._progress, self._began = progress, time.perf_counter()
        self.after_s = 0.0

    def run(self) -> None:
        while not self._progress.exists():
            time.sleep(0.01)
        self.after_s = time.perf_counter() - self._began


def write_data(directory: Path) -> None:
    rng = np.random.default_rng(0)
    with ShardWriter(directory / "corpus" / "train", CORPUS, prefix="train") as writer:
        for number in range(NUM_PAIRS):
            writer.write(_pair(number, rng))
    with ShardWriter(directory / "reasoning" / "train", REASONING) as writer:
        for number in range(8):
            writer.write(_conversation(number))


def _pair(number: int, rng: np.random.Generator) -> dict[str, Any]:
    image = Image.fromarray(rng.integers(0, 255, (56, 56, 3), dtype=np.uint8))
    return {
        **image_columns(encode_jpeg(image, 90), image, f"{number}.jpg"),
        "pair_id": f"bench/{number}",
        "caption": " ".join(rng.choice(WORDS, 24)),
        "inline_refs": [],
        "source": "bench",
        "source_id": str(number),
        "region": None,
        "language": "en",
        "split": "train",
    }


def _conversation(number: int) -> dict[str, Any]:
    messages = [*prompt_messages(mcq_text(NAMES, "short"), "short")]
    messages.append(text_message("assistant", response_text(" ".join(WORDS), "A")))
    return {
        "messages": messages,
        "images": [],
        "task": "mcq",
        "subfield": "soft tissue",
        "difficulty": None,
        "prompt_id": "bench",
        "pair_id": f"bench/{number}",
        "teacher": "template",
        "qc": "passed",
    }


if __name__ == "__main__":
    main()
