from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.data_processing.textbook_pairs.captions.references import Mention, mentions, references_to
from components.data_processing.textbook_pairs.text.paragraphs import sentences_across, split_sentences


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("Ducts are narrow (Fig. 13-19A).", [("13-19", "A")]),
        ("Ducts (Fig. 3.2a, b) are narrow.", [("3-2", "AB")]),
        ("Figs 2 and 3 show it.", [("2", ""), ("3", "")]),
        ("See Figures 1A–C and 2B.", [("1", "ABC"), ("2", "B")]),
        ("分为管内型(图13-19A)和管周型(图13-19B)。", [("13-19", "A"), ("13-19", "B")]),
        ("如图２、３所示", [("2", ""), ("3", "")]),
        ("镜下见腺管（图2-3①、②）。", [("2-3", "12")]),
        ("图13–19A、B与图13–20", [("13-19", "AB"), ("13-20", "")]),
        ("Figure 7 shows a cyst in 12 patients.", [("7", "")]),
        ("In Fig. 3 B cells prevail (Fig. 4 A, B).", [("3", ""), ("4", "AB")]),
        ("Fig. 3 and 40 patients", [("3", "")]),
        ("The follicles stand out (seeFigure 9.4).", [("9-4", "")]),
        ("如图I6.9所示", [("16-9", "")]),
        ("Configured 3 times, 12 figs were eaten.", []),
    ],
)
def test_mentions_of_real_shapes(sentence: str, expected: list[tuple[str, str]]) -> None:
    assert mentions(sentence) == [Mention(number, tuple(panels)) for number, panels in expected]


@pytest.mark.parametrize(
    ("sentence", "place"),
    [
        ("Ducts are wide (Fig. 3, left).", "left"),
        ("图3-1下显示导管。", "bottom"),
        ("导管扩张（图3-1右）。", "right"),
        ("See Fig. 3, left breast.", ""),
        ("图3-1上皮增生。", ""),
    ],
)
def test_a_place_names_a_panel(sentence: str, place: str) -> None:
    (mention,) = mentions(sentence)
    assert mention.panels == ((place,) if place else ())


def test_a_space_that_the_reading_lost_does_not_join_sentences() -> None:
    assert split_sentences("It is positive forCD20.Figure 8D shows ducts.") == [
        "It is positive forCD20.",
        "Figure 8D shows ducts.",
    ]


def test_a_letter_ends_a_sentence_where_it_begins_no_name() -> None:
    assert split_sentences("Acini of phenotype B. On microscopy, J. Doe and A. Roe differ.. Ducts.") == [
        "Acini of phenotype B.",
        "On microscopy, J. Doe and A. Roe differ..",
        "Ducts.",
    ]


def test_a_figure_without_number_has_no_references() -> None:
    assert references_to(["See Fig. 3."], "", None) == []


def test_only_sentences_that_mean_the_panel_are_kept() -> None:
    sentences = [
        "Both grow slowly (Fig. 4).",
        "Ducts (Fig. 4A).",
        "Acini (Fig. 4B).",
        "Fat (Fig. 5B).",
        "Ducts (Fig. 4A).",
    ]
    assert references_to(sentences, "4", "B") == ["Both grow slowly (Fig. 4).", "Acini (Fig. 4B)."]
    assert references_to(sentences, "4", None) == sentences[:3]


@given(st.text(max_size=300))
def test_splitting_keeps_every_character(text: str) -> None:
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())
    mentions(text)


def test_abbreviations_do_not_end_a_sentence() -> None:
    text = "It is rare, e.g. in Fig. 3. Compare J. Doe et al. Then cut it."
    assert split_sentences(text) == ["It is rare, e.g. in Fig. 3.", "Compare J. Doe et al. Then cut it."]


def test_a_sentence_over_the_end_of_a_page_is_whole() -> None:
    pages = [["First. The ducts are"], ["narrow (Fig. 2). Last."]]
    assert references_to(sentences_across(pages), "2", None) == ["The ducts are narrow (Fig. 2)."]
