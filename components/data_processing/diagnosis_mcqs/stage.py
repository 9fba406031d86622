"""Samples multiple-choice questions on the diagnosis from pairs that no reasoning sample used."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from components.data_processing.diagnosis_mcqs.config import DiagnosisMcqsConfig
from components.data_processing.diagnosis_mcqs.leaks import OptionSet, accuracy, guessers, letter_share
from components.data_processing.diagnosis_mcqs.sampling import stratified_sample
from pathoflow.contract.output import StageOutput
from pathoflow.data.lexicon import Diagnosis, Lexicon
from pathoflow.data.plots import image_grid, stacked_bars
from pathoflow.data.schemas import MCQ, ShardWriter, read_rows
from pathoflow.errors import InputError
from pathoflow.qa.prompts import DIAGNOSIS_QUESTION, LETTERS, mcq_text

NUM_SHOWN = 12


def run(config: DiagnosisMcqsConfig, *, corpus: Path, reasoning_data: Path, out: StageOutput) -> None:
    """Writes `train/`, `dev/` and `heldout/` with one question for each sampled pair.

    Args:
        config: The stage's configuration.
        corpus: Where the pairs come from; held-out questions come from held-out pairs alone.
        reasoning_data: Its pairs are left out, so that reinforcement learning meets new images.
        out: Where the questions go.

    Raises:
        InputError: No pair is left to ask about in train.
    """
    lexicon = Lexicon.load(config.lexicon)
    used = {row["pair_id"] for row in read_rows(reasoning_data, ["pair_id"])}
    questions: dict[str, list[OptionSet]] = defaultdict(list)
    composition: dict[str, Counter[str]] = defaultdict(Counter)
    shown: list[dict[str, Any]] = []
    for split, num in {"train": config.num_train, "dev": config.num_dev, "heldout": config.num_heldout}.items():
        diagnoses = _sampled(_unused(corpus / split, used, lexicon, out), num, split, config)
        with ShardWriter(out.path / split, MCQ, prefix=split, shard_bytes=config.shard_mib * 2**20) as writer:
            for row, question in _questions(corpus / split, diagnoses, lexicon, config):
                writer.write(row)
                questions[split].append(question)
                composition[row["subfield"]][split] += 1
                if split == "heldout" and len(shown) < NUM_SHOWN:
                    shown.append(row)
                out.progress(writer.num_rows, len(diagnoses), f"{split} questions")
        out.num_out += writer.num_rows
        out.metric(f"num_{split}", writer.num_rows)
    if not questions["train"]:
        raise InputError(
            "No pair of corpus/train is left to ask about: lower reasoning_data.train_share, or see whether "
            "the lexicon's names occur in the captions."
        )
    _report_balance(questions, config, out)
    out.plot("composition", stacked_bars(composition, unit="questions", title="Questions by subfield and split"))
    words = [f"{row['prompt']}\nAnswer: {row['answer']}" for row in shown]
    out.plot("examples", image_grid([row["images"][0]["bytes"] for row in shown], words, columns=4, width=44, lines=8))


def _unused(directory: Path, used: Collection[str], lexicon: Lexicon, out: StageOutput) -> dict[str, Diagnosis]:
    """Finds the diagnoses of a split's unused pairs by pair id; pairs that name none, or several, are counted."""
    rows = read_rows(directory, ["pair_id", "caption"])
    named = {row["pair_id"]: lexicon.find(row["caption"]) for row in rows if row["pair_id"] not in used}
    out.num_in += len(named)
    found = {pair_id: diagnosis for pair_id, diagnosis in named.items() if diagnosis is not None}
    before = out.metrics.get("num_without_diagnosis", 0)
    out.metric("num_without_diagnosis", before + len(named) - len(found))
    return found


def _sampled(
    diagnoses: dict[str, Diagnosis], num: int, split: str, config: DiagnosisMcqsConfig
) -> dict[str, Diagnosis]:
    """Draws a part of the diagnoses, in proportion to subfields (and tissue systems)."""

    def stratum_of(pair_id: str) -> tuple[str, str]:
        diagnosis = diagnoses[pair_id]
        by_tissue = diagnosis.subfield in config.tissue_strata
        return diagnosis.subfield, diagnosis.tissue_system if by_tissue else ""

    rng = random.Random(f"{config.seed}/{split}")
    return {pair_id: diagnoses[pair_id] for pair_id in stratified_sample(list(diagnoses), stratum_of, num, rng)}


def _questions(
    directory: Path, diagnoses: dict[str, Diagnosis], lexicon: Lexicon, config: DiagnosisMcqsConfig
) -> Iterator[tuple[dict[str, Any], OptionSet]]:
    for row in read_rows(directory, ["pair_id", "image"]):
        if (diagnosis := diagnoses.get(row["pair_id"])) is None:
            continue
        rng = random.Random(f"{config.seed}/{row['pair_id']}")
        options = [diagnosis, *lexicon.distractors(diagnosis, rng, config.num_options - 1)]
        rng.shuffle(options)
        answer = options.index(diagnosis)
        names = [option.name_in(config.language) for option in options]
        yield (
            {
                "mcq_id": f"diagnosis/{row['pair_id']}",
                "prompt": mcq_text(names, config.prompt_style, DIAGNOSIS_QUESTION[config.language]),
                "images": [row["image"]],
                "options": names,
                "answer": LETTERS[answer],
                "subfield": diagnosis.subfield,
                "tissue_system": diagnosis.tissue_system,
                "diagnosis": diagnosis.id,
                "pair_id": row["pair_id"],
            },
            OptionSet(tuple(options), answer),
        )


def _report_balance(questions: dict[str, list[OptionSet]], config: DiagnosisMcqsConfig, out: StageOutput) -> None:
    """Chance, the balance of letters, and what guessers score that see the options alone."""
    out.metric("chance", 1 / config.num_options)
    scored = questions["heldout"] or questions["train"]
    for letter, share in letter_share(scored).items():
        out.metric(f"share_of_{letter}", share)
    scores = {name: accuracy(guesser, scored) for name, guesser in guessers(questions["train"]).items()}
    for name, score in scores.items():
        out.metric(f"options_only_{name}", score)
    best = max(scores, key=lambda name: scores[name])
    out.metric("options_only_best", scores[best])
    out.note("options_only_best", best)
