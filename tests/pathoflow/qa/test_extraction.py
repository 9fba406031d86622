"""What is read out of a response, and what is not."""

from __future__ import annotations

import time

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pathoflow.qa.extraction import comparable, extract, named_option
from pathoflow.qa.prompts import LETTERS, response_text
from pathoflow.qa.question import Question
from pathoflow.qa.response import parse

OPTIONS = ("T-cell lymphoma", "B-cell lymphoma", "lipoma", "melanoma")
ADENOMAS = ("adenoma", "tubular adenoma", "villous adenoma", "carcinoma")
NORMAL = ("normal", "abnormal")
CHINESE = ("腺瘤", "管状腺瘤", "黑色素瘤", "正常")
PLAIN = st.text(alphabet=st.characters(exclude_characters="<>"), max_size=60)
WORDS = st.text(alphabet="abéßIJα+-瘤腺0", min_size=2, max_size=8)
NAMES = st.lists(st.lists(WORDS, min_size=1, max_size=3).map(" ".join), min_size=2, max_size=26, unique_by=comparable)
unhurried = settings(deadline=None)


def choice(options=OPTIONS) -> Question:
    return Question("q", "", (), tuple(options), "A")


def read(response, options=OPTIONS):
    return extract(response, choice(options)).answer


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("<think>It is not A.</think><answer>B</answer>", "B"),
        ("<think>It is not A.</think>\n<answer>\n**B**\n</answer>", "B"),
        ("<answer>B. B-cell lymphoma</answer>", "B"),
        ("<answer>(D)</answer> rather <answer>A</answer>", "D"),
        ("<think>So D.</think> I choose C", "C"),
        ("<think>So D.</think><answer>C", "C"),
        ("C", "C"),
        ("b", "B"),
        ("Ｂ", "B"),
        ("Ｂ。", "B"),
        ("(a)", "A"),
        ("option b", "B"),
        ("选项B", "B"),
        ("After all of this it must be (D).", "D"),
        ("I choose option b because of the many small cells in it", "B"),
        ("B: the cells are brown, and there are a lot of them", "B"),
        ("The answer is C, since the fat is yellow and lobulated", "C"),
        ("Answer: C, since the fat is yellow and lobulated", "C"),
        ("**Answer:** C, since the fat is yellow and lobulated", "C"),
        ("The correct option is (C), since the fat is yellow", "C"),
        ("A seems likely at first, but the final answer is: B", "B"),
        ("The answer is A, I thought. After more thought, the final answer is: B", "B"),
        ("答案是B", "B"),
        ("答案：B", "B"),
        ("答案是C，因为脂肪呈黄色", "C"),
        ("最终答案：Ｄ。", "D"),
        ("我选B", "B"),
        ("因此选择Ｃ，因为脂肪呈黄色", "C"),
        (r"\boxed{D}", "D"),
        (r"So it follows that it is $\boxed{\text{D}}$, as the lesion is black and not yellow", "D"),
        (r"\boxed{Melanoma} is what I see in this image of the skin of A", "D"),
        ("The answer is a lipoma of the skin and nothing else", "C"),
        ("The answer is B-cell lymphoma without any doubt at all", "B"),
        ("yellow lobules: Lipoma", "C"),
        ("A lipoma", "C"),
        ("A benign lipoma of the skin", "C"),
        ("lipomas", "C"),
        ("I think that it is a lipoma", "C"),
        ("It is lipoma, not melanoma", "C"),
        ("Not melanoma but lipoma", "C"),
        ("Melanoma is unlikely. Lipoma", "C"),
        ("No atypia is seen, so this is lipoma", "C"),
        ("Between lipoma and melanoma, I choose C", "C"),
    ],
)
def test_what_can_be_read(response, letter):
    assert read(response) == letter


