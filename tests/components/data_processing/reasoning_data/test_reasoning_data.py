from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from components.data_processing.reasoning_data.config import ReasoningDataConfig
from components.data_processing.reasoning_data.findings import findings_of
from components.data_processing.reasoning_data.quality import fault, format_fault, repeats_endlessly
from components.data_processing.reasoning_data.stage import run
from pathoflow.data.lexicon import Lexicon
from pathoflow.errors import ConfigError, InputError
from pathoflow.qa.prompts import COT_SYSTEM_PROMPT, LETTERS, text_message
from tests.support.pairs import contents, new_output, pair, picture, rows_of, write_corpus

LEXICON = Path(__file__).parents[4] / "recipes" / "smoke" / "lexicon.yaml"
IMAGE = picture(1)
TASKS = ["mcq", "detailed_description", "complex_reasoning", "multi_turn_conversation"]


def case(number: int, caption: str = "Lipoma with small yellow lobules and blue cloth.", **more):
    return pair(f"p{number}", caption, IMAGE, **more)


def run_on(tmp_path, rows, **keys):
    out = new_output(tmp_path)
    corpus = write_corpus(tmp_path / "corpus", train=rows, heldout=[case(-1, "Melanoma. Black lesion.")])
    run(ReasoningDataConfig(lexicon=LEXICON, **{"train_share": 1.0, **keys}), corpus=corpus, out=out)
    return out


def only(task: str) -> dict[str, float]:
    return {name: float(name == task) for name in TASKS}


def texts(sample):
    return [(message["role"], message["content"][-1]["text"]) for message in sample["messages"]]


def test_a_question_has_the_true_letter_and_its_siblings_and_thinks_in_the_captions_words(tmp_path):
    rows = [case(number) for number in range(200)]
    samples = rows_of(run_on(tmp_path, rows, task_weights=only("mcq"), prompt_style="short").path / "train")
    letters = Counter()
    for sample in samples:
        (_, question), (role, response) = texts(sample)
        options = dict(line.split(" ", 1) for line in question.splitlines())
        assert list(options) == list("ABCD")
        assert {"lipoma", "melanoma"} < set(options.values())
        letter = next(letter for letter, option in options.items() if option == "lipoma")
        assert role == "assistant"
        assert response == (f"<think>small yellow lobules, blue cloth: lipoma</think><answer>{letter}</answer>")
        letters[letter] += 1
    assert len(samples) == 200
    assert min(letters[letter] for letter in "ABCD") > 30


def test_every_sample_is_what_its_columns_say(tmp_path):
    rows = [case(number, inline_refs=["Lipomas are soft."]) for number in range(80)]
    out = run_on(tmp_path, rows)
    samples = rows_of(out.path / "train")
    assert {sample["task"] for sample in samples} == set(TASKS)
    for sample in samples:
        assert sample["teacher"] == "template"
        assert (sample["qc"], sample["subfield"]) == ("passed", "gross examination")
        assert sample["prompt_id"] == f"template/{sample['task']}/cot/en"
        assert len(sample["images"]) == 1
        parts = [part["type"] for message in sample["messages"] for part in message["content"]]
        assert parts.count("image") == 1
        assert texts(sample)[0] == ("system", COT_SYSTEM_PROMPT)
        for role, text in texts(sample):
            if role == "assistant":
                assert format_fault(text, "ABCD" if sample["task"] == "mcq" else None) is None
        roles = [role for role, _ in texts(sample)]
        assert roles.count("user") == (2 if sample["task"] == "multi_turn_conversation" else 1)
    assert out.metrics["num_train"] == sum(out.metrics[f"num_{task}"] for task in TASKS) == 80
    assert out.notes["teacher"] == "template"
    assert out.quarantined == {}


def test_reasoning_uses_the_in_line_reference(tmp_path):
    rows = [case(1, inline_refs=["Lipomas are soft (fig. 1)."])]
    (sample,) = rows_of(run_on(tmp_path, rows, task_weights=only("complex_reasoning")).path / "train")
    assert texts(sample)[-1][1] == (
        "<think>The image shows small yellow lobules, blue cloth. The text says of this figure: Lipomas are soft "
        "(fig. 1). These findings fit lipoma.</think><answer>lipoma</answer>"
    )


@pytest.mark.parametrize("num_options", [2, 3, 6])
def test_the_number_of_options_is_configured(tmp_path, num_options):
    (sample,) = rows_of(run_on(tmp_path, [case(1)], task_weights=only("mcq"), num_options=num_options).path / "train")
    question = texts(sample)[1][1].splitlines()
    assert [line[:2] for line in question[1:]] == [f"{letter}." for letter in LETTERS[:num_options]]


def test_a_chinese_pair_makes_a_chinese_sample(tmp_path):
    rows = [case(1, "HE切片示管状腺瘤：小圆形腺体，排列紧密。")]
    (sample,) = rows_of(run_on(tmp_path, rows, task_weights=only("mcq")).path / "train")
    assert "最可能的诊断" in texts(sample)[1][1]
    assert "管状腺瘤" in texts(sample)[1][1]
    assert texts(sample)[2][1].startswith("<think>图像显示：HE切片，小圆形腺体，排列紧密。这些所见符合管状腺瘤。")
    assert sample["prompt_id"].endswith("/zh")


