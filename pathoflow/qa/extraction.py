r"""Reads the answer out of a response's words.

In a question with options an answer is, in this order:

1. the whole text, as a letter or as an option's own text;
2. what the text declares: "the answer is X", `\boxed{X}`, or a letter with a point before the rest; declarations must
   agree, and a "final answer" outranks others;
3. the one option that the text names. The longest name at a place counts: "tubular adenoma" is no "adenoma" where both
   are options, and "abnormal" is not "normal". A name under a negation is not named;
4. the one letter that stands alone, near the end or after "option".

What none of them reads, or two read differently, is unreadable: never a random option. A letter is one in either case
and width, but "a" and "I" before a word are not.

Source: the order is that of VLMEvalKit's `can_infer`. Differs from source: declarations and negations are read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pathoflow.qa.prompts import LETTERS
from pathoflow.qa.question import Question, polarity
from pathoflow.qa.response import parse

How = Literal["whole", "declared", "named", "letter", "unreadable"]

_MARKS = " \n*_`'\"()[]{}.,;:!?$\\。、“”‘’「」"
# A letter or digit of a script that separates its words.
_WORD = r"[^\W_㐀-鿿豈-﫿]"
_OPENING = r"[\s:*_`\"'“‘(\[$]*"
_DECLARED = re.compile(
    r"(?P<final>\bfinal\s+|最终)?"
    r"(?:\b(?:answer|(?:correct|right|best)\s+(?:option|choice))[*_\"']*\s*(?:is|:|=|would\s+be|should\s+be|must\s+be)"
    rf"|(?:答案|正确选项)[*_\"']*\s*(?:应该|应当|应)?\s*(?:[是为选:=]\s*)+){_OPENING}(?:(?:option|choice|选项)\b{_OPENING})?",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"(?:an?|the)\s+", re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_COMMAND = re.compile(r"\\[a-z]+\s*\{([^{}]*)\}")
_LETTER = rf"([A-Za-z])(?!{_WORD}|-)"
_DECLARED_LETTER = re.compile(_LETTER)
_LEADING_LETTER = re.compile(rf"{_OPENING}(?:(?:option|choice)\s+|选项?\s*)?([A-Za-z])\**[.):,\]](?!{_WORD})")
_STANDING_LETTER = re.compile(rf"(?<!{_WORD})(?<![-'’_])([A-Z])(?!{_WORD})(?![-'’_])")
_CALLED_LETTER = re.compile(rf"(?:(?<!{_WORD})(?:option|choice)\s+|选项?\s*)\(?{_LETTER}", re.IGNORECASE)
# "A whorled pattern" and "I think" begin with a word, "A or B" and "A because" with a letter.
_BEFORE_NOUN = re.compile(rf"\s+(?!(?:or|and|nor|is|because|since|but|rather)\b){_WORD}", re.IGNORECASE)
_LAST_TOKENS = 5

_CLAUSE_END = re.compile(
    r"[;:!?\n,。]|\.(?!\d)|\b(?:but|however|so|therefore|thus|hence|instead(?! of)|because|since)\b|而是|因此|所以",
    re.IGNORECASE,
)
_IDIOM = re.compile(r"\b(?:no|without(?: an?y?)?) doubt\b|\bnot only\b|非常|毫?无疑问?|不仅", re.IGNORECASE)
_NEGATION = re.compile(
    r"\b(?:not|no|never|without|neither|nor|non|cannot|unlike|unlikely|against|absence|exclud(?:es?|ed|ing)|"
    r"rul(?:es?|ed|ing)\s+out|rather\s+than|instead\s+of)\b|n['’]t\b|[不非无未]|没有|排除",
    re.IGNORECASE,
)
_NEGATED_AFTER = re.compile(
    r"[\s)*\"'”’]*(?:(?:is|are|was|were|can|could|has|have|been|be|seems?|appears?|would|very|highly)\s+)*"
    r"(?:(?:is|are|was|were|ca|could|does|would)n['’]t|cannot|not|(?:un|less\s+)likely|excluded|ruled\s+out|absent|"
    r"incorrect|wrong)\b|\s*(?:可能性)?较?(?:[不小低]|可?(?:以|被)?排除)",
    re.IGNORECASE,
)
_YES_OR_NO_FIRST = re.compile(
    r"(yes)\b|(no)(?=$|[^\w\s]|\s+(?:it|this|that|there|the|they)\b)|(是的?|否|不是|没有|[不有无])(?=$|\W)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Extracted:
    """The answer that a response gives, and by which rule it was read.

    Attributes:
        answer: The letter of an option, `yes` or `no`, or the text of an open answer; None if it is unreadable.
        how: The rule.
    """

    answer: str | None
    how: How


UNREADABLE = Extracted(None, "unreadable")


class _Mention(NamedTuple):
    """An option's name in a text, as places of characters; `letters` are several where options have one name."""

    start: int
    end: int
    letters: str


