"""Measures the base, CPT, SFT and RL models on held-out questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from components.evaluation.vqa_benchmarks.answering import FRAME
from components.evaluation.vqa_benchmarks.config import VqaBenchmarksConfig
from components.evaluation.vqa_benchmarks.evaluations import Evaluation, answers, evaluations
from components.evaluation.vqa_benchmarks.lengths import answerable
from components.evaluation.vqa_benchmarks.plots import accuracy_bars, examples, subfield_bars
from components.evaluation.vqa_benchmarks.questions import GREY, read_questions
from components.evaluation.vqa_benchmarks.scoring import (
    Verdict,
    accuracy,
    consistent_share,
    judge,
    score_table,
    thinking_accuracy,
    unreadable_share,
)
from pathoflow.contract.output import StageOutput
from pathoflow.data.schemas import PREDICTIONS, ShardWriter
from pathoflow.errors import InputError
from pathoflow.qa.question import Question
from pathoflow.qa.scoring import chance
from pathoflow.qa.statistics import compare_paired

BENCHMARK = "diagnosis_mcqs/heldout"
REASONING_MODELS = ("sft", "rl")
TITLES = {"base": "base", "cpt": "CPT", "sft": "SFT", "rl": "RL"}

Judged = Mapping[Evaluation, Sequence[Verdict]]


def run(config: VqaBenchmarksConfig, *, diagnosis_mcqs: Path, cpt: Path, sft: Path, rl: Path, out: StageOutput) -> None:
    """Writes `predictions/`, every answer of every model, with `scores.json` and `protocol.json`.

    Args:
        config: The stage's configuration.
        diagnosis_mcqs: Its held-out questions are asked.
        cpt: Holds the base model and the model after continued pretraining.
        sft: Holds the model after fine-tuning.
        rl: Holds the model after reinforcement learning.
        out: Where predictions and figures go.

    Raises:
        InputError: There is no question to ask, or a model cannot be loaded.
    """
    directories = {"base": cpt / "base", "cpt": cpt / "model", "sft": sft / "model", "rl": rl / "model"}
    for model, directory in directories.items():
        if not directory.is_dir():
            stage = "cpt" if model == "base" else model
            raise InputError(f"There is no model in {directory}: run the {stage} stage again.")
    sources = {model: str(directory) for model, directory in directories.items()}
    questions = read_questions(diagnosis_mcqs / "heldout", config, out)
    questions = answerable(questions, sources, config, out)
    if not questions:
        raise InputError(
            "diagnosis_mcqs/heldout holds no question that can be asked: raise diagnosis_mcqs.num_heldout, and look "
            "at quarantine.jsonl for what was wrong with those that there are."
        )
    responses = answers(evaluations(config, sources), questions, config, out)
    judged = {evaluation: judge(questions, texts) for evaluation, texts in responses.items()}
    for evaluation, verdicts in judged.items():
        _write_predictions(evaluation, verdicts, config, out)
    _report(judged, questions, config, out)


def _write_predictions(
    evaluation: Evaluation, verdicts: Sequence[Verdict], config: VqaBenchmarksConfig, out: StageOutput
) -> None:
    style = config.prompt_style
    with ShardWriter(out.path / "predictions", PREDICTIONS, prefix=evaluation.name) as writer:
        for verdict in verdicts:
            writer.write(
                {
                    "benchmark": BENCHMARK,
                    "model": evaluation.model,
                    "item_id": verdict.question.id,
                    "prompt_style": style if evaluation.protocol == "generation" else f"{style}/{evaluation.protocol}",
                    "response": verdict.response,
                    "extracted": verdict.extracted,
                    "answer": verdict.question.answer,
                    "correct": verdict.correct,
                    "blank_image": evaluation.blank,
                }
            )
    out.num_out += writer.num_rows


def _report(judged: Judged, questions: Sequence[Question], config: VqaBenchmarksConfig, out: StageOutput) -> None:
    protocols = {evaluation.model: getattr(config.protocols, evaluation.model) for evaluation in judged}
    scored, blank, generated = {}, {}, {}
    for evaluation, verdicts in judged.items():
        if evaluation.blank:
            blank[evaluation.model] = verdicts
        elif evaluation.protocol == protocols[evaluation.model]:
            scored[evaluation.model] = verdicts
        if evaluation.protocol == "generation" and not evaluation.blank:
            generated[evaluation.model] = verdicts
    for model, protocol in protocols.items():
        out.note(f"protocol_{model}", protocol)
    guessing = chance(questions)
    out.metric("num_items", len(questions))
    out.metric("chance", guessing)
    _report_accuracies(scored, blank, generated, out)
    for model in REASONING_MODELS:
        out.metric(f"think_answer_consistency_{model}", consistent_share(generated.get(model, scored[model])))
        out.metric(f"thinking_accuracy_{model}", thinking_accuracy(generated.get(model, scored[model])))
    _compare(scored, out)
    out.save_json(
        "scores.json",
        {
            "benchmark": BENCHMARK,
            "chance": guessing,
            "models": {model: score_table(verdicts) for model, verdicts in scored.items()},
            "blank_images": {model: score_table(verdicts) for model, verdicts in blank.items()},
            "generation": {model: score_table(verdicts) for model, verdicts in generated.items()},
        },
    )
    _save_protocol(protocols, config, out)
    bars = {TITLES[model]: verdicts for model, verdicts in scored.items()}
    blank_bars = {f"{TITLES[model]},\nblank images": verdicts for model, verdicts in blank.items()}
    out.plot("accuracy", accuracy_bars({**bars, **blank_bars}, guessing))
    out.plot("subfields", subfield_bars(bars, guessing))
    out.plot("examples", examples(scored["rl"]))


def _report_accuracies(
    scored: Mapping[str, Sequence[Verdict]],
    blank: Mapping[str, Sequence[Verdict]],
    generated: Mapping[str, Sequence[Verdict]],
    out: StageOutput,
) -> None:
    """Accuracies with their intervals, and what could not be read."""
    for model, verdicts in [*scored.items(), *((f"{model}_blank", verdicts) for model, verdicts in blank.items())]:
        share = accuracy(verdicts)
        out.metric(f"accuracy_{model}", share.value)
        out.metric(f"accuracy_{model}_low", share.low)
        out.metric(f"accuracy_{model}_high", share.high)
        out.metric(f"unreadable_{model}", unreadable_share(verdicts))
    for model, verdicts in generated.items():
        out.metric(f"generation_accuracy_{model}", accuracy(verdicts).value)
        out.metric(f"generation_unreadable_{model}", unreadable_share(verdicts))


def _compare(scored: Mapping[str, Sequence[Verdict]], out: StageOutput) -> None:
    """Compares the model before and after reinforcement learning on the same items."""
    sft, rl = ([verdict.correct for verdict in scored[model]] for model in ("sft", "rl"))
    paired = compare_paired(sft, rl)
    out.metric("rl_minus_sft", paired.difference)
    out.metric("rl_vs_sft_p", paired.p_value)
    out.metric("num_only_sft_right", paired.num_only_first)
    out.metric("num_only_rl_right", paired.num_only_second)


def _save_protocol(protocols: Mapping[str, str], config: VqaBenchmarksConfig, out: StageOutput) -> None:
    """Writes how each figure came about."""
    likelihood = (
        f"the option letter that is likeliest after the prompt and {FRAME!r}, among the letters of the item's options"
    )
    out.save_json(
        "protocol.json",
        {
            "models": protocols,
            "prompt_style": config.prompt_style,
            "generation": {
                "decoding": "greedy",
                "max_new_tokens": config.max_new_tokens,
                "extraction": "the first <answer> block (other tags in it make it unreadable), else the text after the "
                "thinking: it is a letter or an option's text, else 'answer is X' or a box, else the one option that "
                "it names without a negation, else the one letter among the last 5 words or after 'option'; anything "
                "else is wrong",
            },
            "letter_likelihood": likelihood,
            "blank_images": f"uniform grey {list(GREY)} at each image's size",
            "interval": "Wilson score, 95 %",
            "rl_vs_sft_p": "McNemar, exact, two-sided",
        },
    )
