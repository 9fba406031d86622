"""Promotions at once, and processes that are killed in the middle."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from functools import partial

import pytest

from pathoflow.errors import RefusedError, RegistryError
from pathoflow.governance.audit import Verdict, audit
from pathoflow.governance.registry import intents, promotion
from pathoflow.governance.registry.aliases import EnvironmentState, aliases_of
from pathoflow.governance.registry.gates import Judgement
from pathoflow.governance.registry.intents import ABANDONED_TAG, unfinished
from pathoflow.governance.registry.trust import check_trust

FORK = multiprocessing.get_context("fork")


def agree(case) -> None:
    """MLflow's aliases, the log and the absence of an intent tell one story."""
    registry = case.registry()
    assert registry.log.verify().problems == []
    for name, state in registry.log.head().states.items():
        wanted = EnvironmentState.read(state)
        assert aliases_of(registry.client, name) == (wanted.champion, wanted.previous), name
    assert unfinished(registry, "toy") is None
    for version in registry.client.search_model_versions("name = 'toy.staging'"):
        logged = [
            entry
            for entry in registry.log.entries()
            if entry.details.get("version") == f"toy.staging/{version.version}"
        ]
        assert logged, f"version {version.version} is not in the log"
        assert (ABANDONED_TAG in version.tags) == (logged[0].action == "repair")


def _promote(case, asked: str, barrier, results) -> None:
    barrier.wait()
    try:
        case.promote(asked)
        results.put("promoted")
    except RefusedError:
        results.put("refused")


