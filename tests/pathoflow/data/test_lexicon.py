from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
import yaml

from pathoflow.data.lexicon import Lexicon
from pathoflow.errors import ConfigError

SMOKE = Path(__file__).parents[3] / "recipes" / "smoke" / "lexicon.yaml"


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon.load(SMOKE)


def entry(id: str, sibling: str, **more: object) -> dict[str, object]:
    names = {"id": id, "name": id, "name_zh": f"{id}瘤"}
    return names | {"subfield": "histopathology", "tissue_system": "breast", "sibling": sibling} | more


def written(path: Path, *entries: dict[str, object]) -> Path:
    path.write_text(yaml.safe_dump({"diagnoses": list(entries)}, allow_unicode=True))
    return path


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("H&E section of TUBULAR\n adenoma. Small glands.", "tubular_adenoma"),
        ("Malignant melanoma of the skin", "melanoma"),
        ("HE切片示管 状\n腺瘤，小圆形腺体。", "tubular_adenoma"),
        ("CD20阳性的B 细胞淋巴瘤", "b_cell_lymphoma"),
        ("HSIL细胞", "hsil"),
        ("Lipomatosis of the pancreas", None),
        ("Tubular adenoma beside a villous adenoma", None),
        ("Lipoma. The lipoma is yellow.", "lipoma"),
        ("", None),
    ],
)
def test_a_caption_names_one_diagnosis_or_none(lexicon, caption, expected):
    found = lexicon.find(caption)
    assert (found and found.id) == expected


def test_the_longest_name_wins(tmp_path):
    path = written(
        tmp_path / "l.yaml",
        entry("carcinoma", "other", name="carcinoma", name_zh="癌"),
        entry("other", "carcinoma", name="adenocarcinoma in situ", name_zh="原位腺癌", synonyms=["carcinoma in situ"]),
    )
    lexicon = Lexicon.load(path)
    assert lexicon.find("A carcinoma in situ").id == "other"
    assert lexicon.find("原位腺癌").id == "other"
    assert lexicon.find("A carcinoma, in situ").id == "carcinoma"


def test_the_text_around_names_keeps_every_other_character(lexicon):
    text = "HE切片示管状腺瘤，small glands of a tubular adenoma."
    assert lexicon.around(text) == ["HE切片示", "，small glands of a ", "."]


@pytest.mark.parametrize("num_options", [2, 4, 6, 8, 10])
def test_an_even_number_of_options_is_complete_pairs(lexicon, num_options):
    for diagnosis in lexicon.diagnoses:
        rng = random.Random(diagnosis.id)
        options = [diagnosis, *lexicon.distractors(diagnosis, rng, num_options - 1)]
        ids = {option.id for option in options}
        assert len(ids) == len(options) == num_options
        assert all(option.sibling in ids for option in options)


@pytest.mark.parametrize("num_options", [3, 5])
def test_with_an_odd_number_the_lone_option_is_right_as_often_as_any(lexicon, num_options):
    rng = random.Random(0)
    num_lone = Counter()
    for _ in range(600):
        for diagnosis in lexicon.diagnoses:
            options = [diagnosis, *lexicon.distractors(diagnosis, rng, num_options - 1)]
            ids = {option.id for option in options}
            assert len(ids) == num_options
            lone = [option.id for option in options if option.sibling not in ids]
            assert len(lone) == 1
            num_lone[lone == [diagnosis.id]] += 1
    assert num_lone[True] / num_lone.total() == pytest.approx(1 / num_options, abs=0.02)


def test_other_pairs_are_drawn_evenly_and_by_the_seed(lexicon):
    diagnosis = lexicon.by_id["lipoma"]
    rng = random.Random(0)
    drawn = Counter(option.id for _ in range(4000) for option in lexicon.distractors(diagnosis, rng, 3))
    del drawn["melanoma"]
    assert len(drawn) == 8
    assert max(drawn.values()) - min(drawn.values()) < 200
    first, second = (lexicon.distractors(diagnosis, random.Random(7), 5) for _ in range(2))
    assert first == second


def test_too_few_diagnoses_for_the_options_are_an_error(lexicon):
    with pytest.raises(ConfigError, match="12 options need as many diagnoses; the lexicon has 10"):
        lexicon.distractors(lexicon.diagnoses[0], random.Random(0), 11)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([entry("a", "b"), entry("b", "c"), entry("c", "b")], "sibling of a must be"),
        ([entry("a", "a"), entry("b", "b")], "sibling of a must be"),
        ([entry("a", "b"), entry("a", "b")], "same id"),
        ([entry("a", "b"), entry("b", "a", synonyms=["A"])], "'A' names both a and b"),
        ([entry("a", "b", colour="red"), entry("b", "a")], "diagnoses.0.colour"),
        ([entry("a", "b")], "diagnoses"),
    ],
)
def test_a_lexicon_that_breaks_a_rule_is_refused_with_its_file(tmp_path, entries, message):
    with pytest.raises(ConfigError, match=rf"bad\.yaml.*{message}"):
        Lexicon.load(written(tmp_path / "bad.yaml", *entries))


def test_a_missing_or_unreadable_lexicon_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml cannot be read"):
        Lexicon.load(tmp_path / "absent.yaml")
    (tmp_path / "bad.yaml").write_text("{")
    with pytest.raises(ConfigError, match=r"bad\.yaml is not YAML"):
        Lexicon.load(tmp_path / "bad.yaml")