def extract(response: str, question: Question) -> Extracted:
    r"""Reads the answer out of a response.

    Args:
        response: Everything that the model wrote; its reasoning is no answer.
        question: What was asked.

    >>> question = Question("q1", "…", (), ("adenoma", "melanoma", "tubular adenoma"), "C")
    >>> [extract(text, question).answer for text in ("Tubular adenoma", "b", r"\boxed{C}", "A pink whorl: melanoma")]
    ['C', 'B', 'C', 'B']
    >>> [extract(text, question).answer for text in ("This is not melanoma", "A whorled pattern", "A or B")]
    [None, None, None]
    >>> extract("Not A as I thought. The final answer is: B", question)
    Extracted(answer='B', how='declared')
    >>> extract("<answer>Yes, clearly</answer>", Question("q2", "Is it malignant?", (), (), "no")).answer
    'yes'
    """
    text = _folded(parse(response).final)
    if question.kind == "choice":
        return _choice(text, question.options)
    if question.kind == "yes_no":
        return _yes_or_no(text)
    return Extracted(text, "whole") if text else UNREADABLE


def named_option(text: str, options: Sequence[str]) -> str | None:
    """Returns the letter of the one option that a text names without negating it; None for none, or several.

    >>> named_option("Large round glands: Tubular adenoma", ["adenoma", "tubular adenoma"])
    'B'
    >>> named_option("villous adenoma or tubular adenoma", ["villous adenoma", "tubular adenoma"])
    """
    found = _named(_folded(text), options)
    return next(iter(found)) if len(found) == 1 else None


def comparable(text: str) -> str:
    """Returns a text without what makes no other answer of it: case, width of characters, marks at its ends.

    >>> comparable(" **Ｌipoma**.")
    'lipoma'
    """
    return _folded(text).casefold().strip(_MARKS)


def _folded(text: str) -> str:
    """Gives full-width characters their usual width, and joins runs of blanks; lines stay."""
    return re.sub(r"[^\S\n]+", " ", unicodedata.normalize("NFKC", text)).strip()


def _choice(text: str, options: Sequence[str]) -> Extracted:
    if letter := _whole(text, options):
        return Extracted(letter, "whole")
    mentions = _mentions(text, options)
    if declared := set(_declared(text, options, mentions)):
        return Extracted(declared.pop(), "declared") if len(declared) == 1 else UNREADABLE
    named, letters = _named(text, options), _standing(text, options, mentions)
    if len(named) == 1 and letters <= named:
        return Extracted(named.pop(), "named")
    if len(named) != 1 and len(letters) == 1:
        return Extracted(letters.pop(), "letter")
    return UNREADABLE


def _whole(text: str, options: Sequence[str]) -> str | None:
    """Returns the option that a text is and nothing else. A letter outranks an option whose text is another letter."""
    letters, bare = LETTERS[: len(options)], comparable(text)
    bare = re.sub(r"^(?:(?:option|choice) |选项 ?)", "", bare)
    if len(bare) == 1 and bare.upper() in letters:
        return bare.upper()
    for form in (str.casefold, comparable):
        same = [
            letter
            for letter, option in zip(letters, options, strict=True)
            if form(_folded(option)) and form(_folded(option)) == form(text)
        ]
        if len(same) == 1:
            return same[0]
    return None


def _mentions(text: str, options: Sequence[str]) -> list[_Mention]:
    """Finds the options' names in a text, the longest at each place, in order. A single letter is no name."""
    names: dict[str, str] = {}
    for letter, option in zip(LETTERS, options, strict=False):
        name = comparable(option)
        if len(name) > 1 or not name.isascii():
            names[name] = names.get(name, "") + letter
    found: list[_Mention] = []
    for name in sorted(names, key=len, reverse=True):
        if not name:
            continue
        before = rf"(?<!{_WORD})" if re.match(_WORD, name) else ""
        after = rf"s?(?!{_WORD})" if re.match(_WORD, name[-1]) else ""
        words = r"\s+".join(map(re.escape, name.split()))
        for match in re.finditer(before + words + after, text, re.IGNORECASE):
            if all(match.end() <= other.start or other.end <= match.start() for other in found):
                found.append(_Mention(match.start(), match.end(), names[name]))
    return sorted(found)


