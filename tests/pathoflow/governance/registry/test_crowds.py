"""Twenty promotions at once and fifty kills, on real services: S3 with and without conditional writes."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

import pytest

from pathoflow.governance.audit import Verdict, audit
from pathoflow.governance.registry.access import Registry
from pathoflow.governance.registry.trust import check_trust
from tests.pathoflow.governance.registry.team import Team, agree, kill_at_random, of_team, promote_at_once
from tests.support.services import team_services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module", params=[True, False], ids=["conditional", "leases-alone"])
def team(request, tmp_path_factory):
    with team_services(conditional=request.param) as services, pytest.MonkeyPatch.context() as patch:
        team = Team(services, tmp_path_factory.mktemp("crowd"))
        for name, value in team.environment.items():
            patch.setenv(name, value)
        yield team


@pytest.fixture
def registry(team) -> Registry:
    return of_team(team)


def test_of_twenty_promotions_at_once_one_wins(team, registry):
    before = len(registry.log.entries())
    told = promote_at_once(team, 20)
    assert sorted(told) == ["promote"] + ["refuse"] * 19
    lines = registry.log.entries(before)
    assert sorted(entry.action for entry in lines) == sorted(told)
    assert len(lines) == 20
    agree(registry)


@pytest.mark.parametrize("kind", ["promote", "rollback"])
def test_fifty_kills_at_random_moments(team, kind):
    left = kill_at_random(team, kind, 50)
    print(f"{left} of 50 kills of a {kind} left an intent")
    assert left


def test_mlflows_own_clean_up_of_a_champion_is_detected(team, registry):
    """The last test of this module: the champion's weights are gone after it."""
    version = registry.client.get_model_version_by_alias("toy.staging", "champion")
    registry.client.delete_run(version.run_id)
    database = f"postgresql+psycopg2://mlflow@/mlflow?host={team.services.root / 'postgres'}"
    command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", database]
    command += ["--tracking-uri", team.services.mlflow.url]
    subprocess.run(command, check=True, capture_output=True, env=os.environ)
    assert registry.client.get_model_version_by_alias("toy.staging", "champion").status == "READY"
    report = audit("toy.staging@champion", registry.places, check_trust=partial(check_trust, lambda: registry))
    assert report.verdict is Verdict.UNKNOWN
    assert any(link.subject == "rl" for link in report.problems)
    done = team.run("fetch", "toy.staging@champion", "--out", str(team.root / "gone"))
    assert done.returncode != 0
    assert not (team.root / "gone").exists()
