"""One process of the `cpt` stage, started by torchrun."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from accelerate import PartialState

from components.training.cpt.config import CptConfig
from pathoflow.modeling import encoding
from pathoflow.modeling.encoding import Encoder, Sample
from pathoflow.modeling.flops import sample_cost
from pathoflow.modeling.loading import ModelReference, load, load_configuration
from pathoflow.modeling.pretrained import check_special_tokens, copy_model, load_processor
from pathoflow.modeling.processor import Qwen2_5_VLProcessor
from pathoflow.modeling.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from pathoflow.modeling.tokenizer import IMAGE
from pathoflow.training.engine import final_loss, fine_tune, pack_arguments, plan_steps, save_trained, weights_dtype
from pathoflow.training.initial_loss_check import initial_loss
from pathoflow.training.job import Job
from pathoflow.training.lengths import measure
from pathoflow.training.plan import shuffled_passes
from pathoflow.training.sample_tables import SampleTables
from pathoflow.training.shard_rows import ShardRows
from pathoflow.training.steps import StepShares
from pathoflow.training.trainable_weights import prepare_model
from pathoflow.training.unseen import Unseen
from pathoflow.training.worker import rows_of, run_worker

PAIR = ("pair_id", "image", "width", "height", "caption", "inline_refs")


def main(job: Job, state: PartialState) -> None:
    """Loads the base model, trains it on look-ups and captions, and saves both."""
    config = job.settings(CptConfig)
    if built := job.inputs.get("base_model"):
        reference = ModelReference(built / "model")
    else:
        assert config.model is not None, "`check_inputs` saw a model"
        reference = ModelReference(config.model, config.revision, config.ignored_tensors)
    source = reference.directory()
    processor = load_processor(source, max_pixels=config.max_pixels)
    model_config = load_configuration(Qwen2_5_VLForConditionalGeneration, source)
    check_special_tokens(model_config, processor.tokenizer)
    pairs = rows_of(job, "corpus", "train", PAIR, groups_kept=config.shuffled_row_groups)
    outlines = rows_of(job, "corpus", "train", [column for column in PAIR if column != "image"])
    lookups = _read_lookups(built / "lookups.jsonl") if built else []
    sample_of = CptSamples(lookups, pairs, processor, config)
    encoder = Encoder(processor)
    outline_of = replace(sample_of, pairs=outlines)
    measures = measure(
        len(lookups) + len(pairs),
        outline_of,
        encoder,
        partial(sample_cost, model_config),
        job.scratch / "lengths.npz",
        state,
    )
    dropped = measures.longer_than(config.max_length_tokens)
    overlong = [(outline_of(number).name, length) for number, length in dropped.items() if number >= len(lookups)]
    if len(overlong) == len(pairs):
        job.finish_without("corpus/train", overlong, state)
        return
    order = training_order(len(lookups), pairs.groups(), config)
    plan = plan_steps(config, order[~np.isin(order, list(dropped))], measures, state.num_processes)
    arguments = pack_arguments(config, job.checkpoints, plan)
    model, report = load(Qwen2_5_VLForConditionalGeneration, reference, dtype=weights_dtype(config))
    if state.is_main_process:
        copy_model(source, processor, job.output / "base")
    unseen = Unseen(job.scratch / "unseen")
    shares = StepShares(plan, sample_of, encoder, config.cached_samples, unseen)
    tables = SampleTables(plan, sample_of, encoder, job, config.samples_shown_every_steps)
    weights = prepare_model(model, config)
    trainer = fine_tune(config, job, arguments, weights, shares, [tables], is_pretrained=built is None)
    save_trained(trainer, processor, job.output / "model")
    if state.is_main_process:
        job.finish(
            {"final_loss": final_loss(trainer), "num_parameters": float(model.num_parameters())}
            | initial_loss(trainer.state.log_history),
            report.notes() | _told_of_lookups(len(lookups), len(dropped) - len(overlong)),
            overlong=overlong,
            unseen=unseen.among(plan.samples_until(trainer.state.global_step)),
        )


def _told_of_lookups(number: int, num_overlong: int) -> dict[str, str]:
    """Look-ups are exercises, not data: what is too long of them is told and not counted."""
    return {"lookups": f"{num_overlong} of {number} left out as too long"} if num_overlong else {}


@dataclass(frozen=True)
class CptSamples:
    """The sample of each number: look-ups first, then pairs.

    Attributes:
        lookups: The look-ups.
        pairs: Images with captions.
        processor: Renders look-ups.
        config: What of a pair is learned, and how much a look-up counts.
    """

    lookups: Sequence[Mapping[str, Any]]
    pairs: ShardRows
    processor: Qwen2_5_VLProcessor
    config: CptConfig

    def __call__(self, number: int) -> Sample:
        """The sample."""
        if number < len(self.lookups):
            return lookup_sample(self.lookups[number], self.processor, self.config.lookup_weight)
        return caption_sample(
            self.pairs[number - len(self.lookups)],
            self.processor.tokenizer.eos_token,
            with_references=self.config.use_inline_references,
        )


def training_order(num_lookups: int, groups: npt.NDArray[np.int64], config: CptConfig) -> npt.NDArray[np.int64]:
    """In which order samples come: look-ups alone first, then each caption in a new order in each epoch.

    A model learns to look up sooner when nothing else pulls at it; `lookup_share` of the later samples keep it.

    Args:
        num_lookups: How many look-ups there are.
        groups: Of each pair the row group that it lies in.
        config: Seed, epochs and the share of look-ups.

    Returns:
        Numbers of look-ups below `num_lookups`, and of pairs from there on.
    """
    num_first = round(num_lookups * (1 - config.lookup_share))
    numbers = range(num_lookups, num_lookups + len(groups))
    num_wanted = int(config.epochs * len(groups))
    pairs = shuffled_passes(numbers, num_wanted, config.seed, groups, config.shuffled_row_groups)
    mixed = np.concatenate((pairs, np.arange(num_first, num_lookups)))
    if num_first < num_lookups:
        mixed = np.random.default_rng(config.seed).permutation(mixed)
    return np.concatenate((np.arange(num_first), mixed))


def caption_sample(pair: Mapping[str, Any], end: str, *, with_references: bool) -> Sample:
    """An image followed by its caption and, on the next lines, the sentences that refer to it.

    A pair without its image gives a sample that can be measured.
    """
    texts = [pair["caption"], *((pair["inline_refs"] or ()) if with_references else ())]
    return Sample(
        IMAGE + "\n".join(texts) + end,
        [pair["image"]["bytes"]] if "image" in pair else [],
        "text",
        sizes=[(pair["width"], pair["height"])],
        name=pair["pair_id"],
    )


def lookup_sample(lookup: Mapping[str, Any], processor: Qwen2_5_VLProcessor, weight: float) -> Sample:
    """A question about options in which only the letter is learned."""
    question = encoding.prompt(lookup["messages"], [], processor).text
    return Sample(question + lookup["given"], [], "continuation", continuation=lookup["letter"], weight=weight)


def _read_lookups(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


if __name__ == "__main__":
    run_worker(main)
