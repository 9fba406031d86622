from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data_processing.corpus.captions import Caption, CaptionCleaner, normalize
from components.data_processing.corpus.config import BOILERPLATE, SAYING_NOTHING, CorpusConfig

CLEANER = CaptionCleaner(
    boilerplate=BOILERPLATE,
    saying_nothing=SAYING_NOTHING,
    min_letters=4,
    max_characters=20_000,
    languages=("en", "zh"),
)


@settings(deadline=None)
@given(st.text())
def test_a_normal_caption_is_stable_and_shows_no_control_characters(text):
    once = normalize(text)
    assert normalize(once) == once
    assert normalize("e\u00ad\u0301 " + text)[0] == "\u00e9"
    assert not any(ord(character) < 32 or ord(character) == 127 for character in once)


@pytest.mark.parametrize(
    ("caption", "text"),
    [
        ("图3-4 纤维腺瘤，腺管状管周型。", "图3-4 纤维腺瘤，腺管状管周型。"),
        ("WarthinÃ¢â‚¬â„¢s tumour", "Warthin’s tumour"),
        ("Lipoma &lt;i&gt;benign&lt;/i&gt; &amp; soft", "Lipoma benign & soft"),
        ("Ki-67 < 5 % and p16 > 70 %", "Ki-67 < 5 % and p16 > 70 %"),
        ("Schwannoma. Open in new tab Download figure", "Schwannoma."),
        ("Adapted with permission from Smith et al. Giant cell tumour.", "Giant cell tumour."),
        ("Melanoma (click on image to enlarge)", "Melanoma"),
        (
            "Cells used by permission gates; the copyright notice",
            "Cells used by permission gates; the copyright notice",
        ),
        ("Melanoma. Scale bar = 50 µm.", "Melanoma. Scale bar = 50 µm."),
    ],
)
def test_captions_keep_what_they_say(caption, text):
    assert CLEANER.clean(caption).text == text


@pytest.mark.parametrize(
    ("caption", "flaw"),
    [
        (None, "empty_caption"),
        ("\u200b\x00 ", "empty_caption"),
        ("a " * 50_000, "caption_too_long"),
        ("Scale bars: 50 µm", "boilerplate_only"),
        ("Fig. 2A–C. Original magnification ×400", "boilerplate_only"),
        ("© 2014 Elsevier Ltd. All rights reserved.", "boilerplate_only"),
        ("图 3-4，标尺 50 µm", "boilerplate_only"),
        ("nan", "boilerplate_only"),
        ("12, 13 (14)", "boilerplate_only"),
        ("IgA", "caption_too_short"),
        ("腺", "caption_too_short"),
        ("Опухоль молочной железы", "other_language"),
    ],
)
def test_captions_that_say_nothing_are_told_by_their_flaw(caption, flaw):
    assert CLEANER.clean(caption) == Caption("", flaw)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(), max_size=300))
def test_every_text_is_either_clean_or_flawed(text):
    found = CLEANER.clean(text)
    assert bool(found.text) == (found.flaw is None)
    assert CLEANER.clean(found.text).text == found.text


@pytest.mark.parametrize("pattern", ["(", "[a"])
def test_a_bad_pattern_is_refused_with_the_configuration(pattern):
    with pytest.raises(ValueError, match="no regular expression"):
        CorpusConfig(heldout=["x"], boilerplate={"a": pattern})
    with pytest.raises(ValueError, match="no group in parentheses"):
        CorpusConfig(heldout=["x"], groups={"quilt*": "a+"})
