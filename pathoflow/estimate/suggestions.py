"""Searches for values near a recipe's own with which a stage fits."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from pathoflow.contract.recipe import Recipe
from pathoflow.estimate.devices import GIB
from pathoflow.estimate.stage_estimate import StageEstimate
from pathoflow.estimate.stages import Assumptions, estimate_stage

Changes = Mapping[str, Any]
"""New values by key; a stage's compute is `compute.<key>`."""
_SMALLEST_STEP = 8
_ROUND_GIB = 16
_RANK = 64
"""A common rank of adapters."""


@dataclass(frozen=True)
class Suggestion:
    """Values with which a stage fits.

    Attributes:
        changes: Values to set.
        estimate: The stage with these values.
    """

    changes: Changes
    estimate: StageEstimate

    @property
    def options(self) -> str:
        """Returns the changes as options of the command line."""
        values = (f"--set {self.estimate.stage}.{key}={_yaml(value)}" for key, value in self.changes.items())
        return " ".join(values)


def suggestions(recipe: Recipe, stage: str, assumptions: Assumptions, most: int = 3) -> list[Suggestion]:
    """Suggests ways to make a stage fit: each key alone where that is enough, else several; the mildest first.

    Args:
        recipe: The recipe.
        stage: A stage of it that does not fit.
        assumptions: The machine and the data.
        most: Largest number of suggestions.

    Returns:
        None at all if nothing that was tried fits.
    """
    search = _Search(recipe, stage, assumptions)
    ladders = [list(ladder) for ladder in _ladders(search.config)]
    single = [found for ladder in ladders if (found := search.first_that_fits(ladder)) is not None]
    if not single and (together := search.together(ladders)) is not None:
        single = [together]
    return [suggestion for suggestion in map(search.with_room, single) if suggestion is not None][:most]


class _Search:
    def __init__(self, recipe: Recipe, stage: str, assumptions: Assumptions) -> None:
        self._recipe, self._stage, self._assumptions = recipe, stage, assumptions
        self.config: Any = recipe.stages[stage]

    def tried(self, changes: Changes) -> StageEstimate | None:
        """Estimates the stage with some values changed; None if they are not allowed."""
        try:
            return estimate_stage(changed(self._recipe, self._stage, changes), self._stage, self._assumptions)
        except ValidationError:
            return None

    def first_that_fits(self, ladder: Sequence[Changes]) -> Changes | None:
        """Returns the first rung on which the GPU's memory is enough."""
        return next((changes for changes in ladder if self._fits(changes)), None)

    def together(self, ladders: Sequence[Sequence[Changes]]) -> Changes | None:
        """Takes the last rungs of as many ladders as needed, then of each the first that is enough."""
        taken: list[Sequence[Changes]] = []
        for ladder in ladders:
            if not ladder or self.tried(_joined([*(rungs[-1] for rungs in taken), ladder[-1]])) is None:
                continue
            taken.append(ladder)
            if self._fits(_joined([rungs[-1] for rungs in taken])):
                break
        else:
            return None
        chosen: list[Changes] = [rungs[-1] for rungs in taken]
        for place, rungs in enumerate(taken):
            options = ([*chosen[:place], rung, *chosen[place + 1 :]] for rung in ({}, *rungs))
            chosen = next(option for option in options if self._fits(_joined(option)))
        return _joined(chosen)

    def with_room(self, changes: Changes) -> Suggestion | None:
        """Adds the host memory and /dev/shm that the changes take."""
        found = self.tried(changes)
        assert found is not None
        needs = {"memory": (found.host_total, found.host_limit), "shm": (found.shm, found.shm_limit)}
        more = {f"compute.{key}": _rounded(need) for key, (need, limit) in needs.items() if limit and need > limit}
        found = self.tried({**changes, **more})
        return Suggestion({**changes, **more}, found) if found and not found.faults() else None

    def _fits(self, changes: Changes) -> bool:
        found = self.tried(changes)
        return found is not None and (found.gpu_limit is None or found.peak.total <= found.gpu_limit)


def changed(recipe: Recipe, stage: str, changes: Changes) -> Recipe:
    """Returns the recipe with other values of one stage.

    Raises:
        ValidationError: They are not allowed.
    """
    config, compute = recipe.stages[stage], recipe.compute[stage]
    values = {key: value for key, value in changes.items() if not key.startswith("compute.")}
    amounts = {key.removeprefix("compute."): changes[key] for key in changes.keys() - values.keys()}
    config = type(config).model_validate(config.model_dump() | values)
    compute = type(compute).model_validate(compute.model_dump() | amounts)
    return dataclasses.replace(
        recipe, stages={**recipe.stages, stage: config}, compute={**recipe.compute, stage: compute}
    )