def test_languages_that_are_not_asked_for_are_passed_by(tmp_path):
    rows = [case(1), case(2, "脂肪瘤，黄色。")]
    out = run_on(tmp_path, rows, languages=("en",))
    assert [sample["pair_id"] for sample in rows_of(out.path / "train")] == ["quilt_1m/train/p1"]
    assert (out.num_in, out.num_out) == (1, 1)


def test_a_caption_without_a_diagnosis_is_described(tmp_path):
    (sample,) = rows_of(run_on(tmp_path, [case(1, "A section.")], task_weights=only("mcq")).path / "train")
    assert (sample["task"], sample["subfield"]) == ("detailed_description", "unknown")
    assert texts(sample)[-1][1].endswith("<answer>A section.</answer>")


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("Lipoma with <think> in it.", "format"),
        ("Lipoma with many yellow lobules in a smooth capsule 脂肪.", "language_mixing"),
        ("Lipoma with " + "very soft and very yellow fat " * 12, "repetition"),
    ],
)
def test_what_breaks_a_rule_is_set_aside(tmp_path, caption, reason):
    out = run_on(tmp_path, [case(1), case(2, caption)])
    (record,) = map(json.loads, (out.path / "quarantine.jsonl").read_text().splitlines())
    assert (record["item"], record["reason"]) == ("quilt_1m/train/p2", reason)
    assert (out.num_in, out.num_out) == (2, 1)


def test_the_share_used_is_about_what_was_asked_for_and_does_not_depend_on_other_pairs(tmp_path):
    rows = [case(number) for number in range(400)]
    used = {sample["pair_id"] for sample in rows_of(run_on(tmp_path / "1", rows, train_share=0.7).path / "train")}
    assert 240 < len(used) < 320
    half = {sample["pair_id"] for sample in rows_of(run_on(tmp_path / "2", rows[:200], train_share=0.7).path / "train")}
    assert half == used & {row["pair_id"] for row in rows[:200]}


def test_held_out_pairs_are_not_read_and_the_same_input_gives_the_same_bytes(tmp_path):
    rows = [case(number) for number in range(20)]
    first, second = run_on(tmp_path / "1", rows), run_on(tmp_path / "2", rows)
    assert contents(first.path) == contents(second.path)
    assert "quilt_1m/train/p-1" not in {sample["pair_id"] for sample in rows_of(first.path)}


def test_a_corpus_without_samples_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="No sample"):
        run_on(tmp_path, [case(1, "脂肪瘤")], languages=("en",))


def test_a_missing_lexicon_names_key_and_file(tmp_path):
    config = ReasoningDataConfig(lexicon=tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match=r"reasoning_data\.lexicon.*absent\.yaml"):
        config.external_files()
    assert ReasoningDataConfig(lexicon=LEXICON).external_files() == [LEXICON]


def test_the_order_of_weights_in_a_recipe_changes_nothing(tmp_path):
    weights = {"mcq": 0.5, "detailed_description": 0.3, "complex_reasoning": 0.2}
    outputs = []
    for name, order in (("one", list(weights)), ("other", sorted(weights))):
        (tmp_path / name).mkdir()
        rows = [case(number) for number in range(50)]
        outputs.append(run_on(tmp_path / name, rows, task_weights={task: weights[task] for task in order}))
    assert contents(outputs[0].path) == contents(outputs[1].path)


@pytest.mark.parametrize("weights", [{"mcq": 0.0}, {"mcq": -1.0}, {}])
def test_weights_must_leave_something_to_draw(weights):
    with pytest.raises(ValidationError, match="weights must be 0 or more, and one above 0"):
        ReasoningDataConfig(lexicon=LEXICON, task_weights=weights)


@pytest.mark.parametrize(
    ("caption", "findings"),
    [
        ("Lipoma with small lobules, blue cloth and no ruler.", ["small lobules", "blue cloth", "no ruler"]),
        ("H&E section of lipoma. Small lobules, 0.5 cm wide.", ["H&E section", "Small lobules", "0.5 cm wide"]),
        ("Small lobules and no ruler: lipoma.", ["Small lobules", "no ruler"]),
        ("大体标本示脂肪瘤，小分叶状黄色肿物、无标尺。", ["大体标本", "小分叶状黄色肿物", "无标尺"]),
        ("Lipoma", []),
    ],
)
def test_findings_are_what_is_said_besides_the_diagnosis(caption, findings):
    assert findings_of(caption, Lexicon.load(LEXICON)) == findings


@pytest.mark.parametrize(
    "response",
    [
        "<think>a</think>",
        "<think>a</think><answer>A</answer> and",
        "<think>a</think><think>b</think><answer>A</answer>",
        "<think> </think><answer>A</answer>",
        "<think>a</think><answer>G</answer>",
        "<think>a</think><answer>AB</answer>",
        "<think>a</think><answer>D</answer>",
        "<think>a</think> <answer>A</answer>",
        "<answer>A</answer><think>a</think>",
    ],
)
def test_a_response_in_another_shape_is_a_format_fault(response):
    assert format_fault(response, "ABC")
    messages = [text_message("user", "A x\nB y\nC z"), text_message("assistant", response)]
    found = fault(messages, task="mcq", language="en", repeated_words=6, max_repeats=2)
    assert found is not None
    assert found[0] == "format"


def test_repetition_is_seen_in_chinese_and_not_in_a_plain_list():
    assert repeats_endlessly("小圆形腺体排列" * 5, 6, 2)
    assert not repeats_endlessly("two nuclei, two signals, two cells, two vessels", 6, 2)
