"""Finds diagnoses in captions, and draws fair distractors for multiple-choice questions."""

from __future__ import annotations

import itertools
import random
import re
import unicodedata
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pathoflow.errors import ConfigError


class Diagnosis(BaseModel):
    """Diagnosis with its names.

    `sibling` is the id of the diagnosis that it is most easily mistaken for; the relation is mutual.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(min_length=1)
    name: str = Field(min_length=1)
    name_zh: str = Field(min_length=1)
    synonyms: tuple[str, ...] = ()
    subfield: str = Field(min_length=1)
    tissue_system: str = Field(min_length=1)
    sibling: str = Field(min_length=1)

    def name_in(self, language: str) -> str:
        """Returns the diagnosis's name in `zh` or, for any other language, in English."""
        return self.name_zh if language == "zh" else self.name

    @property
    def names(self) -> tuple[str, ...]:
        """All names and synonyms."""
        return (self.name, self.name_zh, *self.synonyms)


class Lexicon(BaseModel):
    """The diagnoses of a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    diagnoses: tuple[Diagnosis, ...] = Field(min_length=2)

    @classmethod
    def load(cls, path: Path) -> Lexicon:
        """Reads a lexicon from YAML.

        Raises:
            ConfigError: The file is missing, is no YAML, or breaks a rule; the message names file and entry.
        """
        try:
            return cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise ConfigError(f"lexicon: {path} cannot be read ({error.strerror}). Correct the path.") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"lexicon: {path} is not YAML in UTF-8: {error}") from error
        except ValidationError as error:
            problems = "; ".join(_problem(found) for found in error.errors())
            raise ConfigError(f"lexicon: {path}: {problems}") from error

    @model_validator(mode="after")
    def _check(self) -> Lexicon:
        by_id = {diagnosis.id: diagnosis for diagnosis in self.diagnoses}
        if len(by_id) < len(self.diagnoses):
            raise ValueError("two diagnoses have the same id")
        owners: dict[str, str] = {}
        for diagnosis in self.diagnoses:
            sibling = by_id.get(diagnosis.sibling)
            if sibling is None or sibling is diagnosis or sibling.sibling != diagnosis.id:
                raise ValueError(
                    f"the sibling of {diagnosis.id} must be another diagnosis whose sibling it is, "
                    f"not {diagnosis.sibling!r}"
                )
            for name in diagnosis.names:
                if owners.setdefault(_normal(name), diagnosis.id) != diagnosis.id:
                    raise ValueError(f"{name!r} names both {owners[_normal(name)]} and {diagnosis.id}")
        return self

    def find(self, caption: str) -> Diagnosis | None:
        """Returns the diagnosis that a caption names; None if it names none or several.

        Case does not count, nor does white space inside Chinese names. Where names overlap, the longest wins.
        """
        found = {self._names[(match.lastindex or 0) - 1][1].id for match in self._pattern.finditer(caption)}
        return self.by_id[found.pop()] if len(found) == 1 else None

    def around(self, text: str) -> list[str]:
        """Splits a text at the names of diagnoses and returns the parts before, between and after them."""
        names = [match.span() for match in self._pattern.finditer(text)]
        starts, ends = [0, *(end for _, end in names)], [*(start for start, _ in names), len(text)]
        return [text[start:end] for start, end in zip(starts, ends, strict=True)]

    def distractors(self, diagnosis: Diagnosis, rng: random.Random, num: int) -> list[Diagnosis]:
        """Draws `num` wrong options such that the set of options says nothing about which one is right.

        A sibling beside random others would mark the pair in which the truth lies, and a guess between the
        two would score 1/2 without a look. So options are complete pairs of siblings: the truth's own, and
        others. With an odd number of options one is alone, and it is the truth as often as any other option.

        Raises:
            ConfigError: The lexicon has too few diagnoses.
        """
        num_options = num + 1
        others = [pair for pair in self._pairs if diagnosis.id not in (pair[0].id, pair[1].id)]
        if num > 2 * len(others) + 1:
            raise ConfigError(
                f"num_options: {num_options} options need as many diagnoses; the lexicon has {len(self.diagnoses)}."
            )
        alone = num_options % 2 == 1 and rng.random() < 1 / num_options
        chosen = [] if alone else [self.by_id[diagnosis.sibling]]
        for pair in rng.sample(others, k=-(-(num - len(chosen)) // 2)):
            chosen += rng.sample(pair, k=min(2, num - len(chosen)))
        return chosen

    @cached_property
    def by_id(self) -> dict[str, Diagnosis]:
        """Diagnoses by their ids."""
        return {diagnosis.id: diagnosis for diagnosis in self.diagnoses}

    @cached_property
    def _names(self) -> list[tuple[str, Diagnosis]]:
        """Maps every normalised name to its diagnosis, the longest first."""
        names = {_normal(name): diagnosis for diagnosis in self.diagnoses for name in diagnosis.names}
        return sorted(names.items(), key=lambda item: (-len(item[0]), item[0]))

    @cached_property
    def _pairs(self) -> list[tuple[Diagnosis, Diagnosis]]:
        return [
            (diagnosis, self.by_id[diagnosis.sibling])
            for diagnosis in self.diagnoses
            if diagnosis.id < diagnosis.sibling
        ]

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        """Compiles a pattern of all names; the group that took part is the name's place in `_names`, counted from 1."""
        return re.compile("|".join(f"({_pattern_of(name)})" for name, _ in self._names), re.IGNORECASE)


_HAN = r"[㐀-䶿一-鿿豈-﫿]"
_NEEDLESS_SPACE = re.compile(rf"(?<={_HAN}) | (?={_HAN})")


def _normal(name: str) -> str:
    r"""Normalises a name for comparison: case folded, white space single, none beside a Han character.

    >>> _normal(" B 细胞\n淋巴瘤 of  Node")
    'b细胞淋巴瘤of node'
    """
    folded = " ".join(unicodedata.normalize("NFC", name).casefold().split())
    return _NEEDLESS_SPACE.sub("", folded)


def _pattern_of(name: str) -> str:
    r"""Returns a pattern for a normalised name, whatever its spacing; Latin letters end at a word's edge.

    >>> _pattern_of("a b")
    '(?<![a-z0-9])a\\s+b(?![a-z0-9])'
    >>> _pattern_of("瘤样")
    '瘤\\s*样'
    """
    units = re.findall(rf"{_HAN}|(?:(?!{_HAN})\S)+", name)
    pattern = re.escape(units[0])
    for before, unit in itertools.pairwise(units):
        either_is_han = re.fullmatch(_HAN, before) or re.fullmatch(_HAN, unit)
        pattern += (r"\s*" if either_is_han else r"\s+") + re.escape(unit)
    start = "(?<![a-z0-9])" if re.match("[a-z0-9]", name) else ""
    end = "(?![a-z0-9])" if re.search("[a-z0-9]$", name) else ""
    return f"{start}{pattern}{end}"


def _problem(found: Any) -> str:
    where = ".".join(str(part) for part in found["loc"])
    return f"{where}: {found['msg']}" if where else str(found["msg"])
