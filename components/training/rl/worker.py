"""One process of the reinforcement learning that the `rl` stage starts."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from transformers.trainer_callback import PrinterCallback
from trl import GRPOConfig, GRPOTrainer
from trl.models.utils import unwrap_model_for_generation
from trl.trainer import utils as trl_utilities

from components.training.rl.config import RlConfig
from components.training.rl.fitting import fitting
from components.training.rl.knowledge import letters
from components.training.rl.rewards import rewards_of
from pathoflow.contract.output import Reporter
from pathoflow.data.image_io import decode
from pathoflow.data.trainable.image_checks import MAX_PIXELS
from pathoflow.inference.protocol import Request
from pathoflow.inference.transformers_engine import RequestEncoder
from pathoflow.modeling.attention import use_segment_attention
from pathoflow.modeling.encoding import Encoder
from pathoflow.modeling.loading import ModelReference, load
from pathoflow.modeling.pretrained import load_processor
from pathoflow.modeling.qwen2_5_vl import Qwen2_5_VLForConditionalGeneration
from pathoflow.modeling.vision_cache import VisionFeatureCache
from pathoflow.qa.question import Question
from pathoflow.qa.scoring import is_correct, think_answer_consistent
from pathoflow.system.files import write_atomically
from pathoflow.training.engine import trainer_arguments, weights_dtype
from pathoflow.training.evaluation import EvalCallback
from pathoflow.training.history import ACCURACY, CONSISTENCY, HISTORY_FILE, KEPT_MODELS
from pathoflow.training.initial_loss_check import InitialLossCheck, initial_loss
from pathoflow.training.job import Job
from pathoflow.training.preemptible import train_preemptibly
from pathoflow.training.restartable_trainer import RestartableTrainer
from pathoflow.training.shard_rows import ShardRows
from pathoflow.training.trainable_weights import freeze, lora_config
from pathoflow.training.worker import run_worker

CURVES = {
    "loss": "loss",
    "reward": "reward",
    "format_reward": "format_reward",
    "accuracy_reward": "accuracy_reward",
    "length_reward": "length_reward",
    "overlong_penalty": "overlong_penalty",
    "think_answer_consistency": "think_answer_consistency",
    "completions/mean_length": "response_length_tokens",
    "completions/clipped_ratio": "cut_off_share",
    "frac_reward_zero_std": "zero_variance_share",
    "clip_ratio/region_mean": "clip_fraction",
    "entropy": "entropy",
    "kl": "kl",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
}
"""The Trainer's log entries that become curves, and the names of the curves."""


