"""Names of models, environments and versions."""

from __future__ import annotations

from typing import Literal, get_args

from pathoflow.errors import InputError

Environment = Literal["dev", "staging", "prod"]
ENVIRONMENTS: tuple[Environment, ...] = get_args(Environment)
CHAMPION, PREVIOUS = "champion", "previous"


def registered(model: str, environment: Environment) -> str:
    """Returns the registered model that holds the versions of an environment.

    >>> registered("patho-r1", "prod")
    'patho-r1.prod'
    """
    return f"{model}.{environment}"


def split(name: str) -> tuple[str, Environment | None]:
    """Splits a registered model's name into model and environment.

    >>> split("patho-r1.staging"), split("patho-r1"), split("two words.v2")
    (('patho-r1', 'staging'), ('patho-r1', None), ('two words.v2', None))
    """
    model, dot, environment = name.rpartition(".")
    for known in ENVIRONMENTS:
        if dot and model and environment == known:
            return model, known
    return name, None


def environment_before(environment: Environment) -> Environment:
    """Returns the environment that versions come from which enter another.

    >>> environment_before("prod")
    'staging'
    """
    return ENVIRONMENTS[ENVIRONMENTS.index(environment) - 1]


def asked_in(asked: str, environment: Environment) -> str:
    """Completes what a user asked for with the environment that goes without saying.

    >>> asked_in("patho-r1/3", "dev"), asked_in("patho-r1.dev@champion", "dev")
    ('patho-r1.dev/3', 'patho-r1.dev@champion')

    Raises:
        InputError: Another environment is named.
    """
    for mark in ("@", "/"):
        name, found, rest = asked.rpartition(mark)
        if found and name:
            break
    else:
        name, mark, rest = asked, "", ""
    model, named = split(name)
    if named not in (None, environment):
        raise InputError(f"{asked} is in {named}, but a version of {registered(model, environment)} is needed here.")
    return f"{registered(model, environment)}{mark}{rest}"
