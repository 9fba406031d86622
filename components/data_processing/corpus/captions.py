"""Normalizes captions, removes boilerplate of web pages and publishers, and finds those that say nothing."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from ftfy import fix_encoding, fixes

Flaw = Literal["empty_caption", "caption_too_long", "boilerplate_only", "caption_too_short", "other_language"]
Quality = Literal["clean", "repaired", "boilerplate_removed"]

_ENTITY = re.compile(r"&(?:[a-zA-Z]{2,8}|#\d{1,6}|#x[0-9a-fA-F]{1,5});")
_MARKUP = re.compile("[&<]")
_HTML_TAG = re.compile(r"</?(?:a|b|br|div|em|i|li|p|small|span|strong|sub|sup|u|ul)\b[^<>]{0,200}>", re.IGNORECASE)
_EMPTY_BRACKETS = re.compile(r"\(\s*\)|\[\s*\]")
_MOST_REPAIRS = 4
# Longer captions are more than scale bars and figure numbers, and need not be searched for them.
_MOST_LETTERS_SAYING_NOTHING = 120


class Caption(NamedTuple):
    """A cleaned caption, or its flaw.

    Attributes:
        text: In normal form; empty if it is unusable.
        flaw: Why no pair can be made of it; None if one can.
        quality: The repair that it needed.
    """

    text: str
    flaw: Flaw | None = None
    quality: Quality = "clean"


class CaptionCleaner:
    """Cleans captions by the rules of a recipe.

    Args:
        boilerplate: Regular expressions of what is cut out of captions, by a word that is in every match.
        saying_nothing: Regular expressions of what does not make a caption alone (scale bars, figure numbers).
        min_letters: Fewest letters of a caption once both are taken away; a Chinese character counts for two.
        max_characters: Longest caption.
        languages: Scripts that are kept: `en` stands for Latin letters, `zh` for Chinese characters.
    """

    def __init__(
        self,
        *,
        boilerplate: Mapping[str, str],
        saying_nothing: Sequence[str],
        min_letters: int,
        max_characters: int,
        languages: Sequence[str],
    ) -> None:
        # To look for a word is a hundred times faster than to try a regular expression at every letter.
        self._boilerplate = [(word.lower(), _any_of([pattern])) for word, pattern in boilerplate.items()]
        self._saying_nothing = _any_of(saying_nothing)
        self.min_letters = min_letters
        self.max_characters = max_characters
        self.languages = frozenset(languages)

    def clean(self, caption: str | None) -> Caption:
        """Returns the caption in normal form, or its flaw."""
        if caption is None:
            return Caption("", "empty_caption")
        # Before any work is put into it: a page that ended up in one field must not cost seconds.
        if len(caption) > self.max_characters:
            return Caption("", "caption_too_long")
        text = normalize(caption)
        quality: Quality = "clean" if text == " ".join(caption.split()) else "repaired"
        if (without := self._without_boilerplate(text)) != text:
            text, quality = without, "boilerplate_removed"
        flaw = self._flaw(text) if text or quality == "boilerplate_removed" else "empty_caption"
        return Caption("", flaw) if flaw else Caption(text, None, quality)

    def _flaw(self, text: str) -> Flaw | None:
        scripts = count_letters_by_script(text)
        if _amount(scripts) < self.min_letters + _MOST_LETTERS_SAYING_NOTHING:
            num_letters = _amount(count_letters_by_script(self._saying_nothing.sub(" ", text)))
            if num_letters < self.min_letters:
                return "caption_too_short" if num_letters else "boilerplate_only"
        return None if max(scripts, key=lambda script: scripts[script]) in self.languages else "other_language"

    def _without_boilerplate(self, text: str) -> str:
        lowered = text.lower()
        for word, pattern in self._boilerplate:
            if word in lowered and pattern.search(text):
                text = pattern.sub(" ", text)
                text = " ".join(_EMPTY_BRACKETS.sub(" ", text).split()).strip(" |,;-–—")
        return text


def normalize(caption: str) -> str:
    r"""Normalizes a caption: NFC, right encoding, no markup or invisible characters, single spaces.

    Text that was read in the wrong encoding and HTML entities are mended by ftfy.

    >>> normalize("  Lip\u00adoma\u0000 of\tthe\nback ")
    'Lipoma of the back'
    >>> normalize("e\u0301") == "\u00e9"
    True
    >>> normalize("WarthinÃ¢â‚¬â„¢s tumour, 20 Âµm, <i>p16</i> &amp; Ki-67")
    'Warthin’s tumour, 20 µm, p16 & Ki-67'
    """
    single_spaced = " ".join(caption.split())
    if single_spaced.isascii() and single_spaced.isprintable() and not _MARKUP.search(single_spaced):
        return single_spaced
    # One repair may bring the next to light, and what is stored must be its own normal form.
    for _ in range(_MOST_REPAIRS):
        repaired = _repaired(caption)
        if repaired == caption:
            break
        caption = repaired
    return caption


def count_letters_by_script(text: str) -> dict[str, int]:
    """Counts the letters of a text that are Latin (`en`), Chinese (`zh`) or of another script.

    Greek letters, which names of stains and units are full of, count as Latin ones.

    >>> count_letters_by_script("κ-chain 纤维腺瘤 Опухоль")
    {'en': 6, 'zh': 4, 'other': 7}
    """
    if text.isascii():
        return {"en": len(text.encode().translate(None, _NO_ASCII_LETTERS)), "zh": 0, "other": 0}
    num_han, num_latin = len(_HAN.findall(text)), len(_LATIN.findall(text))
    return {"en": num_latin, "zh": num_han, "other": sum(map(str.isalpha, text)) - num_han - num_latin}


def _amount(scripts: Mapping[str, int]) -> int:
    return scripts["en"] + 2 * scripts["zh"] + scripts["other"]


def _repaired(text: str) -> str:
    # Of ftfy's repairs those that damage calls for: quotes, and Chinese commas, which are wide, stay as they were set.
    if _ENTITY.search(text):
        text = fixes.unescape_html(text)
    if not text.isascii():
        text = fixes.fix_latin_ligatures(fix_encoding(text))
    if "<" in text:
        text = _HTML_TAG.sub("", text)
    text = " ".join(text.split())
    if not text.isprintable():
        text = _invisible().sub("", text)
    # Last, because characters that stood apart may now combine.
    return " ".join(unicodedata.normalize("NFC", text).split())


def _any_of(patterns: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns) or r"(?!)", re.IGNORECASE)


_NO_ASCII_LETTERS = bytes(point for point in range(128) if not chr(point).isalpha())
_HAN = re.compile(r"[㐀-䶿一-鿿豈-﫿]")
# Greek, and the letters of Latin-1, Latin Extended and IPA, but neither the multiplication nor the division sign.
_LATIN = re.compile(r"[A-Za-zªµºÀ-ÖØ-öø-ʯͰ-ϿḀ-ỿ]")
_pattern_of_invisible: list[re.Pattern[str]] = []


def _invisible() -> re.Pattern[str]:
    """Returns a pattern for characters that are no part of the words.

    Control and format characters (null bytes, soft hyphens, byte-order marks, zero-width spaces), halves of surrogate
    pairs, private-use characters: left behind by PDF fonts and web pages.
    """
    if not _pattern_of_invisible:
        points = [
            point
            for point in range(sys.maxunicode + 1)
            if unicodedata.category(chr(point)) in ("Cc", "Cf", "Cs", "Co") and not chr(point).isspace()
        ]
        starts = [point for point, before in zip(points, [-2, *points], strict=False) if point != before + 1]
        ends = [point for point, after in zip(points, [*points[1:], -2], strict=True) if point != after - 1]
        ranges = (f"\\U{start:08x}-\\U{end:08x}" for start, end in zip(starts, ends, strict=True))
        _pattern_of_invisible.append(re.compile(f"[{''.join(ranges)}]"))
    return _pattern_of_invisible[0]
