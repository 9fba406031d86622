"""How models, their stages and versions are named."""

from __future__ import annotations

from typing import Literal, get_args

from pathoflow.errors import InputError

Stage = Literal["dev", "staging", "prod"]
STAGES: tuple[Stage, ...] = get_args(Stage)
CHAMPION, PREVIOUS = "champion", "previous"


def registered(model: str, stage: Stage) -> str:
    """The registered model that holds the versions of a stage.

    >>> registered("patho-r1", "prod")
    'patho-r1.prod'
    """
    return f"{model}.{stage}"


def split(name: str) -> tuple[str, Stage | None]:
    """Model and stage of a registered model's name.

    >>> split("patho-r1.staging"), split("patho-r1"), split("two words.v2")
    (('patho-r1', 'staging'), ('patho-r1', None), ('two words.v2', None))
    """
    model, dot, stage = name.rpartition(".")
    for known in STAGES:
        if dot and model and stage == known:
            return model, known
    return name, None


def stage_before(stage: Stage) -> Stage:
    """Where versions come from that enter a stage.

    >>> stage_before("prod")
    'staging'
    """
    return STAGES[STAGES.index(stage) - 1]


def asked_in(asked: str, stage: Stage) -> str:
    """What a user asked for, with the stage that goes without saying.

    >>> asked_in("patho-r1/3", "dev"), asked_in("patho-r1.dev@champion", "dev")
    ('patho-r1.dev/3', 'patho-r1.dev@champion')

    Raises:
        InputError: Another stage is named.
    """
    for mark in ("@", "/"):
        name, found, rest = asked.rpartition(mark)
        if found and name:
            break
    else:
        name, mark, rest = asked, "", ""
    model, named = split(name)
    if named not in (None, stage):
        raise InputError(f"{asked} is in {named}, but a version of {registered(model, stage)} is needed here.")
    return f"{registered(model, stage)}{mark}{rest}"
