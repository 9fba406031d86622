"""Shows people what a model learns from: each sample's images, its text, and the tokens in the loss."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Iterable
from itertools import groupby, islice
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pathoflow.data.image_io import decode
from pathoflow.data.trainable.image_checks import MAX_PIXELS
from pathoflow.modeling.encoding import IGNORED, Encoder, Sample, UnlearnableImage
from pathoflow.system.files import write_atomically
from pathoflow.training.job import TABLES, Job
from pathoflow.training.plan import Plan

_NUM_SAMPLES = 8
_SIDE_PX = 224
_STYLE = (
    "body{font:14px/1.5 sans-serif;margin:2em}td{vertical-align:top;padding:.6em;border-top:1px solid #ccc}"
    "td.text{white-space:pre-wrap;font-family:monospace;color:#777}mark{background:#cdeac0;color:#000}"
    "mark.heavy{background:#f6c667}img{display:block;margin-bottom:.3em}"
)


class SampleTables(TrainerCallback):  # type: ignore[misc]
    """Writes a table of a step's first samples before they are learned, every few steps, in the first process.

    Args:
        plan: Holds the samples of each step.
        sample_of: Returns the sample with a number.
        encoder: Encodes samples.
        job: Its report gets `samples/step_<number>.html`.
        every_steps: Steps between two tables; None for the first step's alone.
    """

    def __init__(
        self, plan: Plan, sample_of: Callable[[int], Sample], encoder: Encoder, job: Job, every_steps: int | None
    ) -> None:
        self._plan = plan
        self._sample_of = sample_of
        self._encoder = encoder
        self._directory = job.report / TABLES
        self._every_steps = every_steps

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Writes the table of the step that begins, if one is due."""
        step = state.global_step
        due = step == 0 if self._every_steps is None else step % self._every_steps == 0
        if due and state.is_world_process_zero:
            numbers = islice(self._plan.samples(step), _NUM_SAMPLES)
            page = table((self._sample_of(int(number)) for number in numbers), self._encoder, f"Step {step + 1}")
            self._directory.mkdir(parents=True, exist_ok=True)
            write_atomically(self._directory / f"step_{step + 1:07d}.html", page)


def table(samples: Iterable[Sample], encoder: Encoder, title: str) -> str:
    """Renders a page with a row for each sample; tokens in the loss are marked, heavier ones differently."""
    rows = "".join(_row(sample, encoder) for sample in samples)
    legend = "<p><mark>learned</mark> <mark class=heavy>learned with a weight</mark>; the rest is given.</p>"
    return (
        f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title}</h1>{legend}<table>{rows}</table>\n"
    )


def _row(sample: Sample, encoder: Encoder) -> str:
    try:
        encoded = encoder.encode(sample)
    except UnlearnableImage as error:
        return f"<tr><td>{html.escape(sample.name)}<td>not learned<td class=text>{html.escape(error.fault[1])}</td>"
    ids = encoded["input_ids"].tolist()
    learned = (encoded["labels"] != IGNORED).tolist()
    kinds = [(is_learned, weight) for is_learned, weight in zip(learned, encoded["weights"].tolist(), strict=True)]
    text = ""
    for (is_learned, weight), run in groupby(zip(kinds, ids, strict=True), key=lambda entry: entry[0]):
        piece = html.escape(_decoded([token for _, token in run], encoder))
        opening = "<mark>" if weight == 1.0 else f'<mark class=heavy title="weight {weight:g}">'
        text += f"{opening}{piece}</mark>" if is_learned else piece
    images = "".join(_thumbnail(data) for data in sample.images) or "no image"
    name = html.escape(sample.name)
    return (
        f"<tr><td>{name}<br>{len(ids)} tokens, {sum(learned)} learned</td><td>{images}</td><td class=text>{text}</td>"
    )


def _decoded(ids: list[int], encoder: Encoder) -> str:
    """Decodes tokens; an image's tokens are counted instead of repeated."""
    parts = []
    for is_image, run in groupby(ids, key=lambda token: token == encoder.image_token_id):
        tokens = list(run)
        parts.append(f"[{len(tokens)} image tokens]" if is_image else encoder.processor.tokenizer.decode(tokens))
    return "".join(parts)


def _thumbnail(data: bytes) -> str:
    image = decode(data, max_pixels=MAX_PIXELS)
    title = f"{image.width} x {image.height} px"
    image.thumbnail((_SIDE_PX, _SIDE_PX))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f'<img title="{title}" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'
