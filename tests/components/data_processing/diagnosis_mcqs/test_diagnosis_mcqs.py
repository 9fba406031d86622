from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data_processing.diagnosis_mcqs.config import DiagnosisMcqsConfig
from components.data_processing.diagnosis_mcqs.leaks import OptionSet, accuracy, guessers
from components.data_processing.diagnosis_mcqs.sampling import allocation, stratified_sample
from components.data_processing.diagnosis_mcqs.stage import run
from pathoflow.data.lexicon import Lexicon
from pathoflow.data.schemas import REASONING, ShardWriter
from pathoflow.errors import ConfigError, InputError
from pathoflow.qa.prompts import LETTERS
from tests.support.pairs import contents, new_output, pair, picture, rows_of, write_corpus

LEXICON_FILE = Path(__file__).parents[4] / "recipes" / "smoke" / "lexicon.yaml"
LEXICON = Lexicon.load(LEXICON_FILE)
IMAGE = picture(1)


def cases(num: int, split: str = "train", first: int = 0):
    """Pairs whose diagnoses take turns."""
    return [
        pair(f"p{number}", f"{LEXICON.diagnoses[number % 10].name}.", IMAGE, source=f"quilt_1m/{split}")
        for number in range(first, first + num)
    ]


def run_on(tmp_path, train, dev=(), heldout=(), used=(), **keys):
    corpus = write_corpus(tmp_path / "corpus", train=train, dev=dev, heldout=heldout)
    with ShardWriter(tmp_path / "reasoning_data" / "train", REASONING) as writer:
        for pair_id in used:
            writer.write({"pair_id": pair_id})
    out = new_output(tmp_path)
    config = DiagnosisMcqsConfig(lexicon=LEXICON_FILE, **keys)
    run(config, corpus=corpus, reasoning_data=tmp_path / "reasoning_data", out=out)
    return out


def test_every_question_is_about_its_pair_and_its_letter_is_right(tmp_path):
    out = run_on(tmp_path, cases(40), dev=cases(10, "dev"), heldout=cases(30, "val"), prompt_style="cot")
    by_split = {split: rows_of(out.path / split) for split in ("train", "dev", "heldout")}
    assert {split: len(rows) for split, rows in by_split.items()} == {"train": 40, "dev": 10, "heldout": 30}
    assert all(row["pair_id"].startswith("quilt_1m/val/") for row in by_split["heldout"])
    for row in rows_of(out.path):
        diagnosis = LEXICON.diagnoses[int(row["pair_id"].rpartition("p")[2]) % 10]
        assert row["options"][LETTERS.index(row["answer"])] == diagnosis.name
        assert (row["diagnosis"], row["subfield"]) == (diagnosis.id, diagnosis.subfield)
        assert row["tissue_system"] == diagnosis.tissue_system
        names = {LEXICON.by_id[other.sibling].name for other in LEXICON.diagnoses if other.name in row["options"]}
        assert names == set(row["options"])
        lines = [f"{letter}. {option}" for letter, option in zip("ABCD", row["options"], strict=True)]
        assert row["prompt"].splitlines()[1:] == lines
        assert len(row["images"]) == 1
    assert (out.num_in, out.num_out) == (80, 80)


def test_pairs_of_reasoning_samples_are_left_out(tmp_path):
    train = cases(30)
    used = [row["pair_id"] for row in train[:20]]
    asked = {row["pair_id"] for row in rows_of(run_on(tmp_path, train, used=used).path / "train")}
    assert asked == {row["pair_id"] for row in train[20:]}


def test_pairs_whose_captions_name_no_diagnosis_are_counted_and_not_asked_about(tmp_path):
    out = run_on(tmp_path, [*cases(10), pair("none", "A section.", IMAGE)])
    assert (out.num_in, out.num_out) == (11, 10)
    assert out.metrics["num_without_diagnosis"] == 1


def test_strata_keep_their_shares(tmp_path):
    train = [pair(f"l{number}", "Lipoma.", IMAGE) for number in range(60)]
    train += [pair(f"h{number}", "HSIL.", IMAGE) for number in range(30)]
    train += [pair(f"a{number}", "Tubular adenoma.", IMAGE) for number in range(10)]
    rows = rows_of(run_on(tmp_path, train, num_train=20).path / "train")
    assert Counter(row["subfield"] for row in rows) == {
        "gross examination": 12,
        "cytology": 6,
        "histopathology": 2,
    }


def test_guessers_that_see_only_the_options_are_near_chance(tmp_path):
    out = run_on(tmp_path, cases(1000), heldout=cases(1000, "val"))
    scores = {name: value for name, value in out.metrics.items() if name.startswith("options_only_")}
    assert len(scores) > 8
    assert all(value == pytest.approx(0.25, abs=0.045) for value in scores.values()), scores
    assert out.metrics["chance"] == 0.25
    letters = [out.metrics[f"share_of_{letter}"] for letter in "ABCD"]
    assert sum(letters) == pytest.approx(1)
    assert max(letters) < 0.3


def test_the_guessers_do_find_the_leak_of_a_sibling_among_random_options():
    rng = random.Random(0)
    questions = []
    for number in range(500):
        diagnosis = LEXICON.diagnoses[number % 10]
        others = [other for other in LEXICON.diagnoses if other.id not in (diagnosis.id, diagnosis.sibling)]
        options = [diagnosis, LEXICON.by_id[diagnosis.sibling], *rng.sample(others, 2)]
        rng.shuffle(options)
        questions.append(OptionSet(tuple(options), options.index(diagnosis)))
    scores = {name: accuracy(guesser, questions) for name, guesser in guessers(questions).items()}
    assert scores["sibling_present"] > 0.45
    assert scores["common_subfield"] > 0.45


def test_the_language_of_the_questions_is_configured(tmp_path):
    row = rows_of(run_on(tmp_path, cases(10), language="zh").path / "train")[0]
    assert "管状腺瘤" in row["options"]
    assert row["prompt"].startswith("最可能的诊断是什么？")


def test_the_same_input_gives_the_same_bytes(tmp_path):
    first, second = (run_on(tmp_path / name, cases(40), num_train=20) for name in "ab")
    assert contents(first.path) == contents(second.path)


def test_without_a_training_pair_the_remedy_is_said(tmp_path):
    with pytest.raises(InputError, match=r"reasoning_data\.train_share"):
        run_on(tmp_path, [pair("none", "A section.", IMAGE)])


def test_a_missing_lexicon_names_key_and_file(tmp_path):
    with pytest.raises(ConfigError, match=r"diagnosis_mcqs\.lexicon.*absent\.yaml"):
        DiagnosisMcqsConfig(lexicon=tmp_path / "absent.yaml").external_files()


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 50), min_size=1, max_size=8), st.integers(0, 400))
def test_an_allocation_uses_all_and_is_within_one_of_its_share(sizes, num):
    total = sum(sizes.values())
    allotted = allocation(sizes, num)
    assert sum(allotted.values()) == min(num, total)
    for stratum, size in sizes.items():
        assert 0 <= allotted[stratum] <= size
        assert abs(allotted[stratum] - min(num, total) * size / total) < 1


def test_a_sample_keeps_the_order_and_draws_by_the_seed():
    items = list(range(100))
    drawn = stratified_sample(items, lambda item: item % 3, 30, random.Random(1))
    assert drawn == sorted(drawn)
    assert drawn == stratified_sample(items, lambda item: item % 3, 30, random.Random(1))
    assert drawn != stratified_sample(items, lambda item: item % 3, 30, random.Random(2))
