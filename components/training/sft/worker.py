"""One process of the `sft` stage, started by torchrun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from statistics import fmean
from typing import Any

import numpy as np
from accelerate import PartialState

from components.training.sft.config import SftConfig
from components.training.sft.questions import conversation_name, question_of
from pathoflow.contract.output import Reporter
from pathoflow.inference.protocol import Request
from pathoflow.inference.transformers_engine import RequestEncoder
from pathoflow.modeling import encoding
from pathoflow.modeling.encoding import Encoder, Sample
from pathoflow.modeling.flops import sample_cost
from pathoflow.modeling.loading import LoadReport, ModelReference, load, load_configuration
from pathoflow.modeling.pretrained import load_processor
from pathoflow.modeling.processor import Qwen2_5_VLProcessor
from pathoflow.modeling.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from pathoflow.qa.prompts import chat_messages
from pathoflow.qa.question import Question
from pathoflow.qa.scoring import is_correct
from pathoflow.training.engine import final_loss, fine_tune, pack_arguments, plan_steps, save_trained, weights_dtype
from pathoflow.training.evaluation import EvalCallback, reached_at
from pathoflow.training.history import ACCURACY, measurements
from pathoflow.training.initial_loss_check import initial_loss
from pathoflow.training.job import Job, Overlong, Unlearned
from pathoflow.training.lengths import measure
from pathoflow.training.plan import shuffled_passes
from pathoflow.training.sample_tables import SampleTables
from pathoflow.training.shard_rows import ShardRows
from pathoflow.training.steps import StepShares
from pathoflow.training.trainable_weights import prepare_model
from pathoflow.training.unseen import Unseen
from pathoflow.training.worker import rows_of, run_worker


def main(job: Job, state: PartialState) -> None:
    """Trains the CPT model on conversations and saves it."""
    config = job.settings(SftConfig)
    start = ModelReference(job.inputs["cpt"] / "model")
    processor = load_processor(start.directory())
    model_config = load_configuration(Qwen2_5_VLForConditionalGeneration, start.directory())
    rows = rows_of(job, "reasoning_data", "train", groups_kept=config.shuffled_row_groups)
    encoder = Encoder(processor, config.answer_weight)
    sample_of = ConversationSamples(rows, processor)
    cost_of = partial(sample_cost, model_config)
    measures = measure(len(rows), sample_of, encoder, cost_of, job.scratch / "lengths.npz", state)
    dropped = measures.longer_than(config.max_length_tokens)
    overlong = [(sample_of(number).name, length) for number, length in dropped.items()]
    if len(overlong) == len(rows):
        job.finish_without("reasoning_data/train", overlong, state)
        return
    kept = np.setdiff1d(np.arange(len(rows)), list(dropped))
    num_wanted = _num_wanted(config, len(kept), state.num_processes)
    order = shuffled_passes(kept, num_wanted, config.seed, rows.groups()[kept], config.shuffled_row_groups)
    plan = plan_steps(config, order, measures, state.num_processes)
    asked, unasked = dev_rows(rows_of(job, "reasoning_data", "dev"), encoder, config)
    if unasked and not asked:
        job.finish_without("the dev questions of reasoning_data/dev", overlong + unasked, state)
        return
    evaluation = EvalCallback(
        [dev_request(row) for row in asked],
        partial(dev_scores, [question_of(row) for row in asked]),
        RequestEncoder(encoder, config.cached_samples),
        Reporter(job.report),
        every_steps=config.dev_every_steps,
        batch_size=config.dev_batch_size,
        max_new_tokens=config.max_response_tokens,
        stop_at=config.stop_at_dev_accuracy,
    )
    unseen = Unseen(job.scratch / "unseen")
    shares = StepShares(plan, sample_of, encoder, config.cached_samples, unseen)
    tables = SampleTables(plan, sample_of, encoder, job, config.samples_shown_every_steps)
    callbacks = [tables, evaluation] if asked else [tables]
    arguments = pack_arguments(config, job.checkpoints, plan)
    model, report = load(Qwen2_5_VLForConditionalGeneration, start, dtype=weights_dtype(config))
    trainer = fine_tune(config, job, arguments, prepare_model(model, config), shares, callbacks)
    save_trained(trainer, processor, job.output / "model")
    if state.is_main_process:
        broken = unseen.among(plan.samples_until(trainer.state.global_step))
        _finish(job, trainer, config, report, overlong + unasked, broken)


@dataclass(frozen=True)
class ConversationSamples:
    """The sample of each conversation, by its number.

    Attributes:
        rows: The conversations.
        processor: Renders them.
    """

    rows: ShardRows
    processor: Qwen2_5_VLProcessor

    def __call__(self, number: int) -> Sample:
        """The sample."""
        row = self.rows[number]
        images = [image["bytes"] for image in row["images"] or ()]
        return encoding.conversation(row["messages"], images, self.processor, conversation_name(row))


def _num_wanted(config: SftConfig, num_samples: int, num_processes: int) -> int:
    if config.max_steps is not None:
        return config.max_steps * config.samples_per_step(num_processes)
    return max(1, round(config.epochs * num_samples))


def dev_rows(rows: ShardRows, encoder: Encoder, config: SftConfig) -> tuple[list[Mapping[str, Any]], Overlong]:
    """Returns the first multiple-choice conversations of `rows`, whose questions are asked.

    Returns:
        The conversations, and names and lengths of those whose prompts are too long to be asked.
    """
    choices = list(islice((row for row in rows if row["task"] == "mcq"), config.dev_questions))
    requests = [dev_request(row) for row in choices]
    prompts = RequestEncoder(encoder)
    lengths = [length for length, _ in encoder.measure([prompts.sample(request) for request in requests])]
    measured = list(zip(choices, requests, lengths, strict=True))
    return (
        [row for row, _, length in measured if length <= config.max_length_tokens],
        [(request.name, length) for _, request, length in measured if length > config.max_length_tokens],
    )


def dev_request(row: Mapping[str, Any]) -> Request:
    """Asks the question that the last turn of a conversation answers."""
    images = [image["bytes"] for image in row["images"] or ()]
    return Request(chat_messages(row["messages"][:-1]), images, name=f"dev: {conversation_name(row)}")


def dev_scores(questions: Sequence[Question], responses: Sequence[str]) -> dict[str, float]:
    """Returns the share of the questions answered rightly."""
    return {ACCURACY: fmean(is_correct(*pair) for pair in zip(responses, questions, strict=True))}


def _finish(
    job: Job, trainer: Any, config: SftConfig, report: LoadReport, overlong: Overlong, broken: Unlearned
) -> None:
    history = trainer.state.log_history
    metrics = {"final_loss": final_loss(trainer), "num_steps": float(trainer.state.global_step)}
    metrics |= initial_loss(history)
    notes = report.notes() | {"stop_rule": "trained to the end"}
    if measured := measurements(history):
        metrics[ACCURACY] = measured[-1][ACCURACY]
    stopped_at = reached_at(history, config.stop_at_dev_accuracy)
    if stopped_at is not None:
        notes["stop_rule"] = (
            f"stopped at step {stopped_at}, the first examination with a dev accuracy of "
            f"{config.stop_at_dev_accuracy} or more, to leave reinforcement learning something to gain"
        )
    elif config.stop_at_dev_accuracy is not None:
        notes["stop_rule"] = (
            f"trained to the end: no examination reached a dev accuracy of {config.stop_at_dev_accuracy}"
        )
    job.finish(metrics, notes, overlong, unseen=broken)


if __name__ == "__main__":
    run_worker(main)