def main(job: Job, state: PartialState) -> None:
    """Trains the SFT model on the questions; leaves the Trainer's history and the best models in the scratch."""
    config = job.settings(RlConfig)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # It would fill the buffers of 32768 columns in which TRL computes probabilities; a tiny model uses 640 of them.
    torch.utils.deterministic.fill_uninitialized_memory = False
    start = ModelReference(job.inputs["sft"] / "model")
    processor = load_processor(start.directory(), max_pixels=config.max_pixels)
    # Generation continues from the last token, which must therefore stand at the end of every row.
    processor.tokenizer.padding_side = "left"
    encoder = Encoder(processor)
    train_rows, overlong = fitting(job, "train", config, encoder, state)
    dev_rows, overlong_dev = fitting(job, "dev", config, encoder, state)
    for part, rows in (("train", train_rows), ("dev", dev_rows)):
        if not len(rows):
            job.finish_without(f"diagnosis_mcqs/{part}", overlong + overlong_dev, state)
            return
    # Before the model is loaded, because DeepSpeed's ZeRO-3 has a say in that.
    arguments = grpo_arguments(config, job.checkpoints, num_steps(config, len(train_rows)))
    model, report = load(Qwen2_5_VLForConditionalGeneration, start, dtype=weights_dtype(config))
    freeze(model, config)
    score_completions_alone(model.config.text_config.vocab_size)
    dev_questions = [Question.of_row(row) for row in dev_rows]
    evaluation = EvalCallback(
        dev_requests(dev_questions, config),
        partial(dev_scores, dev_questions),
        RequestEncoder(encoder, config.cached_samples),
        Reporter(job.report),
        every_steps=config.eval_every_steps,
        batch_size=config.eval_batch_size,
        max_new_tokens=config.max_completion_tokens,
        at_start=True,
        keep_best_in=job.scratch / KEPT_MODELS,
    )
    check = InitialLossCheck(
        partial(letters, dev_questions, config.prompt_style, encoder, state.process_index, state.num_processes),
        Reporter(job.report),
        config.max_initial_loss_share,
    )
    # Adapters begin at random.
    torch.manual_seed(config.seed)
    trainer = RestartableGRPOTrainer(
        model=model,
        reward_funcs=[reward_function(config)],
        args=arguments,
        train_dataset=training_questions(train_rows, config, arguments.max_steps),
        processing_class=processor,
        callbacks=[check, evaluation],
        # Handed to TRL, instead of a model that has them: it takes the model without them as the reference then, and a
        # frozen copy of the adapters otherwise.
        peft_config=lora_config(config),
    )
    look_fast(model, trainer.accelerator.unwrap_model(trainer.ref_model) if trainer.ref_model else None)
    trainer.remove_callback(PrinterCallback)
    check.trainer = evaluation.trainer = trainer
    evaluation.unwrap = lambda _: unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator)
    train_preemptibly(trainer, config, job, CURVES, stop_every_steps=config.steps_per_generation)
    if trainer.is_world_process_zero():
        write_atomically(job.scratch / HISTORY_FILE, json.dumps(trainer.state.log_history))
        job.finish(initial_loss(trainer.state.log_history), report.notes(), overlong + overlong_dev)


def dev_requests(questions: Sequence[Question], config: RlConfig) -> list[Request]:
    """Asks the dev questions as the model is trained to answer them."""
    return [
        Request(question.messages(config.prompt_style), question.images, name=question.id) for question in questions
    ]


def dev_scores(questions: Sequence[Question], responses: Sequence[str]) -> dict[str, float]:
    """Returns the shares of the questions answered rightly, and with reasoning that names the answered option alone."""
    pairs = list(zip(responses, questions, strict=True))
    return {
        ACCURACY: fmean(is_correct(*pair) for pair in pairs),
        CONSISTENCY: fmean(think_answer_consistent(*pair) for pair in pairs),
    }


def score_completions_alone(vocabulary_size: int) -> None:
    """On CPUs, too, has TRL compute probabilities where completions are alone, and of no more tokens than there are.

    TRL (1.16) does so on GPUs; elsewhere it spares compilers of other devices tensors of changing size, and scores
    prompts and padding, in buffers of 32768 columns.
    """
    if not torch.cuda.is_available():
        trl_utilities._use_triton = lambda device: True
        trl_utilities._CHUNKED_LOGPROB_CHUNK_SIZE = min(trl_utilities._CHUNKED_LOGPROB_CHUNK_SIZE, vocabulary_size)


def look_fast(*models: Any) -> None:
    """Has the vision towers of the models that there are see each image once, and all of its windows in one call.

    After the Trainer was built: TRL would load its reference model with this attention, which transformers takes for
    FlashAttention because of its name.
    """
    for model in filter(None, models):
        use_segment_attention(model)
        VisionFeatureCache(model.model.visual).install()


class RestartableGRPOTrainer(RestartableTrainer, GRPOTrainer):  # type: ignore[misc]
    """TRL's trainer with checkpoints that can be trusted."""


def num_steps(config: RlConfig, num_questions: int) -> int:
    """Optimiser steps of the whole training."""
    return config.max_steps or math.ceil(config.epochs * num_questions / config.prompts_per_step)


