"""Runs each model's evaluations batch by batch, each batch kept for a restart."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass

from components.evaluation.vqa_benchmarks.answering import Batch, answer, prepare, start_worker
from components.evaluation.vqa_benchmarks.config import Protocol, VqaBenchmarksConfig
from pathoflow.contract.output import StageOutput
from pathoflow.errors import StageError
from pathoflow.qa.question import Question
from pathoflow.system.files import write_atomically

BLANK_MODELS = ("sft", "rl")
"""Models that are asked about grey images, too."""


@dataclass(frozen=True)
class Evaluation:
    """One pass of one model over all questions."""

    model: str
    source: str
    protocol: Protocol
    blank: bool

    @property
    def name(self) -> str:
        """Names its files."""
        return f"{self.model}_blank" if self.blank else f"{self.model}_{self.protocol}"


def evaluations(config: VqaBenchmarksConfig, sources: dict[str, str]) -> list[Evaluation]:
    """All passes over the questions, model by model.

    Args:
        config: Says how each model is scored.
        sources: Where each model is, by name.
    """
    found = []
    for model, source in sources.items():
        protocol: Protocol = getattr(config.protocols, model)
        found.append(Evaluation(model, source, protocol, blank=False))
        if config.generate_for_all and protocol != "generation":
            found.append(Evaluation(model, source, "generation", blank=False))
        if model in BLANK_MODELS:
            found.append(Evaluation(model, source, protocol, blank=True))
    return found


def answers(
    passes: Sequence[Evaluation], questions: Sequence[Question], config: VqaBenchmarksConfig, out: StageOutput
) -> dict[Evaluation, list[str]]:
    """The responses of each pass, in the order of the questions.

    Raises:
        StageError: A worker process died; the same command continues with what is finished.
    """
    places = batches_of(questions, config.batch_size)
    jobs = [(evaluation, number) for evaluation in passes for number in range(len(places))]
    files = {job: out.scratch / f"{job[0].name}-{job[1]:05d}.json" for job in jobs}
    waiting = [job for job in jobs if not files[job].exists()]
    batches = [
        Batch(
            evaluation.source,
            config.precision,
            evaluation.protocol,
            evaluation.blank,
            config.prompt_style,
            config.max_new_tokens,
            tuple(questions[place] for place in places[number]),
        )
        for evaluation, number in waiting
    ]
    with _mapper(config, len(waiting)) as mapped:
        done = len(jobs) - len(waiting)
        for job, responses in zip(waiting, mapped(batches), strict=True):
            write_atomically(files[job], json.dumps(responses))
            done += 1
            out.progress(done, len(jobs), "batches", model=job[0].name)
    collected = {evaluation: [""] * len(questions) for evaluation in passes}
    for (evaluation, number), file in files.items():
        for place, response in zip(places[number], json.loads(file.read_bytes()), strict=True):
            collected[evaluation][place] = response
    return collected


def batches_of(questions: Sequence[Question], batch_size: int) -> list[list[int]]:
    """Places of the questions in batches of similar length, the longest first, so that little is padded.

    >>> short, long = (Question(w, w, (), (), "A", "") for w in ("a", "a long one"))
    >>> batches_of([short, long, short], 2)
    [[1, 0], [2]]
    """
    order = sorted(range(len(questions)), key=lambda place: -len(questions[place].prompt))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


@contextmanager
def _mapper(
    config: VqaBenchmarksConfig, num_batches: int
) -> Iterator[Callable[[Sequence[Batch]], Iterator[list[str]]]]:
    """Something that answers batches in order: this process, or a pool of several."""
    if config.num_processes == 1 or num_batches <= 1:
        prepare(config.num_threads)
        yield lambda batches: map(answer, batches)
        return
    context = multiprocessing.get_context("spawn")
    numbers = context.SimpleQueue()
    for number in range(config.num_processes):
        numbers.put(number)
    pool = ProcessPoolExecutor(config.num_processes, context, start_worker, (numbers, config.num_threads))
    try:
        yield lambda batches: pool.map(answer, batches)
    except BrokenProcessPool as error:
        raise StageError(
            "A process that answered questions died, most likely for want of memory. Lower vqa_benchmarks.batch_size "
            "or vqa_benchmarks.num_processes and run the same command again: finished batches are kept."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)
