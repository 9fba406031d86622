"""A team at work: two registered versions on real services, a command line that uses them, and many of them at once."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from typer.testing import CliRunner

from pathoflow.cli import app
from pathoflow.contract.workdir import WorkDir
from pathoflow.errors import PathoflowError, RefusedError
from pathoflow.governance.registry import promotion
from pathoflow.governance.registry.access import Registry
from pathoflow.governance.registry.aliases import EnvironmentState, aliases_of
from pathoflow.governance.registry.intents import ABANDONED_TAG, unfinished
from pathoflow.governance.registry.policy import Gates, load_gates
from pathoflow.governance.signing import PublicKey, TrustedKeys, make_key
from tests.support.lineage.registered import commit_of, make_books, make_repository, run_pipeline

FORK = multiprocessing.get_context("fork")
GATES = """
staging:
  thresholds: {accuracy_rl: {at_least: 0.5}}
  no_regression: {margin: 0.08}
prod:
  thresholds: {accuracy_rl: {at_least: 0.5}}
  no_regression: {margin: 0.08}
  num_approvals: 1
"""


class Team:
    """The services, with two registered versions, and a command line that uses them."""

    def __init__(self, services, root: Path) -> None:
        self.services, self.root = services, root
        self.registrar = make_key(root / "registrar.key", "ec")
        approver = make_key(root / "approver.key", "ed25519")
        TrustedKeys.add(services.root / "trusted", "registrar", self.registrar.public)
        TrustedKeys.add(services.root / "trusted", "approver", PublicKey("approver", "ed25519", approver.public.pem))
        (root / "gates.yaml").write_text(GATES)
        self.repository, books = make_repository(root), make_books(root)
        for number, values in enumerate(({"accuracy": 0.6}, {"accuracy": 0.7}), 1):
            workdir = WorkDir(root / f"work{number}")
            workdir.create()
            run_pipeline(
                workdir,
                books,
                commit_of(self.repository),
                environment=self.environment,
                rl={"num_bytes": 64 * number},
                vqa_benchmarks=values,
                register={"signing": "key"},
            )

    @property
    def environment(self) -> dict[str, str]:
        return {
            **self.services.environment,
            "PATHOFLOW_SIGNING_KEY": str(self.registrar.path),
            "PATHOFLOW_GATES": str(self.root / "gates.yaml"),
            "PATHOFLOW_ACTOR": "bert",
        }

    def run(self, *arguments: str, **environment: str) -> Done:
        """A command in this process, since each new one would import for seconds, and how it ended."""
        command = [*arguments, *(["--code", str(self.repository)] if arguments[0] == "promote" else [])]
        result = CliRunner().invoke(app, command, env={**self.environment, **environment})
        error = result.exception
        if isinstance(error, PathoflowError):
            return Done(error.exit_code, result.stdout, str(error))
        assert error is None or isinstance(error, SystemExit), result.exc_info
        return Done(result.exit_code, result.stdout, result.stderr)


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


def agree(registry: Registry) -> None:
    assert registry.log.verify().problems == []
    for name, state in registry.log.head().states.items():
        wanted = EnvironmentState.read(state)
        assert aliases_of(registry.client, name) == (wanted.champion, wanted.previous), name
    told: dict[Any, str] = {}
    for entry in registry.log.entries():
        told.setdefault(entry.details.get("version"), entry.action)
    for version in registry.client.search_model_versions("name = 'toy.staging'"):
        # A copy that came to nothing is marked, and the log knows it, too.
        assert (ABANDONED_TAG in version.tags) == (told[f"toy.staging/{version.version}"] == "repair")


def of_team(team: Team) -> Registry:
    """The registry by the environment of this process, which is the team's."""
    return replace(Registry.from_environment(), code=team.repository)


def both_pass(team: Team) -> Gates:
    """Gates that either version passes, whichever is the champion."""
    (team.root / "lenient.yaml").write_text(GATES.replace("no_regression: {margin: 0.08}", ""))
    return load_gates(str(team.root / "lenient.yaml"))


def promote_at_once(team: Team, num_promotions: int) -> list[str]:
    """Begins promotions to staging that are all compared with the same champion, and returns what came of each."""
    barrier, results = FORK.Barrier(num_promotions), FORK.Queue()
    gates = both_pass(team)

    def promote(number: int) -> None:
        judge = promotion.judge

        def judged_with_all_others(*arguments: Any) -> Any:
            judgement = judge(*arguments)
            barrier.wait()
            return judgement

        promotion.judge = judged_with_all_others
        try:
            promotion.promote(of_team(team), f"toy/{1 + number % 2}", "staging", gates)
            results.put("promote")
        except RefusedError:
            results.put("refuse")

    workers = [FORK.Process(target=promote, args=(number,)) for number in range(num_promotions)]
    for worker in workers:
        worker.start()
    told = [results.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    return told


def kill_at_random(team: Team, kind: str, num_kills: int) -> int:
    """Kills a command at random moments, each time sees the next command set all right, and counts what it had to.

    Args:
        team: Whose command.
        kind: `promote` or `rollback`.
        num_kills: How often.
    """
    gates, chance, num_left = both_pass(team), random.Random(num_kills), 0
    began = time.monotonic()
    work(team, "promote", gates)()
    took_s = time.monotonic() - began
    for _ in range(num_kills):
        if (
            kind == "rollback"
            and EnvironmentState.read(of_team(team).log.head().states["toy.staging"]).previous is None
        ):
            work(team, "promote", gates)()
        process = FORK.Process(target=work(team, kind, gates))
        process.start()
        time.sleep(chance.uniform(0, 1.1 * took_s))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        left = unfinished(of_team(team), "toy")
        done = team.run("registry", "--repair")
        assert done.returncode == 0, done.stdout + done.stderr
        if left is not None:
            num_left += 1
            assert "killed" in done.stderr
        assert unfinished(of_team(team), "toy") is None
        agree(of_team(team))
    return num_left


def work(team: Team, kind: str, gates: Gates) -> Callable[[], object]:
    """One command: a rollback, or the promotion of the version that is not the champion of staging."""
    registry = of_team(team)
    if kind == "rollback":
        return lambda: promotion.roll_back(of_team(team), "toy", "staging", "")
    champion, _ = aliases_of(registry.client, "toy.staging")
    source = registry.client.get_model_version("toy.staging", str(champion)).source if champion else ""
    asked = "toy/1" if source != "models:/toy.dev/1" else "toy/2"
    return lambda: promotion.promote(of_team(team), asked, "staging", gates)
