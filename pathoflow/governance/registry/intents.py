"""Moves that a kill cannot leave half done: an intent is written first, and whoever comes next finishes or undoes it.

A move is: intent, copy of the version (promotions), aliases, log entry, intent removed; all of it under the model's
lock. Whoever gets the lock and finds an intent knows that its writer is gone. If the champion's alias had moved, the
move counts and its entry is written; if not, everything is put back, and that is written.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pathoflow.errors import RegistryError, SignatureError
from pathoflow.governance.registry.access import Registry, answering
from pathoflow.governance.registry.aliases import EnvironmentState, aliases_of, set_aliases
from pathoflow.governance.registry.entries import Action
from pathoflow.governance.registry.names import split
from pathoflow.governance.signing import sign_statement, verify_statement

INTENT = "urn:pathoflow:intent:v1"
ABANDONED_TAG = "pathoflow.abandoned"


@dataclass(frozen=True)
class Intent:
    """Intent of a command, written before it acts.

    Attributes:
        id: Names the move in its log entry.
        model: The model, without the environment.
        name: The registered model whose aliases move.
        action: What the log will say.
        details: What the log will say besides.
        before: Where the registered model stands.
        after: Where it will stand; None until the version is copied.
        source: Of a promotion: the URI that the version is copied from.
        num_versions: The highest version of the registered model before.
        seq: The log's last entry before.
    """

    id: str
    model: str
    name: str
    action: Action
    details: Mapping[str, Any]
    before: EnvironmentState
    after: EnvironmentState | None
    source: str | None
    num_versions: int
    seq: int

    def plain(self) -> dict[str, Any]:
        """Returns the intent as JSON values."""
        return {
            **self.__dict__,
            "details": dict(self.details),
            "before": self.before.plain(),
            "after": self.after.plain() if self.after else None,
        }


def lock_name(model: str) -> str:
    """Returns the lock of one model; every name makes a valid one of bounded length."""
    return f"model-{hashlib.sha256(model.encode()).hexdigest()[:24]}"


def move(
    registry: Registry,
    model: str,
    name: str,
    action: Action,
    details: Mapping[str, Any],
    *,
    source: str | None = None,
    to: Callable[[EnvironmentState, int], EnvironmentState],
    check: Callable[[], None],
    version: int = 0,
) -> EnvironmentState:
    """Moves the aliases of a registered model and logs it, so that a kill at any point can be repaired.

    The caller holds the model's lock and has repaired what was left.

    Args:
        registry: Where.
        model: The model, without the environment.
        name: The registered model.
        action: What the log says.
        details: What the log says besides.
        source: `models:/…` of the version to copy; without it, `version` moves.
        to: Gives the new state from the old one and the version.
        check: Raises if the lock was lost.
        version: The version to move to.
    """
    head = registry.log.sound_head(model)
    intent = Intent(
        id=uuid.uuid4().hex,
        model=model,
        name=name,
        action=action,
        details=details,
        before=EnvironmentState.read(head.states.get(name)),
        after=None if source else to(EnvironmentState.read(head.states.get(name)), version),
        source=source,
        num_versions=_num_versions(registry, name),
        seq=head.seq,
    )
    content = sign_statement(INTENT, {}, intent.plain(), registry.key)
    if not registry.objects.put_if_absent(_key(model), content):
        raise RegistryError(f"Another move of {model} has begun. Run the command again.")
    with answering(registry.tracking_uri):
        if source:
            check()
            version = int(registry.client.copy_model_version(source, name).version)
        after = to(intent.before, version)
        check()
        set_aliases(registry.client, name, after)
        # What MLflow says now, and not what was asked of it, goes into the log.
        if aliases_of(registry.client, name) != (after.champion, after.previous):
            raise RegistryError(f"The aliases of {name} were moved by somebody else meanwhile. Run the command again.")
    # A demotion moves to no version.
    _log(registry, intent, version or None, after, repaired=False)
    registry.objects.delete(_key(model))
    return after


def repair(registry: Registry, model: str) -> list[str]:
    """Finishes or undoes what a killed command left of a move; the caller holds the model's lock.

    Returns:
        What was done, for the user; nothing if there was nothing to do.

    Raises:
        RegistryError: The intent was not written by a trusted registrar.
    """
    intent = unfinished(registry, model)
    if intent is None:
        return []
    logged = next(
        (
            entry
            for entry in registry.log.entries(intent.seq)
            if entry.details.get("intent") == intent.id and entry.model == model
        ),
        None,
    )
    with answering(registry.tracking_uri):
        copied = _copied(registry, intent)
        after = intent.after or (_after(intent, copied) if copied else None)
        champion, _ = aliases_of(registry.client, intent.name)
        if logged is not None:
            state = EnvironmentState.read(logged.details["after"][intent.name])
            set_aliases(registry.client, intent.name, state)
            registry.log.note_again(logged, registry.key)
            told = f"The {intent.action} of {intent.name} had been completed by a command that was killed."
        elif after is not None and champion == after.champion and after != intent.before:
            set_aliases(registry.client, intent.name, after)
            _log(registry, intent, copied or after.champion, after, repaired=True)
            told = f"A {intent.action} of {intent.name} that was killed half-way was finished: its alias had moved."
        else:
            if copied is not None:
                registry.client.set_model_version_tag(intent.name, str(copied), ABANDONED_TAG, intent.id)
            if champion is not None or intent.before != EnvironmentState():
                set_aliases(registry.client, intent.name, intent.before)
            _log(registry, intent, copied, intent.before, repaired=True, undone=True)
            told = f"A {intent.action} of {intent.name} that was killed half-way was taken back."
    registry.objects.delete(_key(model))
    return [told]


def unfinished(registry: Registry, model: str) -> Intent | None:
    """Returns the intent that a command left or is at work on.

    Raises:
        RegistryError: It was not written by a trusted registrar.
    """
    content = registry.objects.get(_key(model))
    if content is None:
        return None
    where = f"{_key(model)} in {registry.objects.url}"
    try:
        said = verify_statement(content, registry.trusted.registrars, INTENT, where).predicate
    except SignatureError as error:
        raise RegistryError(
            f"{error} It was not written by a command of pathoflow, or was changed: find out by whom, then remove it."
        ) from error
    states = {
        "before": EnvironmentState.read(said["before"]),
        "after": EnvironmentState.read(said["after"]) if said["after"] else None,
    }
    return Intent(**{**said, **states})


def check_drift(registry: Registry, name: str, states: Mapping[str, Any]) -> str | None:
    """Checks that a registered model's aliases stand where the log says; returns what is wrong, or None."""
    state = EnvironmentState.read(states.get(name))
    with answering(registry.tracking_uri):
        champion, previous = aliases_of(registry.client, name)
    if (champion, previous) == (state.champion, state.previous):
        return None
    if intent := unfinished(registry, split(name)[0]):
        return (
            f"A {intent.action} of {intent.name} is at work, or was killed half-way. Wait for it; if nobody is at "
            "work, `pathoflow registry --repair` finishes it or takes it back."
        )
    return (
        f"MLflow has champion {champion} and previous {previous} for {name}, but the log says {state.champion} and "
        f"{state.previous}: aliases were moved by hand. Find out why; `pathoflow registry --repair` puts them back."
    )


