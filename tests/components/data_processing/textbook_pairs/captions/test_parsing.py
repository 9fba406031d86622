from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data_processing.textbook_pairs.captions.parsing import Caption, parse_caption, split_parts

WORDS = st.lists(st.sampled_from(["narrow", "ducts", "with", "stroma", "裂隙状", "管内型"]), min_size=1, max_size=4)
STYLES = ["({}) {}. ", "{}. {}. ", "{}, {}. ", "{}) {}; "]


@given(st.lists(WORDS, min_size=2, max_size=6), st.sampled_from(STYLES), st.booleans())
def test_every_part_comes_back_under_its_label(parts: list[list[str]], style: str, lower: bool) -> None:
    letters = string.ascii_lowercase if lower and style[0] != "{" else string.ascii_uppercase
    texts = [" ".join(words).capitalize() for words in parts]
    written = "Title of it. " + "".join(
        style.format(letter, text) for letter, text in zip(letters, texts, strict=False)
    )
    title, found = split_parts(written)
    assert title == "Title of it"
    assert found == dict(zip(string.ascii_uppercase, texts, strict=False))


@given(st.text(max_size=200))
def test_no_text_breaks_the_parser(text: str) -> None:
    parse_caption(text)
    parse_caption("Fig. 3 " + text)
    for part in split_parts(text)[1].values():
        assert part


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "图13-19 纤维腺瘤 A. 裂隙状管内型;B. 腺管状管周型。",
            Caption("13-19", "纤维腺瘤", {"A": "裂隙状管内型", "B": "腺管状管周型"}),
        ),
        ("图27 －10 结肠桥本甲状腺炎。", Caption("27-10", "结肠桥本甲状腺炎")),
        ("图17 腺瘤 a.腺泡；b.乳头；C.导管。", Caption("17", "腺瘤", {"A": "腺泡", "B": "乳头", "C": "导管"})),
        ("Fig. 2 Lipoma. (A; B) Whole. (C) Cut.", Caption("2", "Lipoma", {"A": "Whole", "B": "Whole", "C": "Cut"})),
        ("图3 腺瘤 A:腺泡;.B:乳头。", Caption("3", "腺瘤", {"A": "腺泡", "B": "乳头"})),
        (
            "图 ３．２　乳腺 （Ａ）导管；（Ｂ，Ｃ）间质",
            Caption("3.2", "乳腺", {"A": "导管", "B": "间质", "C": "间质"}),
        ),
        (
            "Figure 7: Naevus. A–C, Junctional type. D, Dermal type.",
            Caption(
                "7",
                "Naevus",
                {"A": "Junctional type", "B": "Junctional type", "C": "Junctional type", "D": "Dermal type"},
            ),
        ),
        (
            "FIG. 2-4 Intraductal (a) and periductal (b) growth",
            Caption("2-4", "growth", {"A": "Intraductal", "B": "periductal"}),
        ),
        ("Fig. 5B Lipoma.", Caption("5", "Lipoma", {}, "B")),
        (
            "图 2-3 胃腺癌。①狭窄的腺管；②散在的细胞，HE×200",
            Caption("2-3", "胃腺癌", {"1": "狭窄的腺管", "2": "散在的细胞，HE×200"}),
        ),
        (
            "Figure 4. Naevus. A and C, whole mount; B and D, cut surface.",
            Caption("4", "Naevus", dict.fromkeys("AC", "whole mount") | dict.fromkeys("BD", "cut surface")),
        ),
        (
            "Fig. 8 Hepatitis B. Dilated ducts (HE, ×200) (a), pale nests (b) and crypts (c).",
            Caption("8", "Hepatitis B", {"A": "Dilated ducts (HE, ×200)", "B": "pale nests", "C": "crypts"}),
        ),
        (
            "Fig. 6. Schwannoma of the left parotid. Left, whole; right, cut.",
            Caption("6", "Schwannoma of the left parotid", {"left": "whole", "right": "cut"}),
        ),
        ("图7 上皮增生。上：导管；下：腺泡", Caption("7", "上皮增生", {"top": "导管", "bottom": "腺泡"})),
        ("图7 左侧腮腺腺瘤（左：导管；右：腺泡）", Caption("7", "左侧腮腺腺瘤", {"left": "导管", "right": "腺泡"})),
        ("Fig. 9 Upper lobe. The left and right lung.", Caption("9", "Upper lobe. The left and right lung")),
        ("Fig. 2 Title. A. One. C. Three.", Caption("2", "Title. A. One. C. Three")),
        ("Fig 1. Deficiency of vitamin A. HE, x100", Caption("1", "Deficiency of vitamin A. HE, x100")),
        # As bad scans are read: without the space behind the number, and with another dash in it.
        ("Fig. 4-21Lipoma. Whole.", Caption("4-21", "Lipoma. Whole")),
        ("Figure 3.27Lipoma of the arm", Caption("3.27", "Lipoma of the arm")),
        ("图28一23乳腺 A.导管；B.腺泡", Caption("28-23", "乳腺", {"A": "导管", "B": "腺泡"})),
        ("图5 脂肪瘤1.导管；2.腺泡", Caption("5", "脂肪瘤", {"1": "导管", "2": "腺泡"})),
    ],
)
def test_captions_of_real_shapes(text: str, expected: Caption) -> None:
    assert parse_caption(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Figure 3 shows a cyst.",
        "Fig. 3, and the others",
        "图3-1示腺管扩张",
        "图3-1左图显示腺管扩张",
        "图3-1②显示腺管扩张",
        "Figure 10b–d show ducts.",
        "表3-1 鉴别",
        "Table 1. Ages",
        "脂肪坏死(图片)",
    ],
)
def test_what_is_no_caption(text: str) -> None:
    assert parse_caption(text) is None
