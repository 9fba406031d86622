"""Promotion, rollback and demotion: what moves an environment's champion, one command at a time for each model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from pathoflow.errors import InputError, RefusedError, RegistryError, SignatureError
from pathoflow.governance.audit import Verdict
from pathoflow.governance.audit.versions import Version
from pathoflow.governance.registry.access import Registry, answering
from pathoflow.governance.registry.aliases import EnvironmentState, set_aliases
from pathoflow.governance.registry.entries import Entry
from pathoflow.governance.registry.gate import Gate
from pathoflow.governance.registry.gates import Judgement, ask
from pathoflow.governance.registry.intents import check_drift, lock_name, move, repair
from pathoflow.governance.registry.names import (
    ENVIRONMENTS,
    Environment,
    asked_in,
    environment_before,
    registered,
    split,
)
from pathoflow.governance.registry.policy import Gates
from pathoflow.governance.registry.verification import find_version, verified_manifest
from pathoflow.stores.tracking import IDENTITY_TAG

_WAIT_S = 300.0


@dataclass(frozen=True)
class Outcome:
    """Outcome of a command.

    Attributes:
        name: The registered model that it was about.
        state: Where that stands now.
        judgement: What the gates said, of a promotion.
        repaired: What was set right first.
    """

    name: str
    state: EnvironmentState
    judgement: Judgement | None = None
    repaired: list[str] = field(default_factory=list)


def judge(registry: Registry, asked: str, environment: Environment, gates: Gates) -> Judgement:
    """Asks the gates of an environment about a version of the environment before; nothing is moved or logged.

    Raises:
        InputError: There is no such version.
    """
    version = find_version(registry, asked_in(asked, environment_before(environment)))
    with answering(registry.tracking_uri):
        return ask(registry, version, environment, gates.of(environment))


def promote(registry: Registry, asked: str, environment: Environment, gates: Gates) -> Outcome:
    """Copies a version into the next environment and makes it the champion there, if every gate passes.

    The gates are asked before the model is locked, since an audit takes its time; under the lock the champion must
    still be the one that the version was compared with. Of promotions that begin at once, one wins.

    Raises:
        InputError: There is no such version.
        RefusedError: A gate does not pass; the refusal is in the log.
        RegistryError: MLflow or the store failed half-way; the next command repairs what was begun.
    """
    registry.require_key()
    judgement = judge(registry, asked, environment, gates)
    version = judgement.version
    model, _ = split(version.name)
    name = registered(model, environment)
    details: dict[str, Any] = {
        "from": version.label,
        "to": environment,
        "identity": version.tags.get(IDENTITY_TAG),
        "gates_digest": gates.digest,
    }
    with locked(registry, model) as (check, repaired):
        judgement = _unmoved(registry, judgement, name)
        details["gates"] = [gate.plain() for gate in judgement.gates]
        if judgement.verdict is not Verdict.PASS:
            registry.log.append(registry.key, registry.actor, "refuse", model, details)
            raise Refusal(judgement, repaired)
        # The bytes that the new version will serve, by the signature over them, at the last moment.
        verified_manifest(registry, version, with_bytes=False)
        source = f"models:/{version.label}"
        state = move(
            registry, model, name, "promote", details, source=source, to=EnvironmentState.promoted, check=check
        )
    return Outcome(name, state, judgement, repaired)


def roll_back(registry: Registry, asked: str, environment: Environment, reason: str) -> Outcome:
    """Makes the champion before the present one the champion again, once its every byte was verified.

    Raises:
        RefusedError: There is none.
        SignatureError: Its bytes are no longer those that were signed.
    """

    def version_of(state: EnvironmentState, name: str) -> int:
        if state.previous is None:
            raise RefusedError(f"{name} has no earlier champion to roll back to.")
        return state.previous

    return _move_back(
        registry, asked, environment, reason, "rollback", version_of, lambda state, _: state.rolled_back()
    )


def demote(registry: Registry, asked: str, environment: Environment, reason: str) -> Outcome:
    """Takes the champion away, so that the environment serves nothing until a promotion or a rollback.

    Raises:
        RefusedError: There is no champion.
    """

    def version_of(state: EnvironmentState, name: str) -> int:
        if state.champion is None:
            raise RefusedError(f"{name} has no champion to demote.")
        return 0

    return _move_back(registry, asked, environment, reason, "demote", version_of, lambda state, _: state.demoted())


def repair_all(registry: Registry, model: str) -> list[str]:
    """Sets right what a kill or a hand left of a model: a move half done, notes that are gone, aliases that were moved.

    A champion is put back once its every byte was verified; if it will not do, nothing is served from then on.

    Returns:
        What was done.

    Raises:
        RegistryError: The log was changed: there is nothing to go by.
    """
    mended = mend_log(registry)
    with locked(registry, model) as (check, told):
        told.extend(mended)
        for environment in ENVIRONMENTS:
            name = registered(model, environment)
            states = registry.log.head().states
            if (problem := check_drift(registry, name, states)) is None:
                continue
            state = EnvironmentState.read(states.get(name))
            done = "The aliases were put back to where the log says"
            if spoilt := _spoilt_champion(registry, name, state):
                state, done = state.demoted(), f"Nothing is served, since the champion will not do: {spoilt}"
            check()
            with answering(registry.tracking_uri):
                set_aliases(registry.client, name, state)
            details = {"after": {name: state.plain()}, "repaired": f"{done}. Before: {problem}"}
            registry.log.append(registry.key, registry.actor, "repair", model, details)
            told.append(f"{name}: {done}. Before: {problem}")
    return told


def mend_log(registry: Registry) -> list[str]:
    """Writes the log's head and its notes in MLflow again where they are gone, and logs that.

    Returns:
        What was done.

    Raises:
        RegistryError: The log was changed in something else, too.
    """
    told = []
    for lost in registry.log.mend(registry.key):
        last = registry.log.entries()[-1]
        registry.log.append(registry.key, registry.actor, "repair", last.model, {"repaired": lost})
        told.append(f"{lost} It was written again from the entries; compare those with a head noted earlier.")
    return told


def _spoilt_champion(registry: Registry, name: str, state: EnvironmentState) -> str | None:
    """Returns why the champion that the log names cannot be served; None if it can, or if there is none."""
    if state.champion is None:
        return None
    try:
        version = find_version(registry, f"{name}/{state.champion}")
        _require_logged(registry, version, verified_manifest(registry, version, with_bytes=True).identity)
    except (InputError, RefusedError, SignatureError) as error:
        return str(error).rstrip(".")
    return None


@contextmanager
def locked(registry: Registry, model: str) -> Iterator[tuple[Callable[[], None], list[str]]]:
    """Holds a model's lock, after what a killed command left is set right; yields a check, and what was repaired.

    Raises:
        BusyError: Another command held it for too long.
    """
    with registry.objects.lock(lock_name(model), _WAIT_S) as check, answering(registry.tracking_uri):
        yield check, repair(registry, model)


class Refusal(RefusedError):
    """A promotion that a gate refused."""

    def __init__(self, judgement: Judgement, repaired: list[str]) -> None:
        self.judgement, self.repaired = judgement, repaired
        gates = [gate for gate in judgement.gates if gate.verdict is not Verdict.PASS]
        lines = "".join(f"\n  {gate.verdict.value} {gate.name}: {gate.detail}" for gate in gates)
        super().__init__(f"{judgement.version.label} does not enter {judgement.environment}:{lines}")


def _unmoved(registry: Registry, judgement: Judgement, name: str) -> Judgement:
    """Adds a gate to the judgement if the world moved since the gates were asked."""
    now = EnvironmentState.read(registry.log.head().states.get(name)).champion
    problems = []
    if now != judgement.champion:
        problems.append(
            f"the champion became {name}/{now} while the gates were asked about {judgement.champion}: another "
            "promotion won. Run the command again to be compared with it"
        )
    again = find_version(registry, judgement.version.label)
    if replace(again, aliases=()) != replace(judgement.version, aliases=()):
        problems.append(f"{again.label} was changed while the gates were asked")
    if now is not None and now == judgement.champion:
        champion = find_version(registry, f"{name}/{now}")
        if champion.source == f"models:/{judgement.version.label}":
            problems.append(f"it is the champion already, as {champion.label}")
    if not problems:
        return judgement
    return replace(judgement, gates=(*judgement.gates, Gate("champion", Verdict.FAIL, "; ".join(problems))))


def _move_back(
    registry: Registry,
    asked: str,
    environment: Environment,
    reason: str,
    action: Any,
    version_of: Callable[[EnvironmentState, str], int],
    to: Callable[[EnvironmentState, int], EnvironmentState],
) -> Outcome:
    model, named = split(asked)
    if named not in (None, environment):
        raise InputError(f"{asked} names {named}, --environment says {environment}. Leave one of them out.")
    name = registered(model, environment)
    registry.require_key()
    with locked(registry, model) as (check, repaired):
        states = registry.log.head().states
        if name not in states:
            known = ", ".join(sorted(states)) or "none"
            raise InputError(f"The log knows no {name}. Known: {known}.")
        if problem := check_drift(registry, name, states):
            raise RegistryError(problem)
        before = EnvironmentState.read(states[name])
        version = version_of(before, name)
        details: dict[str, Any] = {"reason": reason, "to": environment}
        if version:
            earlier = find_version(registry, f"{name}/{version}")
            manifest = verified_manifest(registry, earlier, with_bytes=True)
            _require_logged(registry, earlier, manifest.identity)
            details |= {"from": f"{name}/{before.champion}", "identity": manifest.identity}
        else:
            details |= {"from": f"{name}/{before.champion}"}
        state = move(registry, model, name, action, details, to=to, check=check, version=version)
    return Outcome(name, state, None, repaired)


def _require_logged(registry: Registry, version: Version, identity: str) -> None:
    """Makes sure that the version is what was promoted under its number.

    Raises:
        RefusedError: The log says otherwise.
    """
    entries: list[Entry] = registry.log.entries()
    for entry in entries:
        if entry.action in ("promote", "register") and entry.details.get("version") == version.label:
            if entry.details.get("identity") == identity:
                return
            raise RefusedError(
                f"{version.label} serves {identity}, but the log has {entry.details.get('identity')} (entry "
                f"{entry.seq}): its tags or bytes were exchanged."
            )
    raise RefusedError(f"The log knows no promotion to {version.label}.")