@pytest.mark.parametrize("num_promotions", [6, pytest.param(20, marks=pytest.mark.slow)])
def test_of_many_promotions_at_once_one_wins_and_each_leaves_a_line(case, num_promotions):
    barrier, results = FORK.Barrier(num_promotions), FORK.Queue()
    before = len(case.actions())
    workers = [
        FORK.Process(target=_promote, args=(case, f"toy/{1 + number % 3}", barrier, results))
        for number in range(num_promotions)
    ]
    for worker in workers:
        worker.start()
    told = [results.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert len(case.actions()) - before == num_promotions
    assert sorted(told) == sorted(
        {"promote": "promoted", "refuse": "refused"}[line] for line in case.actions()[before:]
    )
    # All began with no champion: one becomes it, and the others are told that they were compared with none.
    assert told.count("promoted") == 1
    agree(case)
    [promoted] = [entry for entry in case.registry().log.entries() if entry.action == "promote"]
    assert promoted.details["version"] == "toy.staging/1"


@pytest.fixture
def quick(case, monkeypatch):
    """Gates that pass at once, so that kills hit the move."""

    def judge(registry, asked, stage, gates):
        version = promotion.find_version(registry, promotion.asked_in(asked, "dev"))
        states = registry.log.head().states
        champion = EnvironmentState.read(states.get(f"toy.{stage}")).champion
        gate = promotion.Gate("none", promotion.Verdict.PASS, "")
        return Judgement(version, stage, (gate,), champion)

    monkeypatch.setattr(promotion, "judge", judge)
    return case


def _work(case, kind: str, begun) -> None:
    real = intents.Intent

    def started(**facts):
        begun.set()
        return real(**facts)

    intents.Intent = started
    if kind == "rollback":
        promotion.roll_back(case.registry(), "toy", "staging", "")
    else:
        case.promote(kind)


def other_than_champion(case) -> str:
    """A version that is not the champion of staging."""
    registry = case.registry()
    champion, _ = aliases_of(registry.client, "toy.staging")
    source = registry.client.get_model_version("toy.staging", str(champion)).source if champion else ""
    return "toy/1" if source != "models:/toy.dev/1" else "toy/2"


def kill_one(case, kind: str, after_s: float) -> None:
    """Begins a command and kills it some time after it began to move something."""
    begun = FORK.Event()
    process = FORK.Process(target=_work, args=(case, kind, begun))
    process.start()
    assert begun.wait(60)
    time.sleep(after_s)
    os.kill(process.pid, signal.SIGKILL)
    process.join()


@pytest.mark.parametrize("num_kills", [8, pytest.param(50, marks=pytest.mark.slow)])
def test_kill_9_at_any_moment_leaves_nothing_half_done(quick, num_kills):
    case = quick
    case.promote("toy/1")
    started = time.monotonic()
    case.promote("toy/2")
    move_s = time.monotonic() - started
    chance = random.Random(num_kills)
    num_left = 0
    for number in range(num_kills):
        state = EnvironmentState.read(case.registry().log.head().states["toy.staging"])
        kind = "rollback" if number % 2 and state.previous else other_than_champion(case)
        kill_one(case, kind, chance.uniform(0, move_s))
        left = unfinished(case.registry(), "toy")
        before = len(case.actions())
        try:
            repaired = case.promote("toy/3").repaired
        except promotion.Refusal as refusal:
            # What it repaired made this version the champion, or another than it was compared with.
            repaired = refusal.repaired
        if left is not None:
            num_left += 1
            assert "killed" in repaired[0]
            assert len(case.actions()) - before in (1, 2)
        agree(case)
    print(f"{num_left} of {num_kills} kills left an intent")
    assert num_left


@pytest.mark.parametrize("kind", ["promote", "rollback"])
def test_a_kill_before_each_single_step_is_repaired(quick, kind, monkeypatch):
    """Every write of a move, one after the other, is the last thing that a process does not do."""
    case = quick
    case.promote("toy/1")
    case.promote("toy/2")
    for step in range(1, 12):
        asked = kind if kind == "rollback" else other_than_champion(case)
        if (code := _run_until(case, asked, step)) == 0:
            break
        assert code == -signal.SIGKILL
        told = promotion.repair_all(case.registry(), "toy")
        agree(case)
        assert len(told) == (step > 1), "before the intent there is nothing to repair, after it always"
        case.promote(other_than_champion(case))
        agree(case)
    assert step > 5
    agree(case)


def _run_until(case, kind: str, step: int) -> int | None:
    process = FORK.Process(target=_stop_before, args=(case, kind, step))
    process.start()
    process.join()
    return process.exitcode


def _stop_before(case, kind: str, step: int) -> None:
    """Runs a command whose process kills itself before its n-th write."""
    from mlflow import MlflowClient

    from pathoflow.stores.objects import LocalStore

    left = [step]

    def counted(function):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    for owner, names in (
        (LocalStore, ("put", "put_if_absent", "delete")),
        (
            MlflowClient,
            (
                "copy_model_version",
                "set_registered_model_alias",
                "delete_registered_model_alias",
                "set_registered_model_tag",
            ),
        ),
    ):
        for name in names:
            setattr(owner, name, counted(getattr(owner, name)))
    if kind == "rollback":
        promotion.roll_back(case.registry(), "toy", "staging", "")
    else:
        case.promote(kind)


def test_aliases_that_were_moved_by_hand_stop_everything_until_they_are_put_back(case):
    case.promote("toy/1")
    case.promote("toy/2")
    registry = case.registry()
    registry.client.set_registered_model_alias("toy.staging", "champion", "1")
    with pytest.raises(RefusedError, match="FAIL aliases: MLflow has champion 1"):
        case.promote("toy/3")
    with pytest.raises(RegistryError, match="aliases were moved by hand"):
        promotion.roll_back(case.registry(), "toy", "staging", "")
    [told] = promotion.repair_all(case.registry(), "toy")
    assert "were put back" in told
    agree(case)
    case.promote("toy/3")


def test_a_move_that_is_at_work_is_no_alias_moved_by_hand(case, monkeypatch):
    case.promote("toy/1")

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(intents, "_log", killed)
        with pytest.raises(KeyboardInterrupt):
            case.promote("toy/2")
    registry = case.registry()
    report = audit("toy.staging@champion", registry.places, check_trust=partial(check_trust, case.registry))
    told = {link.check: (link.verdict, link.detail) for link in report.problems}
    assert told["alias"][0] is Verdict.UNKNOWN
    assert "a move is at work" in told["alias"][1]
    gates = {gate.name: gate for gate in promotion.judge(registry, "toy/3", "staging", case.gates).gates}
    assert "is at work, or was killed half-way" in gates["aliases"].detail
    assert "finished" in promotion.repair_all(case.registry(), "toy")[0]
    agree(case)


def test_an_intent_that_no_registrar_signed_is_not_acted_on(case):
    case.promote("toy/1")
    registry = case.registry()
    registry.objects.put(f"intents/{intents.lock_name('toy')}.json", b'{"after": "mine"}')
    with pytest.raises(RegistryError, match="was not written by a command of pathoflow"):
        case.promote("toy/2")
    assert aliases_of(registry.client, "toy.staging") == (1, None)