@pytest.mark.parametrize(
    "response",
    [
        "",
        "<think>The answer is C: lipoma</think>",
        "<answer></answer>",
        "<answer>E</answer>",
        "<answer>A or B</answer>",
        "Either A or B",
        "lipoma or melanoma",
        "A whorled pattern",
        "A picture with many small blue cells in it",
        "The answer is a whorled pattern",
        "The answer is A. No, the answer is B, as the cells are brown",
        r"The answer is B. \boxed{C}",
        "I cannot tell",
        "This is not melanoma",
        "It isn't melanoma.",
        "The answer is not B",
        "I do not think that the answer is B",
        "neither melanoma, lipoma nor T-cell lymphoma",
        "Melanoma is unlikely",
        "Melanoma can be excluded",
        "Hyperlipomatosis",
    ],
)
def test_what_cannot_be_read_is_no_answer(response):
    assert read(response) is None


@pytest.mark.parametrize(
    ("options", "response", "letter"),
    [
        (ADENOMAS, "Tubular adenoma", "B"),
        (ADENOMAS, "Small round glands: a tubular adenoma of the colon", "B"),
        (ADENOMAS, "an adenoma", "A"),
        (ADENOMAS, "tubular adenoma or adenoma", None),
        (ADENOMAS, "adenocarcinoma", None),
        (NORMAL, "abnormal", "B"),
        (NORMAL, "The tissue is abnormal", "B"),
        (NORMAL, "The tissue is normal", "A"),
        (("normal", "inflamed"), "The tissue is abnormal", None),
        (("small cell carcinoma", "lipoma"), "non-small cell carcinoma", None),
        (("non-small cell carcinoma", "small cell carcinoma"), "This is non-small cell carcinoma", "A"),
        (("no tumour", "tumour"), "There is no tumour here", "A"),
        (("E. coli", "u", "v", "w", "x"), "E. coli is seen in the whole of it", "A"),
        (CHINESE, "管状腺瘤", "B"),
        (CHINESE, "符合管状腺瘤的表现。", "B"),
        (CHINESE, "不是黑色素瘤", None),
        (CHINESE, "不是黑色素瘤，而是腺瘤", "A"),
        (CHINESE, "组织不正常", None),
        (CHINESE, "未见坏死，管状腺瘤小而圆", "B"),
        (CHINESE, "黑色素瘤可能性小", None),
        (CHINESE, "黑色素瘤可排除，正常", "D"),
        (("HER2 (+)", "HER2 (-)"), "HER2 (-)", "B"),
        (("lipoma", "Lipoma", "naevus"), "lipoma", "A"),
        (("lipoma ", "Lipoma", "naevus"), "LIPOMA.", None),
        (tuple(f"kind {number}" for number in range(26)), "kind 25", "Z"),
        (tuple(f"kind {number}" for number in range(26)), "I cannot tell", None),
    ],
)
def test_options_that_are_alike_are_told_apart(options, response, letter):
    assert read(response, options) == letter


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("Yes", "yes"),
        ("<think>no, or</think><answer>yes.</answer>", "yes"),
        ("No, it is benign.", "no"),
        ("No. Yes would be wrong.", "no"),
        ("Yes it is", "yes"),
        ("The final answer is: no", "no"),
        (r"I see mitoses, hence \boxed{\text{Yes}}", "yes"),
        ("是的，可见异型性", "yes"),
        ("否", "no"),
        ("答案：不是", "no"),
        ("No atypia", None),
        ("Yesterday", None),
        (r"\boxed{yes} or \boxed{no}", None),
        ("Perhaps", None),
        ("这是腺瘤", None),
        ("", None),
    ],
)
def test_yes_and_no(response, answer):
    assert extract(response, Question("q", "Is it malignant?", (), (), "yes")).answer == answer


def test_an_open_answer_is_the_text_after_the_reasoning():
    question = Question("q", "What is it?", (), (), "lipoma")
    assert extract("<think>yellow</think><answer> a lipoma </answer>", question).answer == "a lipoma"
    assert extract("<think>yellow</think>", question).answer is None


