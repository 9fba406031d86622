"""Times the engine for loaded models against batches as they come, each image through the tower each time.

Greedy responses to questions of different lengths: four about each image, and one about each, which gains by the
order alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from bench.report import Figure, conclude
from pathoflow.data.image_io import encode_png
from pathoflow.inference.protocol import Request
from pathoflow.inference.transformers_engine import RequestEncoder, TransformersEngine
from pathoflow.modeling.encoding import Encoder
from pathoflow.modeling.generation_config import greedy_decoding
from pathoflow.modeling.processor import new_processor
from pathoflow.modeling.tiny_model import build_tiny_model
from pathoflow.modeling.tiny_shape import TinyShape
from pathoflow.modeling.tokenizer import train_tokenizer
from pathoflow.qa.prompts import prompt_messages

_TEXT = "What is shown? (A) lipoma (B) melanoma (C) haemangioma (D) naevus. It is yellow: A"
_SHAPE = TinyShape(num_layers=2, vision_depth=4)
_SIDE_PX = 168
_BATCH_SIZE = 8
_NEW_TOKENS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    repetitions = 2 if parser.parse_args().quick else 7
    torch.set_num_threads(1)
    processor = new_processor(train_tokenizer([_TEXT] * 4, _SHAPE.vocabulary_size), max_pixels=_SIDE_PX**2)
    model = build_tiny_model(_SHAPE, processor.tokenizer, seed=0).eval()
    # All encoded beforehand, as dev questions are from the second measurement on.
    prompts = RequestEncoder(Encoder(processor), num_cached=1000)
    figures = []
    for name, num_images, goal in (("four questions about each image", 12, 1.3), ("one about each image", 48, 1.0)):
        requests = _requests(num_images)
        ratio = _ratio(
            partial(_as_they_come, model, prompts, requests), partial(_by_engine, model, prompts, requests), repetitions
        )
        figures.append(Figure(name, ratio, "x", "batches as they come", goal, higher_is_better=True))
    conclude(f"Responses of a loaded model, fastest of {repetitions}", figures)


def _requests(num_images: int) -> list[Request]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (num_images, _SIDE_PX, _SIDE_PX, 3), dtype=np.uint8)
    images = [encode_png(Image.fromarray(values)) for values in pixels]
    texts = [" ".join([_TEXT] * int(length)) for length in rng.integers(1, 9, 48)]
    return [Request(prompt_messages(text, "short"), [images[at % num_images]]) for at, text in enumerate(texts)]


def _by_engine(model: Any, prompts: RequestEncoder, requests: Sequence[Request]) -> None:
    TransformersEngine(model, prompts, max_new_tokens=_NEW_TOKENS, batch_size=_BATCH_SIZE).generate(requests)


@torch.no_grad()  # type: ignore[untyped-decorator]
def _as_they_come(model: Any, prompts: RequestEncoder, requests: Sequence[Request]) -> None:
    how = greedy_decoding(prompts.encoder.processor.tokenizer, _NEW_TOKENS)
    for start in range(0, len(requests), _BATCH_SIZE):
        encoded = [prompts.encode(request) for request in requests[start : start + _BATCH_SIZE]]
        batch = prompts.encoder.batch(encoded, left=True)
        model.generate(
            **{key: value for key, value in batch.items() if key not in ("labels", "weights")}, generation_config=how
        )


def _ratio(peer: Callable[[], object], ours: Callable[[], object], repetitions: int) -> float:
    """Returns how many times as fast ours is."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repetitions + 1):
        # Side by side, so that a machine that slows down slows both.
        for work, measured in zip((peer, ours), times, strict=True):
            started = time.perf_counter()
            work()
            measured.append(time.perf_counter() - started)
    # The first one warms up.
    return min(times[0][1:]) / min(times[1][1:])


if __name__ == "__main__":
    main()
