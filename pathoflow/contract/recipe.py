"""Recipes: one folder per run, one YAML file per stage, checked before anything is imported or downloaded."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pathoflow.contract.code import REPOSITORY
from pathoflow.contract.config import StageConfig
from pathoflow.errors import ConfigError

RECIPES = REPOSITORY / "recipes"
ABOUT_FILE = "recipe.yaml"
GATES_FILE = "gates.yaml"
_COMPUTE = "compute."

Model = TypeVar("Model", bound=BaseModel)


class Toleration(BaseModel):
    """A Kubernetes toleration."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    operator: str = "Exists"
    value: str | None = None
    effect: str = "NoSchedule"


class Compute(BaseModel):
    """Resources and placement of one stage's pod on a cluster. A local run ignores them, save for `shards`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: str | None = Field(None, pattern=r"^\d+(\.\d+)?m?$", description="CPU request and limit, cores or millicores.")
    memory: str | None = Field(None, pattern=r"^\d+[KMGT]i?$", description="Memory request and limit, such as `64Gi`.")
    nodes: int = Field(
        1,
        ge=1,
        le=64,
        description="Nodes; above 1 the stage's pod starts a TrainJob with one pod on each and watches it.",
    )
    gpus_per_node: int = Field(0, ge=0, le=16, description="GPUs of the pod; torchrun starts one process for each.")
    gpu_resource: str = Field("nvidia.com/gpu", description="Extended resource name of the GPUs.")
    shm: str | None = Field(None, pattern=r"^\d+[MG]i$", description="Size of /dev/shm, for NCCL and data workers.")
    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels that the node must carry.")
    tolerations: tuple[Toleration, ...] = Field((), description="Taints that the pod accepts.")
    queue: str | None = Field(None, description="Kueue LocalQueue of the stage; default: the cluster's.")
    deadline_s: int | None = Field(None, ge=60, description="Longest time that the stage may take, in seconds.")
    retries: int = Field(0, ge=0, le=10, description="How often a failed or preempted pod is started again.")
    shards: int = Field(
        1,
        ge=1,
        le=1000,
        description="Over how many tasks the stage's work is divided, also in a local run; the output is the same.",
    )


class About(BaseModel):
    """`recipe.yaml`: what a recipe is for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str = Field(description="One line for `pathoflow recipes`.")
    description: str = Field(description="What the recipe trains on what, and what it needs.")


@dataclass(frozen=True)
class Recipe:
    """One complete, named run.

    Attributes:
        name: Its folder's name.
        about: What it is for.
        stages: Configuration of each stage that takes part, in the catalogue's order.
        compute: What each stage asks for on a cluster.
    """

    name: str
    about: About
    stages: Mapping[str, StageConfig]
    compute: Mapping[str, Compute]

    def __contains__(self, stage: str) -> bool:
        return stage in self.stages

    def config(self, stage: str) -> str:
        """The resolved configuration of a stage as JSON: a KFP struct has no null, and no integers.

        Raises:
            ConfigError: The recipe has no file for this stage.
        """
        if stage not in self.stages:
            raise ConfigError(f"Recipe {self.name} lacks {stage}.yaml, and the pipeline needs that stage.")
        return self.stages[stage].model_dump_json()


def recipe_names() -> list[str]:
    """The recipes that come with pathoflow."""
    return sorted(path.parent.name for path in RECIPES.glob(f"*/{ABOUT_FILE}"))