def _log(
    registry: Registry,
    intent: Intent,
    version: int | None,
    after: EnvironmentState,
    *,
    repaired: bool,
    undone: bool = False,
) -> None:
    details = {**intent.details, "intent": intent.id, "after": {intent.name: after.plain()}}
    if version is not None:
        details["version"] = f"{intent.name}/{version}"
    if repaired:
        details |= {"repaired": "taken back" if undone else "finished"}
    action: Action = "repair" if undone else intent.action
    if undone:
        details["undone"] = intent.action
    registry.log.append(registry.key, registry.actor, action, intent.model, details)


def _after(intent: Intent, copied: int) -> EnvironmentState:
    return intent.before.promoted(copied)


def _copied(registry: Registry, intent: Intent) -> int | None:
    """Returns the version that a killed promotion had copied."""
    if intent.source is None:
        return None
    for version in range(_num_versions(registry, intent.name), intent.num_versions, -1):
        if registry.client.get_model_version(intent.name, str(version)).source == intent.source:
            return version
    return None


def _num_versions(registry: Registry, name: str) -> int:
    with answering(registry.tracking_uri):
        found = registry.client.search_model_versions(filter_string=name_filter(name), max_results=1000)
        return max((int(version.version) for version in found), default=0)


def name_filter(name: str) -> str:
    """MLflow's filter for one registered model, whatever it is called.

    >>> print(name_filter("it's"))
    name = "it's"
    """
    mark = '"' if "'" in name else "'"
    return f"name = {mark}{name}{mark}"


def _key(model: str) -> str:
    return f"intents/{lock_name(model)}.json"