def _named(text: str, options: Sequence[str]) -> set[str]:
    """Returns the letters of all options that a text names without a negation."""
    mentions = _mentions(text, options)
    hidden = _hidden(text, mentions)
    named, negated = "", False
    for number, mention in enumerate(mentions):
        # In "neither lipoma, naevus nor melanoma" the negation reaches over the comma.
        gap = hidden[mentions[number - 1].end : mention.start] if number else None
        listed = gap is not None and re.fullmatch(r"[\s,、]*(?:\b(?:or|nor|and|an?|the)\b\s*|[或和])*", gap)
        negated = (bool(listed) and negated) or _negated(hidden, mention.start, mention.end)
        named += "" if negated else mention.letters
    return set(named)


def _hidden(text: str, mentions: Sequence[_Mention]) -> str:
    """Covers the options' names, so that no letter or negation is found in them."""
    for mention in mentions:
        text = text[: mention.start] + "_" * (mention.end - mention.start) + text[mention.end :]
    return text


def _negated(text: str, start: int, end: int) -> bool:
    """Returns whether what stands at a place is denied, in its clause before or right after it."""
    before = text[:start]
    clause = before[max((match.end() for match in _CLAUSE_END.finditer(before)), default=0) :]
    return bool(_NEGATION.search(_IDIOM.sub(" ", clause)) or _NEGATED_AFTER.match(text, end))


def _declared(text: str, options: Sequence[str], mentions: Sequence[_Mention]) -> Iterator[str]:
    """Yields the options that a text declares to be the answer."""
    letters = LETTERS[: len(options)]
    for match in _BOXED.finditer(text):
        content = _COMMAND.sub(r"\1", match[1])
        yield from filter(None, [_whole(content, options) or named_option(content, options)])
    found = [
        (bool(match["final"]), letter)
        for match in _DECLARED.finditer(text)
        if not _negated(text, match.start(), match.start()) and (letter := _at(text, match.end(), letters, mentions))
    ]
    is_final = any(final for final, _ in found)
    yield from (letter for final, letter in found if final or not is_final)
    leading = _LEADING_LETTER.match(_hidden(text, mentions))
    if leading and leading[1].upper() in letters and not found:
        yield leading[1].upper()


def _at(text: str, place: int, letters: str, mentions: Sequence[_Mention]) -> str | None:
    """Returns the option that is named, or whose letter stands, at a place."""
    article = _ARTICLE.match(text, place)
    starts = {place, article.end() if article else place}
    for mention in mentions:
        if mention.start in starts and len(mention.letters) == 1:
            return mention.letters
    match = _DECLARED_LETTER.match(text, place)
    if not match or match[1].upper() not in letters or _is_word(text, match):
        return None
    return match[1].upper()


def _is_word(text: str, letter: re.Match[str]) -> bool:
    """Returns whether an "a" or "I" is an article or a pronoun."""
    return letter[1] in "aAI" and bool(_BEFORE_NOUN.match(text, letter.end()))


def _standing(text: str, options: Sequence[str], mentions: Sequence[_Mention]) -> set[str]:
    """Returns the letters that stand alone, if one of them is among the last words or called an option."""
    hidden, letters = _hidden(text, mentions), LETTERS[: len(options)]
    called = {match.start(1) for match in _CALLED_LETTER.finditer(hidden)}
    matches = [*_STANDING_LETTER.finditer(hidden), *_CALLED_LETTER.finditer(hidden)]
    alone = [match for match in matches if match[1].upper() in letters and not _is_word(hidden, match)]
    told = any(
        match.start(1) in called or len(re.findall(r"\w+", text[match.end() :])) < _LAST_TOKENS for match in alone
    )
    return {match[1].upper() for match in alone if told and not _negated(hidden, match.start(), match.end())}


def _yes_or_no(text: str) -> Extracted:
    """Reads yes or no: the whole text, a declaration, or its first word. "No atypia" says neither."""
    if whole := polarity(comparable(text)):
        return Extracted(whole, "whole")
    declared = {polarity(comparable(_COMMAND.sub(r"\1", match[1]))) for match in _BOXED.finditer(text)}
    stated = (_YES_OR_NO_FIRST.match(text, match.end()) for match in _DECLARED.finditer(text))
    declared |= {polarity(match[0]) for match in stated if match}
    if declared := declared - {None}:
        return Extracted(declared.pop(), "declared") if len(declared) == 1 else UNREADABLE
    first = _YES_OR_NO_FIRST.match(text.lstrip(_MARKS))
    return Extracted(polarity(first[0]), "named") if first else UNREADABLE