def grpo_arguments(config: RlConfig, checkpoints: Path, max_steps: int) -> GRPOConfig:
    """The trainer's configuration.

    Source: equations 1 (`grpo`: mean over each completion's tokens, then over completions) and 2 (`dapo`: mean over
    all tokens). Differs from source: TRL's mean over tokens runs over all of a step's groups, the paper's over each.
    """
    return GRPOConfig(
        **trainer_arguments(config, checkpoints)
        | {
            "max_steps": max_steps,
            "steps_per_generation": config.gradient_accumulation_steps * config.steps_per_generation,
            "num_generations": config.num_generations,
            "max_completion_length": config.max_completion_tokens,
            "temperature": config.temperature,
            "loss_type": config.algorithm,
            "epsilon": config.epsilon_low,
            "epsilon_high": config.epsilon_high,
            "beta": config.beta,
            # The paper's KL term is the plain estimate, not TRL's, which weights it by the probability ratio.
            "use_bias_correction_kl": False,
            # `training_questions` has shuffled them.
            "shuffle_dataset": False,
            # Every question has an image, so each weight that learns gets a gradient in each step.
            "ddp_find_unused_parameters": False,
            "log_multimodal": False,
        }
    )


def training_questions(rows: ShardRows | Sequence[Mapping[str, Any]], config: RlConfig, max_steps: int) -> Dataset:
    """The questions of the whole training in order, each pass shuffled anew; images are decoded when asked for.

    A fixed order in a single epoch lets a resumed run go on with the very questions that come next.
    """
    num_rounds = math.ceil(max_steps / config.steps_per_generation)
    num_needed = num_rounds * config.steps_per_generation * config.prompts_per_step
    generator = random.Random(config.seed)
    order: list[int] = []
    while len(order) < num_needed:
        order += generator.sample(range(len(rows)), k=len(rows))
    # Numbers alone: rows with images that were selected many times over would be copied.
    places = Dataset.from_dict({"row": order[:num_needed], "at": range(num_needed)})
    return places.with_transform(_Asking(rows, config))


@dataclass(frozen=True)
class _Asking:
    """Makes TRL's columns of batches of rows and their places in the training."""

    rows: ShardRows | Sequence[Mapping[str, Any]]
    config: RlConfig

    def __call__(self, batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        # Each question is asked for once for each of its completions; what they share is made once.
        places = list(zip(batch["row"], batch["at"], strict=True))
        questions = {place: self._asked(*place) for place in dict.fromkeys(places)}
        return {name: [questions[place][name] for place in places] for name in ("prompt", "images", "question")}

    def _asked(self, row: int, at: int) -> dict[str, Any]:
        question = Question.of_row(self.rows[row])
        if self.config.shuffle_options:
            question = question.reordered(options_order(self.config.seed, at, len(question.options)))
        return {
            "prompt": question.messages(self.config.prompt_style),
            "images": [decode(image, max_pixels=MAX_PIXELS) for image in question.images],
            "question": question,
        }


def options_order(seed: int, at: int, num_options: int) -> list[int]:
    """The order of the options of the question asked at place `at` of the training, the same after a restart."""
    return random.Random(f"{seed} {at}").sample(range(num_options), k=num_options)


def reward_function(config: RlConfig) -> Any:
    """The reward as TRL calls it; the mean of every part goes to the log."""

    def reward(
        *,
        completions: list[list[dict[str, str]]],
        completion_ids: list[list[int]],
        question: list[Question],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float]:
        texts = [completion[0]["content"] for completion in completions]
        rewards = [
            rewards_of(text, len(ids), asked.answer, config)
            for text, ids, asked in zip(texts, completion_ids, question, strict=True)
        ]
        consistent = [think_answer_consistent(*pair) for pair in zip(texts, question, strict=True)]
        for name in ("format", "accuracy", "length"):
            log_metric(f"{name}_reward", fmean(getattr(reward, name) for reward in rewards))
        log_metric("overlong_penalty", fmean(reward.overlong_penalty for reward in rewards))
        log_metric("think_answer_consistency", fmean(consistent))
        return [reward.total for reward in rewards]

    return reward


if __name__ == "__main__":
    run_worker(main)
