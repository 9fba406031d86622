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
_IN_WORD = re.compile(_WORD)
_OPENING = r"[\s:*_`\"'“‘(\[$]*"
_STATEMENT = re.compile(
    r"(?P<final>\bfinal\s+|最终)?"
    r"(?:\b(?:answer|(?:correct|right|best)\s+(?:option|choice))[*_\"']*\s*(?:is|:|=|would\s+be|should\s+be|must\s+be)"
    rf"|(?:答案|正确选项)[*_\"']*\s*(?:应该|应当|应)?\s*(?:[是为选:=]\s*)+){_OPENING}(?:(?:option|choice|选项)\b{_OPENING})?",
    re.IGNORECASE,
)
_ARTICLE = re.compile(r"(?:an?|the)\s+", re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_COMMAND = re.compile(r"\\[a-z]+\s*\{([^{}]*)\}")
_LETTER = re.compile(rf"([A-Za-z])(?!{_WORD}|[-_])")
_LEADING_LETTER = re.compile(rf"{_OPENING}(?:(?:option|choice)\s+|选[项择]?\s*)?([A-Za-z])\**[.):,\]](?!{_WORD})")
_STANDING_LETTER = re.compile(rf"(?<!{_WORD})(?<![-'’_])([A-Z])(?!{_WORD})(?![-'’_])")
_CALLED_LETTER = re.compile(rf"(?:(?<!{_WORD})(?:option|choice)\s+|选[项择]?\s*)\(?{_LETTER.pattern}", re.IGNORECASE)
# "A whorled pattern" and "I think" begin with a word, "A or B" and "A because" with a letter.
_BEFORE_NOUN = re.compile(rf"\s+(?!(?:or|and|nor|is|because|since|but|rather)\b)(?:{_WORD}|_)", re.IGNORECASE)
_WORDS_AFTER = re.compile(r"(?:\W*\w+\b){0,4}\W*$")

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
_LISTED = re.compile(r"(?:[\s,、或和]|\b(?:or|nor|and|an?|the)\b)*", re.IGNORECASE)
_REACH = 200
"""Characters over which a negation reaches, at most."""
_NEGATED_AFTER = re.compile(
    r"[\s)*\"'”’]*(?:(?:is|are|was|were|can|could|has|have|been|be|seems?|appears?|would|very|highly)\s+)*"
    r"(?:(?:is|are|was|were|ca|could|does|would)n['’]t|cannot|not|(?:un|less\s+)likely|excluded|ruled\s+out|absent|"
    r"incorrect|wrong)\b|\s*(?:可能性?较?[小低]|不|可?[以被]?排除)",
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


@dataclass(frozen=True)
class _Text:
    """A text in which the options' names are marked.

    Attributes:
        words: The text.
        mentions: The names, in order.
        hidden: The text with `_` in place of the names, so that no letter and no negation is found in them.
        letters: The letters of all options.
    """

    words: str
    mentions: tuple[_Mention, ...]
    hidden: str
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
    found = _named(_marked(_folded(text), options))
    return found.pop() if len(found) == 1 else None


def comparable(text: str) -> str:
    """Returns a text without what makes no other answer of it: case, width of characters, marks at its ends.

    >>> comparable(" **Ｌipoma**.")
    'lipoma'
    """
    return _folded(text).casefold().strip(_MARKS)


def _folded(text: str) -> str:
    """Gives full-width characters their usual width, and joins runs of blanks; lines stay."""
    return re.sub(r"[^\S\n]+", " ", unicodedata.normalize("NFKC", text)).strip()


def _choice(words: str, options: Sequence[str]) -> Extracted:
    if letter := _whole(words, options):
        return Extracted(letter, "whole")
    text = _marked(words, options)
    if declared := {*_boxed(words, options), *_stated(text)} or set(_leading(text)):
        return Extracted(declared.pop(), "declared") if len(declared) == 1 else UNREADABLE
    named, letters = _named(text), _standing(text)
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
    for form in (str, str.casefold, comparable):
        same = [
            letter
            for letter, option in zip(letters, options, strict=True)
            if form(_folded(option)) and form(_folded(option)) == form(text)
        ]
        if len(same) == 1:
            return same[0]
    return None


def _marked(words: str, options: Sequence[str]) -> _Text:
    """Marks the options' names, the longest at each place. A single Latin letter is no name."""
    letters_of: dict[str, str] = {}
    for letter, option in zip(LETTERS, options, strict=False):
        name = _lowered(_folded(option)).strip(_MARKS)
        if len(name) > 1 or not name.isascii():
            letters_of[name] = letters_of.get(name, "") + letter
    mentions, hidden = [], words
    for name in sorted(letters_of, key=len, reverse=True):
        for start, end in _places(name, _lowered(hidden)):
            mentions.append(_Mention(start, end, letters_of[name]))
            hidden = hidden[:start] + "_" * (end - start) + hidden[end:]
    return _Text(words, tuple(sorted(mentions)), hidden, LETTERS[: len(options)])


def _places(name: str, text: str) -> Iterator[tuple[int, int]]:
    """Yields the places at which a name stands in a text, the s of a plural included, as no part of another word."""
    start = text.find(name)
    while start >= 0:
        end = start + len(name)
        if not _is_apart(text, end) and text[end] == "s":
            end += 1
        if _is_apart(text, start) and _is_apart(text, end):
            yield start, end
        start = text.find(name, end)


def _is_apart(text: str, place: int) -> bool:
    """Returns whether no word of a script that separates its words goes on across a place."""
    return not (0 < place < len(text) and all(map(_IN_WORD.match, text[place - 1 : place + 1])))


def _lowered(text: str) -> str:
    """Puts a text in lower case, character by character, on one line."""
    lowered = text.lower() if len(text.lower()) == len(text) else "".join(char.lower()[:1] for char in text)
    return lowered.replace("\n", " ")


def _named(text: _Text) -> set[str]:
    """Returns the letters of all options that a text names without a negation."""
    named, negated, end = "", False, 0
    for mention in text.mentions:
        # In "neither lipoma, naevus nor melanoma" the negation reaches over the comma.
        listed = _LISTED.fullmatch(text.hidden, end, mention.start)
        negated = (negated and bool(listed)) or _negated(text.hidden, mention.start, mention.end)
        named += "" if negated else mention.letters
        end = mention.end
    return set(named)


def _negated(hidden: str, start: int, end: int) -> bool:
    """Returns whether what stands at a place is denied, in its clause before or right after it."""
    before = hidden[max(start - _REACH, 0) : start]
    clause = before[max((match.end() for match in _CLAUSE_END.finditer(before)), default=0) :]
    return bool(_NEGATION.search(_IDIOM.sub(" ", clause)) or _NEGATED_AFTER.match(hidden, end))


def _boxed(words: str, options: Sequence[str]) -> set[str]:
    """Returns the options in boxes."""
    contents = [_COMMAND.sub(r"\1", match[1]) for match in _BOXED.finditer(words)]
    found = [_whole(content, options) or named_option(content, options) for content in contents]
    return {letter for letter in found if letter}


def _stated(text: _Text) -> set[str]:
    """Returns the options that a text says to be the answer, or of several such statements those that are final."""
    found = [
        (bool(match["final"]), letter)
        for match in _STATEMENT.finditer(text.words)
        if not _negated(text.hidden, match.start(), match.start()) and (letter := _at(text, match.end()))
    ]
    return {letter for final, letter in found if final} or {letter for _, letter in found}


def _at(text: _Text, place: int) -> str | None:
    """Returns the option that is named, or whose letter stands, at a place."""
    article = _ARTICLE.match(text.words, place)
    starts = (place, article.end() if article else place)
    for mention in text.mentions:
        if mention.start in starts and len(mention.letters) == 1:
            return mention.letters
    letter = _LETTER.match(text.hidden, place)
    return letter[1].upper() if letter and _is_letter(text, letter) else None


def _leading(text: _Text) -> set[str]:
    """Returns the letter with which a text begins as a list's item does."""
    letter = _LEADING_LETTER.match(text.hidden)
    return {letter[1].upper()} if letter and letter[1].upper() in text.letters else set()


def _standing(text: _Text) -> set[str]:
    """Returns the letters that stand alone, if one of them is among the last words or called an option."""
    called = list(_CALLED_LETTER.finditer(text.hidden))
    alone = [match for match in (*_STANDING_LETTER.finditer(text.hidden), *called) if _is_letter(text, match)]
    told = any(match in called or _WORDS_AFTER.match(text.hidden, match.end()) for match in alone)
    return {match[1].upper() for match in alone if told and not _negated(text.hidden, *match.span())}


def _is_letter(text: _Text, match: re.Match[str]) -> bool:
    """Returns whether it is an option's letter; an "a" or "I" before a word is an article or a pronoun."""
    is_word = match[1] in "aAI" and _BEFORE_NOUN.match(text.hidden, match.end())
    return match[1].upper() in text.letters and not is_word


def _yes_or_no(text: str) -> Extracted:
    """Reads yes or no: the whole text, a declaration, or its first word. "No atypia" says neither."""
    if whole := polarity(comparable(text)):
        return Extracted(whole, "whole")
    declared = {polarity(comparable(_COMMAND.sub(r"\1", match[1]))) for match in _BOXED.finditer(text)}
    stated = (_YES_OR_NO_FIRST.match(text, match.end()) for match in _STATEMENT.finditer(text))
    declared |= {polarity(match[0]) for match in stated if match}
    if declared := declared - {None}:
        return Extracted(declared.pop(), "declared") if len(declared) == 1 else UNREADABLE
    first = _YES_OR_NO_FIRST.match(text.lstrip(_MARKS))
    return Extracted(polarity(first[0]), "named") if first else UNREADABLE
