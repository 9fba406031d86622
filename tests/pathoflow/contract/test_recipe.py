"""A recipe is checked whole, and what is wrong with it is said with file and key."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import BaseModel, ConfigDict, Field

from pathoflow.contract.code import REPOSITORY
from pathoflow.contract.config import StageConfig
from pathoflow.contract.recipe import find_recipe, load_recipe, load_stage, parse_overrides, recipe_names
from pathoflow.errors import ConfigError
from tests.support.toy.config import ToyConfig
from tests.support.toy_model.config import ToyModelConfig

CATALOGUE = {"toy": ToyConfig, "toy_model": ToyModelConfig}


def load(folder: Path, *overrides: str):
    return load_recipe(str(folder), CATALOGUE, overrides)


def test_values_come_from_default_then_recipe_then_set(toy_recipe):
    (toy_recipe / "toy.yaml").write_text("text: from recipe\nnum_items: 7\n")
    config = load(toy_recipe, "toy.num_items=9").stages["toy"]
    assert (config.text, config.num_items, config.num_steps) == ("from recipe", 9, 0)


def test_stages_stand_in_the_catalogues_order_whatever_the_files_names(toy_recipe):
    assert list(load(toy_recipe).stages) == ["toy", "toy_model"]
    (toy_recipe / "toy.yaml").unlink()
    recipe = load(toy_recipe)
    assert list(recipe.stages) == ["toy_model"]
    assert "toy" not in recipe


WRONG = {
    "unknown key": ("num_itms: 3", [], ["toy.yaml: num_itms is no known key", "Did you mean num_items?"]),
    "out of range": ("num_items: -1", [], ["toy.yaml: num_items", "greater than or equal to 0", "got -1"]),
    "what it means": ("num_items: -1", [], ["(Records read.)"]),
    "wrong type": ("num_items: many", [], ["toy.yaml: num_items", "valid integer", "got 'many'"]),
    "not one of": ("ending: burst", [], ["toy.yaml: ending", "'return', 'raise'", "got 'burst'"]),
    "not finite": ("step_s: .inf", [], ["toy.yaml: step_s", "finite number", "got inf"]),
    "in a list": ("books: [a.txt, 3]", [], ["toy.yaml: books.1", "got 3"]),
    "two at once": ("num_items: -1\nstep_s: -2", [], ["toy.yaml: num_items", "toy.yaml: step_s"]),
    "together": ("num_items: 1\nnum_bad: 2", [], ["toy.yaml: num_bad exceeds num_items"]),
    "malformed": ("text: [1", [], ["toy.yaml is not YAML", "line 1"]),
    "no mapping": ("- a\n- b", [], ["toy.yaml must hold `key: value` lines"]),
    "a number as key": ("3: 4", [], ["toy.yaml: 3"]),
    "unknown key of compute": ("compute: {gpu: 1}", [], ["toy.yaml: compute.gpu is no known key", "gpus_per_node"]),
    "compute out of range": ("compute: {memory: lots}", [], ["toy.yaml: compute.memory", "got 'lots'"]),
    "compute no mapping": ("compute: 3", [], ["toy.yaml: compute: Input should be a valid dictionary"]),
    "set: unknown stage": ("", ["toi.text=a"], ["--set toi.text=a: toi is no stage", "Did you mean toy?"]),
    "set: unknown key": ("", ["toy.txt=a"], ["--set toy.txt is no known key", "Did you mean text?"]),
    "set: out of range": ("num_items: 3", ["toy.num_items=-5"], ["--set toy.num_items: ", "got -5"]),
    "set: the recipe's is wrong": ("num_items: -1", ["toy.step_s=1"], ["toy.yaml: num_items"]),
    "set: compute": (
        "",
        ["toy.compute.memry=1Gi"],
        ["--set toy.compute.memry is no known key", "Did you mean memory?"],
    ),
    "set: no equals": ("", ["toy.text"], ["--set toy.text: write it as stage.key=value"]),
    "set: no stage": ("", ["text=a"], ["--set text=a: write it as stage.key=value"]),
    "set: no key": ("", ["toy.=a"], ["--set toy.=a: write it as stage.key=value"]),
    "set: no YAML": ("", ["toy.text=[1"], ["--set toy.text=[1: '[1' is not a YAML value"]),
    "set: nothing": ("", ["toy.num_items="], ["--set toy.num_items", "got None"]),
}


@pytest.mark.parametrize(("content", "overrides", "words"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_value_is_told_with_its_file_or_option_and_key(toy_recipe, content, overrides, words):
    (toy_recipe / "toy.yaml").write_text(content)
    with pytest.raises(ConfigError) as error:
        load(toy_recipe, *overrides)
    message = str(error.value)
    for expected in words:
        assert expected in message
    assert overrides or str(toy_recipe / "toy.yaml") in message


def test_a_file_that_is_no_text_is_told(toy_recipe):
    (toy_recipe / "toy.yaml").write_bytes(b"text: \xff\xfe\n")
    with pytest.raises(ConfigError, match=r"toy\.yaml is not YAML"):
        load(toy_recipe)


@pytest.mark.parametrize("name", ["toi.yaml", "toy.yml"])
def test_a_file_for_no_stage_is_told_with_the_closest_name(toy_recipe, name):
    (toy_recipe / name).write_text("text: a")
    with pytest.raises(ConfigError) as error:
        load(toy_recipe)
    assert f"{toy_recipe / name} is no stage. Did you mean toy.yaml?" in str(error.value)


def test_an_override_for_a_stage_that_the_recipe_lacks_is_told(toy_recipe):
    (toy_recipe / "toy_model.yaml").unlink()
    with pytest.raises(ConfigError, match="toys has no stage toy_model"):
        load(toy_recipe, "toy_model.num_weights=2")


def test_a_stage_without_its_file_is_told(toy_recipe):
    (toy_recipe / "toy.yaml").unlink()
    with pytest.raises(ConfigError, match=r"toy\.yaml is missing"):
        load_stage(ToyConfig, toy_recipe, {})
    with pytest.raises(ConfigError, match=r"toys lacks toy\.yaml"):
        load(toy_recipe).config("toy")


def test_a_folder_where_a_file_belongs_is_told(toy_recipe):
    (toy_recipe / "toy.yaml").unlink()
    (toy_recipe / "toy.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"toy\.yaml cannot be read: Is a directory"):
        load_stage(ToyConfig, toy_recipe, {})


def test_a_missing_title_is_told(toy_recipe):
    (toy_recipe / "recipe.yaml").write_text("description: none\n")
    with pytest.raises(ConfigError, match=r"recipe\.yaml: title is missing"):
        load(toy_recipe)


def test_an_unknown_recipe_is_told_with_the_known_ones():
    with pytest.raises(ConfigError) as error:
        find_recipe("smok")
    assert "Did you mean smoke?" in str(error.value)
    for name in recipe_names():
        assert name in str(error.value)


def test_a_recipe_is_found_by_name_and_by_path(toy_recipe, monkeypatch):
    assert find_recipe("smoke") == REPOSITORY / "recipes" / "smoke"
    assert find_recipe(str(toy_recipe)) == toy_recipe
    monkeypatch.chdir(toy_recipe.parent)
    assert find_recipe("toys") == toy_recipe


class PlaceConfig(BaseModel):
    model_config = ConfigDict(extra="forbid")

    shelf: int = Field(ge=1, description="Counted from the floor.")
    room: str = "A"


class NestedConfig(StageConfig):
    stage: ClassVar[str] = "toy"

    place: PlaceConfig | None = Field(None, description="Where it stands.")
    owner: PlaceConfig | None = Field(None, description="Who has it.")


def test_set_changes_single_keys_of_nested_ones(toy_recipe):
    config, _ = load_stage(NestedConfig, toy_recipe, {"place.shelf": 3})
    assert config.place == PlaceConfig(shelf=3)
    (toy_recipe / "toy.yaml").write_text("place: {shelf: 2, room: B}\n")
    config, _ = load_stage(NestedConfig, toy_recipe, {"place.shelf": 3})
    assert config.place == PlaceConfig(shelf=3, room="B")
    config, _ = load_stage(NestedConfig, toy_recipe, {"place.shelf": 3, "place.room": "C"})
    assert config.place == PlaceConfig(shelf=3, room="C")
    config, _ = load_stage(NestedConfig, toy_recipe, {"place": {"shelf": 9}, "place.room": "C"})
    assert (config.place, config.owner) == (PlaceConfig(shelf=9, room="C"), None)


@pytest.mark.parametrize(
    ("content", "overrides", "words"),
    [
        ("place: {shelf: 0}", {}, ["toy.yaml: place.shelf: ", "got 0", "(Counted from the floor.)"]),
        ("place: {shelf: 0}", {"place.room": "B"}, ["toy.yaml: place.shelf: "]),
        (
            "place: {shelves: 1}",
            {},
            ["toy.yaml: place.shelves is no known key. Did you mean shelf? Known: shelf, room"],
        ),
        ("place: {room: B}", {}, ["toy.yaml: place.shelf is missing"]),
        ("place: 3", {}, ["toy.yaml: place: "]),
        ("", {"place.shelf": 0}, ["--set toy.place.shelf: ", "got 0"]),
        ("", {"place.shelves": 1}, ["--set toy.place.shelves is no known key. Did you mean shelf?"]),
        ("", {"place.room": "B"}, ["place.shelf is missing"]),
        ("", {"palce.room": "B"}, ["--set toy.palce.room is no known key", "Known: max_quarantine_share, place"]),
        ("", {"max_quarantine_share.x": 1}, ["--set toy.max_quarantine_share.x is no known key"]),
    ],
)
def test_a_wrong_nested_key_is_told_whole(toy_recipe, content, overrides, words):
    (toy_recipe / "toy.yaml").write_text(content)
    with pytest.raises(ConfigError) as error:
        load_stage(NestedConfig, toy_recipe, overrides)
    for expected in words:
        assert expected in str(error.value)


class PathsConfig(StageConfig):
    stage: ClassVar[str] = "toy"

    one: Path | None = Field(None, description="A path.")
    several: tuple[Path, ...] = Field((), description="Paths.")
    words: str = Field("", description="Not a path.")


def test_paths_of_a_recipe_start_at_its_folder_and_those_of_set_at_the_current_one(toy_recipe, tmp_path, monkeypatch):
    (toy_recipe / "toy.yaml").write_text("one: a/b.pdf\nseveral: [../c.pdf, /d.pdf, ~/e.pdf]\nwords: a/b.pdf\n")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", "/home/reader")
    config, _ = load_stage(PathsConfig, toy_recipe, {})
    assert config.one == toy_recipe / "a" / "b.pdf"
    assert config.several == (tmp_path / "c.pdf", Path("/d.pdf"), Path("/home/reader/e.pdf"))
    assert config.words == "a/b.pdf"
    config, _ = load_stage(PathsConfig, toy_recipe, {"one": "f.pdf", "several": ["../g.pdf"]})
    assert (config.one, config.several) == (here / "f.pdf", (tmp_path / "g.pdf",))
    config, _ = load_stage(PathsConfig, toy_recipe, {"one": None})
    assert config.one is None


def test_paths_in_the_repository_are_the_same_in_every_clone(toy_recipe, monkeypatch):
    monkeypatch.chdir(REPOSITORY / "recipes")
    config, _ = load_stage(PathsConfig, toy_recipe, {"one": "smoke/lexicon.yaml"})
    assert config.one == Path("recipes/smoke/lexicon.yaml")


def test_overrides_are_yaml_values():
    parsed = parse_overrides(["a.x=1e-3", "a.y=[1, b]", "b.z=true", "a.w=x=y", "a.q='7'"], ["a", "b"])
    assert parsed == {"a": {"x": "1e-3", "y": [1, "b"], "w": "x=y", "q": "7"}, "b": {"z": True}}


def test_numbers_in_short_scientific_form_are_numbers(toy_recipe):
    # YAML 1.1 reads 1e-3 as a text; the configuration reads the text as the number that was meant.
    assert load(toy_recipe, "toy.step_s=1e-3").stages["toy"].step_s == 0.001


def test_compute_is_read_beside_the_configuration(toy_recipe):
    (toy_recipe / "toy.yaml").write_text("text: a\ncompute: {gpus_per_node: 8, memory: 64Gi, node_selector: {a: b}}\n")
    recipe = load(toy_recipe)
    assert recipe.stages["toy"].text == "a"
    compute = recipe.compute["toy"]
    assert (compute.gpus_per_node, compute.memory, compute.node_selector) == (8, "64Gi", {"a": "b"})
    changed = load(toy_recipe, "toy.compute.memory=32Gi", "toy.text=b")
    assert (changed.compute["toy"].gpus_per_node, changed.compute["toy"].memory) == (8, "32Gi")
    assert changed.stages["toy"].text == "b"


def test_a_resolved_configuration_says_the_same_when_read_back(toy_recipe):
    recipe = load(toy_recipe, "toy.books=[a.txt]", "toy.step_s=0.1")
    assert ToyConfig.model_validate_json(recipe.config("toy")) == recipe.stages["toy"]


def test_every_recipe_here_that_has_its_stages_is_sound():
    from components import catalogue

    for name in recipe_names():
        assert load_recipe(name, catalogue()).stages