def _ladders(config: Any) -> Iterator[Iterator[Changes]]:
    """Returns keys that take memory, each with ever smaller values; the mildest key first.

    Mild is what changes speed alone; then come what is learned at a time and what a model may say.
    """
    # So that the stage's own values are looked at, too: its pod may only lack host memory.
    yield iter([{}])
    if config.stage in ("cpt", "sft"):
        yield ({"pack_tokens": value} for value in _halves(config.pack_tokens, config.max_length_tokens))
        if config.stage == "sft":
            yield ({"dev_batch_size": value} for value in _halves(config.dev_batch_size, 1))
    if config.stage == "rl":
        yield _smaller_passes(config)
        yield ({"steps_per_generation": value} for value in _divisors(config.steps_per_generation))
    if config.stage in ("cpt", "sft", "rl"):
        yield from _training_ladders(config)
    if config.stage == "rl":
        yield _smaller_rounds(config)
        yield _shorter_completions(config)
    if config.stage in ("cpt", "sft", "rl"):
        yield _adapters(config)
    if config.stage == "vqa_benchmarks":
        yield ({"batch_size": value} for value in _halves(config.batch_size, 1))
    if config.stage == "pathoclip":
        seen = config.num_steps * config.batch_size
        sizes = range(config.batch_size - 1, 1, -1)
        wanted = (size for size in sizes if size % _SMALLEST_STEP == 0 or size < _SMALLEST_STEP)
        yield ({"batch_size": size, "num_steps": math.ceil(seen / size)} for size in wanted)


def _training_ladders(config: Any) -> Iterator[Iterator[Changes]]:
    if not config.gradient_checkpointing:
        yield iter([{"gradient_checkpointing": True}])
    adapters = getattr(config, "lora_rank", None)
    if config.num_processes > 1 and not adapters:
        yield ({"deepspeed_stage": stage} for stage in (2, 3) if stage > config.deepspeed_stage)
    if config.offload == "none" and not adapters:
        stage = config.deepspeed_stage or 2
        yield iter([{"deepspeed_stage": stage, "offload": "optimizer"}, {"deepspeed_stage": 3, "offload": "all"}])


def _adapters(config: Any) -> Iterator[Changes]:
    """Returns adapters in place of weights, as changes."""
    frozen = {"freeze_vision_tower": True, "freeze_merger": True, "freeze_language_model": False}
    if "lora_rank" in type(config).model_fields and not config.lora_rank:
        yield {"lora_rank": _RANK, "deepspeed_stage": 0, "offload": "none"} | frozen


def _smaller_passes(config: Any) -> Iterator[Changes]:
    """Returns fewer completions in a forward pass, and as many more passes."""
    size, passes = config.batch_size_per_process, config.gradient_accumulation_steps
    for smaller in _divisors(size):
        yield {"batch_size_per_process": smaller, "gradient_accumulation_steps": passes * size // smaller}


def _smaller_rounds(config: Any) -> Iterator[Changes]:
    """Returns fewer questions in a step, and so fewer completions at once."""
    prompts, passes = config.prompts_per_step, config.gradient_accumulation_steps
    for share in range(2, passes + 1):
        if passes % share == 0 and prompts % share == 0:
            fewer = {"prompts_per_step": prompts // share, "gradient_accumulation_steps": passes // share}
            yield {"steps_per_generation": 1, **fewer}


def _shorter_completions(config: Any) -> Iterator[Changes]:
    for tokens in _halves(config.max_completion_tokens, 2):
        cache = min(config.overlong_cache_tokens, tokens)
        yield {"max_completion_tokens": tokens, "overlong_cache_tokens": cache}


def _halves(value: int, smallest: int) -> Iterator[int]:
    """Yields the value halved again and again, down to the smallest.

    >>> list(_halves(16_384, 5000))
    [8192, 5000]
    """
    while value > smallest:
        value = max(smallest, value // 2)
        yield value


def _divisors(value: int) -> Iterator[int]:
    """Yields smaller numbers that divide the value, the largest first.

    >>> list(_divisors(12))
    [6, 4, 3, 2, 1]
    """
    return (number for number in range(value // 2, 0, -1) if value % number == 0)


def _joined(parts: Sequence[Changes]) -> dict[str, Any]:
    return {key: value for part in parts for key, value in part.items()}


def _rounded(need: float) -> str:
    return f"{math.ceil(need / GIB / _ROUND_GIB) * _ROUND_GIB}Gi"


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