def find_recipe(name: str) -> Path:
    """The folder of a recipe, given by its name or its path.

    Raises:
        ConfigError: There is no such recipe; the message lists those that exist.
    """
    for folder in (RECIPES / name, Path(name)):
        if (folder / ABOUT_FILE).is_file():
            return folder.resolve()
    close = difflib.get_close_matches(name, recipe_names(), n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise ConfigError(
        f"There is no recipe {name!r}.{hint} Known recipes: {', '.join(recipe_names())}; "
        f"or give the path of a folder with a {ABOUT_FILE}."
    )


def load_recipe(name: str, catalogue: Mapping[str, type[StageConfig]], overrides: Sequence[str] = ()) -> Recipe:
    """Reads and checks a whole recipe.

    Args:
        name: A recipe's name or folder.
        catalogue: Every stage's configuration class by stage name.
        overrides: `stage.key=value` strings; the value is YAML.

    Raises:
        ConfigError: Names the file and key, what is allowed, and the closest known name.
    """
    folder = find_recipe(name)
    about = read_about(folder)
    by_stage = parse_overrides(overrides, list(catalogue))
    stages: dict[str, StageConfig] = {}
    compute: dict[str, Compute] = {}
    for stage, config_type in catalogue.items():
        if (folder / f"{stage}.yaml").is_file():
            stages[stage], compute[stage] = load_stage(config_type, folder, by_stage.get(stage, {}))
        elif stage in by_stage:
            raise ConfigError(f"--set {stage}.…: recipe {folder.name} has no stage {stage}.")
    known = [f"{stage}.yaml" for stage in catalogue]
    read = {(REPOSITORY / path).resolve() for config in stages.values() for path in config.paths()}
    for path in sorted(folder.glob("*.y*ml")):
        if path.name not in (*known, ABOUT_FILE, GATES_FILE) and path not in read:
            raise ConfigError(f"{_shown(path)} is no stage. {_suggest(path.name, known)}")
    for config in stages.values():
        config.check_inputs(stages.keys() & set(config.inputs))
    return Recipe(folder.name, about, stages, compute)


def read_about(folder: Path) -> About:
    """Reads the title and description of the recipe in `folder`."""
    return _validate(About, _read_yaml(folder / ABOUT_FILE), folder / ABOUT_FILE)


def load_stage(
    config_type: type[StageConfig], folder: Path, overrides: Mapping[str, Any]
) -> tuple[StageConfig, Compute]:
    """Reads and checks one stage of the recipe in `folder`, overlaid by `overrides`: keys, or `compute.<key>`."""
    path = folder / f"{config_type.stage}.yaml"
    values = _read_yaml(path)
    asked = {key: value for key, value in overrides.items() if key.startswith(_COMPUTE)}
    amounts = {key.removeprefix(_COMPUTE): value for key, value in asked.items()}
    given = values.pop("compute", None) or {}
    compute = _validate(
        Compute, given | amounts if isinstance(given, dict) else given, path, prefix=_COMPUTE, set_keys=set(amounts)
    )
    if compute.shards > 1 and not config_type.can_shard:
        raise ConfigError(f"{_shown(path)}: compute.shards: the work of {config_type.stage} cannot be divided.")
    if compute.gpus_per_node and not config_type.can_use_gpus:
        raise ConfigError(f"{_shown(path)}: compute.gpus_per_node: {config_type.stage} has no use for GPUs.")
    if compute.nodes > 1 and not config_type.can_span_nodes:
        raise ConfigError(f"{_shown(path)}: compute.nodes: {config_type.stage} runs on one node.")
    if compute.nodes > 1 and not compute.gpus_per_node:
        raise ConfigError(f"{_shown(path)}: compute.nodes: more nodes than one need compute.gpus_per_node.")
    values = {key: _anchored(config_type, key, value, folder) for key, value in values.items()}
    overlay = {
        key: _anchored(config_type, key, value, Path.cwd()) for key, value in overrides.items() if key not in asked
    }
    config = _validate(config_type, _overlaid(config_type, values, overlay), path, set_keys=set(overlay))
    config.check_nodes(compute.nodes)
    return config, compute


def parse_overrides(overrides: Sequence[str], stages: list[str]) -> dict[str, dict[str, Any]]:
    """Groups `stage.key=value` strings by stage.

    >>> parse_overrides(["sft.max_steps=3", "sft.seed=null"], ["sft"])
    {'sft': {'max_steps': 3, 'seed': None}}
    """
    grouped: dict[str, dict[str, Any]] = {}
    for override in overrides:
        target, equals, text = override.partition("=")
        stage, dot, key = target.strip().partition(".")
        if not equals or not dot or not key:
            raise ConfigError(f"--set {override}: write it as stage.key=value, such as sft.learning_rate=1e-5.")
        if stage not in stages:
            raise ConfigError(f"--set {override}: {stage} is no stage. {_suggest(stage, stages)}")
        try:
            grouped.setdefault(stage, {})[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {override}: {text!r} is not a YAML value.") from error
    return grouped


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        raise ConfigError(f"{_shown(path)} {reason}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{_shown(path)} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{_shown(path)} must hold `key: value` lines.")
    return values


def _anchored(config_type: type[BaseModel], key: str, value: Any, folder: Path) -> Any:
    """Paths in a recipe are relative to its folder, paths in `--set` to the current one.

    Inside the repository they are kept relative to its root, so that a compiled pipeline is the same everywhere.
    """
    field = config_type.model_fields.get(key)
    if field is None or not _holds_paths(field.annotation):
        return value
    if isinstance(value, list):
        return [_anchor(item, folder) for item in value]
    return _anchor(value, folder)


def _overlaid(model: type[BaseModel], values: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `values` with each value of `overlay` in its place; `a.b` is the key `b` of the keys nested under `a`."""
    result = dict(values)
    for key, value in overlay.items():
        outer, dot, inner = key.partition(".")
        nested = _nested_model(model, outer) if dot else None
        if nested is None:
            result[key] = value
        else:
            given = result.get(outer)
            result[outer] = _overlaid(nested, given if isinstance(given, dict) else {}, {inner: value})
    return result


def _nested_model(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    """Returns the class of the keys that are nested under a key, as in `Endpoint | None`; None for a plain value."""
    field = model.model_fields.get(key)
    parts = (field.annotation, *get_args(field.annotation)) if field else ()
    return next((part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)), None)


def _holds_paths(annotation: Any) -> bool:
    return annotation is Path or any(_holds_paths(part) for part in get_args(annotation))


def _anchor(value: Any, folder: Path) -> Any:
    if not isinstance(value, str):
        return value
    path = (folder / Path(value).expanduser()).resolve()
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)


def _validate(
    model: type[Model],
    values: dict[str, Any],
    path: Path,
    *,
    prefix: str = "",
    set_keys: set[str] | None = None,
) -> Model:
    """Builds `model` and turns what pydantic found wrong into lines that name file and key."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        lines = [_explain(problem, model, path, prefix, set_keys or set()) for problem in error.errors()]
        raise ConfigError("\n".join(lines)) from error


def _explain(problem: Any, model: type[BaseModel], path: Path, prefix: str, set_keys: set[str]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    where = f"{_shown(path)}: {prefix}{key}".rstrip(".: ")
    if any(f"{key}.".startswith(f"{given}.") for given in set_keys):
        where = f"--set {path.stem}.{prefix}{key}"
    *outer, name = [str(part) for part in problem["loc"]] or [""]
    for part in outer:
        model = _nested_model(model, part) or model
    message = problem["msg"].removeprefix("Value error, ")
    if not key:
        return f"{where}: {message}"
    if problem["type"] == "extra_forbidden":
        return f"{where} is no known key. {_suggest(name, list(model.model_fields))}"
    if problem["type"] == "missing":
        return f"{where} is missing."
    value = problem["input"]
    field = model.model_fields.get(name)
    about = f" ({field.description})" if field and field.description else ""
    return f"{where}: {message}, got {value!r}{about}"


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {close[0]}? " if close else ""
    return f"{hint}Known: {', '.join(known)}."


def _shown(path: Path) -> str:
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else str(path)
