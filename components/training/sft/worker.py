"""One process of the `sft` stage, started by torchrun."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from accelerate import PartialState

from components.training.sft.config import SftConfig
from components.training.sft.examination import Asked, Examination
from components.training.sft.questions import conversation_name, question_of
from pathoflow.contract.output import Reporter
from pathoflow.modeling.flops import sample_cost
from pathoflow.modeling.loading import LoadReport, ModelReference, load, load_configuration
from pathoflow.modeling.pretrained import load_processor
from pathoflow.modeling.processor import Qwen2_5_VLProcessor
from pathoflow.modeling.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from pathoflow.training import samples
from pathoflow.training.engine import final_loss, fine_tune, pack_arguments, plan_steps, save_trained, weights_dtype
from pathoflow.training.initial_loss_check import initial_loss
from pathoflow.training.job import Job, Overlong, Unlearned
from pathoflow.training.lengths import measure
from pathoflow.training.plan import shuffled_passes
from pathoflow.training.sample_tables import SampleTables
from pathoflow.training.samples import Encoder, Sample
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
    questions, unasked = dev_questions(rows_of(job, "reasoning_data", "dev"), encoder, config)
    if unasked and not questions:
        job.finish_without("the dev questions of reasoning_data/dev", overlong + unasked, state)
        return
    examination = Examination(
        questions,
        encoder,
        Reporter(job.report),
        every_steps=config.dev_every_steps,
        batch_size=config.dev_batch_size,
        num_cached=config.cached_samples,
        max_new_tokens=config.max_response_tokens,
        stop_at=config.stop_at_dev_accuracy,
    )
    unseen = Unseen(job.scratch / "unseen")
    shares = StepShares(plan, sample_of, encoder, config.cached_samples, unseen)
    tables = SampleTables(plan, sample_of, encoder, job, config.samples_shown_every_steps)
    callbacks = [tables, examination] if questions else [tables]
    arguments = pack_arguments(config, job.checkpoints, plan)
    model, report = load(Qwen2_5_VLForConditionalGeneration, start, dtype=weights_dtype(config))
    trainer = fine_tune(config, job, arguments, prepare_model(model, config), shares, callbacks)
    save_trained(trainer, processor, job.output / "model")
    if state.is_main_process:
        broken = unseen.among(plan.samples_until(trainer.state.global_step))
        _finish(job, trainer, examination, config, report, overlong + unasked, broken)


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
        return samples.conversation(row["messages"], images, self.processor, conversation_name(row))


def _num_wanted(config: SftConfig, num_samples: int, num_processes: int) -> int:
    if config.max_steps is not None:
        return config.max_steps * config.samples_per_step(num_processes)
    return max(1, round(config.epochs * num_samples))


def dev_questions(rows: ShardRows, encoder: Encoder, config: SftConfig) -> tuple[list[Asked], Overlong]:
    """The first multiple-choice questions of `rows`, as prompts with their right answers.

    Returns:
        The questions, and names and lengths of those whose prompts are too long to be asked.
    """
    choices = islice((row for row in rows if row["task"] == "mcq"), config.dev_questions)
    questions = [Asked(_prompt(row, encoder.processor), question_of(row)) for row in choices]
    lengths = [length for length, _ in encoder.measure([question.prompt for question in questions])]
    measured = list(zip(questions, lengths, strict=True))
    return (
        [question for question, length in measured if length <= config.max_length_tokens],
        [(question.prompt.name, length) for question, length in measured if length > config.max_length_tokens],
    )


def _prompt(row: Mapping[str, Any], processor: Qwen2_5_VLProcessor) -> Sample:
    images = [image["bytes"] for image in row["images"] or ()]
    return samples.prompt(row["messages"][:-1], images, processor, f"dev: {conversation_name(row)}")


def _finish(
    job: Job,
    trainer: Any,
    examination: Examination,
    config: SftConfig,
    report: LoadReport,
    overlong: Overlong,
    broken: Unlearned,
) -> None:
    metrics = {"final_loss": final_loss(trainer), "num_steps": float(trainer.state.global_step)}
    metrics |= initial_loss(trainer.state.log_history)
    notes = report.notes() | {"stop_rule": "trained to the end"}
    if examination.accuracy:
        metrics["dev_accuracy"] = examination.accuracy[max(examination.accuracy)]
    if examination.stopped_at is not None:
        notes["stop_rule"] = (
            f"stopped at step {examination.stopped_at}, the first examination with a dev accuracy of "
            f"{config.stop_at_dev_accuracy} or more, to leave reinforcement learning something to gain"
        )
    elif config.stop_at_dev_accuracy is not None:
        notes["stop_rule"] = (
            f"trained to the end: no examination reached a dev accuracy of {config.stop_at_dev_accuracy}"
        )
    job.finish(metrics, notes, overlong, unseen=broken)


if __name__ == "__main__":
    run_worker(main)