@pytest.mark.parametrize(
    ("response", "how"),
    [
        ("c", "whole"),
        ("the answer is c", "declared"),
        ("It is a lipoma", "named"),
        ("so C", "letter"),
        ("?", "unreadable"),
    ],
)
def test_the_rule_is_told(response, how):
    assert extract(response, choice()).how == how


@unhurried
@given(st.text(max_size=200), st.lists(st.text(min_size=1, max_size=20), min_size=2, max_size=26))
def test_an_answer_is_one_of_the_options_or_none(response, options):
    assert read(response, options) in {None, *LETTERS[: len(options)]}


@unhurried
@given(
    st.lists(st.sampled_from([*OPTIONS, "A", "a", "B", "not", ",", ".", "答案是", "the answer is", r"\boxed{", "}"]))
)
def test_any_order_of_telling_words_is_read_or_not(pieces):
    assert read(" ".join(pieces)) in {None, *"ABCD"}


@unhurried
@given(st.text(max_size=100))
def test_yes_no_and_open_texts_never_raise(response):
    assert extract(response, Question("q", "?", (), (), "no")).answer in {None, "yes", "no"}
    assert extract(response, Question("q", "?", (), (), "lipoma")).answer != ""


@unhurried
@given(PLAIN, st.sampled_from("ABCD"), PLAIN)
def test_the_answer_block_alone_counts(thoughts, letter, rest):
    assert read(response_text(thoughts, letter) + rest) == letter


@unhurried
@given(PLAIN)
def test_reasoning_alone_is_no_answer(thoughts):
    assert read(f"<think>{thoughts}</think>") is None
    assert parse(f"<think>{thoughts}</think>").thinking == thoughts


@unhurried
@given(
    st.lists(st.text(max_size=20).filter(str.strip), min_size=2, max_size=26, unique_by=comparable), st.data(), PLAIN
)
def test_the_right_options_own_text_is_always_read(options, data, thoughts):
    number = data.draw(st.integers(0, len(options) - 1))
    text = options[number]
    # A single letter is that of an option, whatever the option of this text is.
    assume(
        "<" not in text
        and len(comparable(text)) > 1
        and not comparable(text).startswith(("option ", "choice ", "选项"))
    )
    assert read(response_text(thoughts, text), options) == LETTERS[number]


@unhurried
@given(
    NAMES, st.data(), st.sampled_from(["The answer is {}", "answer: {}.", "答案是{}", r"\boxed{{{}}}", "It must be {}"])
)
def test_an_option_that_a_sentence_names_is_read(options, data, sentence):
    number = data.draw(st.integers(0, len(options) - 1))
    assume(named_option(options[number], options) == LETTERS[number])
    assert read(sentence.format(options[number]), options) == LETTERS[number]


@unhurried
@given(
    NAMES,
    st.data(),
    st.sampled_from(["This is not {}", "It isn't {}.", "{} is unlikely", "不是{}", "The answer is not {}"]),
)
def test_an_option_that_is_denied_is_not_the_answer(options, data, sentence):
    number = data.draw(st.integers(0, len(options) - 1))
    assert read(sentence.format(options[number]), options) != LETTERS[number]


@unhurried
@given(
    st.permutations(range(4)),
    st.sampled_from(
        [*OPTIONS, "This is a lipoma, not a melanoma", "The answer is melanoma", "lipoma or melanoma", "?"]
    ),
)
def test_another_order_of_options_changes_the_letter_alone(order, response):
    before, after = read(response), read(response, [OPTIONS[at] for at in order])
    assert (before is None) == (after is None)
    if before and after:
        assert OPTIONS[order[LETTERS.index(after)]] == OPTIONS[LETTERS.index(before)]


@pytest.mark.parametrize(
    "piece",
    ["lipoma ", "not a lipoma, ", r"\boxed{", "answer is ", "A ", "(", "是", "{{", "B是 ", "B" + "是" * 9 + "x "],
)
def test_endless_texts_are_read_in_no_time(piece):
    start = time.process_time()
    read(piece * 2000 + " B" + piece.strip() * 2000 + " so is that one too")
    assert time.process_time() - start < 2
