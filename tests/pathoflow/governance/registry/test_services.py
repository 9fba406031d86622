"""The registry on a team's services: MLflow over HTTP on PostgreSQL, all bytes and the log on S3, faults on the way."""

from __future__ import annotations

import base64
import json
import os
import signal
import urllib.error
import urllib.request

import psutil
import pytest

from pathoflow.contract.sealing import read_manifest
from pathoflow.governance.registry import intents
from pathoflow.governance.registry.access import Registry
from pathoflow.governance.registry.aliases import aliases_of
from pathoflow.governance.registry.intents import unfinished
from pathoflow.governance.registry.verification import find_version, verified_manifest
from pathoflow.governance.signing import file_digests
from pathoflow.stores.objects import bucket as bucket_module
from tests.pathoflow.governance.registry.team import Team, agree, both_pass, kill_at_random, promote_at_once
from tests.support.s3_server import BUCKET, Fault
from tests.support.services import team_services
from tools.mlflow_server import mlflow_server


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    with team_services(conditional=True) as services:
        yield Team(services, tmp_path_factory.mktemp("team"))


@pytest.fixture
def registry(team, monkeypatch) -> Registry:
    for name, value in team.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(bucket_module, "_FIRST_PAUSE_S", 0.01)
    return Registry.from_environment()


@pytest.fixture(autouse=True)
def no_faults(team):
    yield
    team.services.s3.faults.clear()


def test_from_registration_to_prod_by_the_command_line(team, registry):
    done = team.run("promote", "toy/1", "--to", "staging", "--dry-run", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["verdict"] == "PASS"
    assert aliases_of(registry.client, "toy.staging") == (None, None)
    done = team.run("promote", "toy/1", "--to", "staging")
    assert done.returncode == 0, done.stdout + done.stderr
    done = team.run("promote", "toy/1", "--to", "prod")
    assert done.returncode == 9, done.stdout + done.stderr
    assert "0 of 1" in done.stdout
    done = team.run("approve", "toy/1", "--key", str(team.root / "approver.key"), "--comment", "read the dossier")
    assert done.returncode == 0, done.stdout + done.stderr
    done = team.run("promote", "toy/1", "--to", "prod")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "toy.prod/1 is served" in done.stdout
    agree(registry)
    done = team.run("registry")
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("toy.prod", "champion", "bert", "promote"):
        assert words in done.stdout
    done = team.run("log", "verify")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "If-None-Match" in done.stdout
    target = team.root / "served"
    done = team.run("fetch", "toy.prod@champion", "--out", str(target))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (target / "model" / "weights.bin").stat().st_size == 64


def test_tampered_bytes_are_served_to_nobody(team, registry):
    """MLflow hands them out without a word; fetch does not, and neither does a promotion pass."""
    stored = (team.services.s3.folder / "registry" / "mlflow").rglob("weights.bin")
    [weights] = [path for path in stored if path.stat().st_size == 128]
    good = weights.read_bytes()
    try:
        weights.write_bytes(bytes([good[0] ^ 1]) + good[1:])
        done = team.run("fetch", "toy.dev/2", "--out", str(team.root / "tampered"))
        assert done.returncode == 8, done.stdout + done.stderr
        assert "weights.bin was changed" in done.stderr
        assert not list(team.root.glob("*tampered*"))
        done = team.run("promote", "toy/2", "--to", "staging")
        assert done.returncode == 9, done.stdout + done.stderr
        assert "weights.bin was changed" in done.stdout
    finally:
        weights.write_bytes(good)
    agree(registry)


def test_the_store_fails_in_the_middle_of_a_promotion(team, registry):
    """For good: the command says so, nothing half done counts, and the next one repairs."""
    before = aliases_of(registry.client, "toy.staging")
    for kind, text in (("503", "log-head"), ("reset", "log/0000"), ("wrong", "intents/")):
        method = "GET" if kind == "wrong" else "PUT"
        team.services.s3.faults.append(Fault(kind, method, text, count=100))
        done = team.run("promote", "toy/2", "--to", "staging")
        assert done.returncode == 10, (kind, done.stdout, done.stderr)
        assert "tries" in done.stderr
        team.services.s3.faults.clear()
        done = team.run("registry", "--repair")
        assert done.returncode == 0, done.stdout + done.stderr
        agree(registry)
        assert unfinished(registry, "toy") is None
        if aliases_of(registry.client, "toy.staging") != before:
            assert team.run("rollback", "toy", "--environment", "staging").returncode == 0
            agree(registry)


def test_passing_faults_are_got_over(team, registry):
    team.services.s3.faults += [Fault(kind, "*", "registry/", count=1) for kind in ("503", "reset", "slow", "wrong")]
    done = team.run("promote", "toy/2", "--to", "staging")
    assert done.returncode == 0, done.stdout + done.stderr
    agree(registry)


def test_a_recent_audit_is_not_believed_once_an_object_was_written_again(team, registry):
    """Bytes of equal length, in a model and in its training data: the store's own checksum and time tell."""
    both_pass(team)
    asked = ("promote", "toy/1", "--to", "staging", "--dry-run", "--json", "--gates", str(team.root / "lenient.yaml"))
    assert team.run(*asked).returncode == 0
    again = json.loads(team.run(*asked).stdout)
    [lineage] = [gate["detail"] for gate in again["gates"] if gate["gate"] == "lineage"]
    assert "unchanged since" in lineage
    stored = team.services.s3.folder / "registry"
    weights = next(path for path in (stored / "mlflow").rglob("weights.bin") if path.stat().st_size == 64)
    shard = next(path for path in (stored / "dvc").rglob("*") if path.is_file() and path.read_bytes()[:4] == b"PAR1")
    for path in (weights, shard):
        good = path.read_bytes()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        done = team.run(*asked)
        path.write_bytes(good)
        assert done.returncode == 9, path
        assert any(
            gate["verdict"] == "FAIL" and path.name in gate["detail"] for gate in json.loads(done.stdout)["gates"]
        )


def test_many_promotions_at_once_and_kills_on_real_services(team, registry):
    """A few of each; the full counts are in test_crowds.py."""
    before = len(registry.log.entries())
    told = promote_at_once(team, 3)
    assert sorted(told) == ["promote", "refuse", "refuse"]
    assert sorted(entry.action for entry in registry.log.entries(before)) == sorted(told)
    agree(registry)
    for kind in ("promote", "rollback"):
        kill_at_random(team, kind, 2)


def test_a_rollback_serves_the_earlier_bytes(team, registry):
    for version in ("toy/1", "toy/2"):
        team.run("promote", version, "--to", "staging")
    champion, previous = aliases_of(registry.client, "toy.staging")
    earlier = verified_manifest(registry, find_version(registry, f"toy.staging/{previous}"), with_bytes=True)
    assert team.run("rollback", "toy", "--environment", "staging").returncode == 0
    assert team.run("fetch", "toy.staging@champion", "--out", str(team.root / "back")).returncode == 0
    assert file_digests(read_manifest(team.root / "back")) == file_digests(earlier)
    assert aliases_of(registry.client, "toy.staging")[0] == previous != champion


def test_mlflow_goes_away(team, registry):
    done = team.run("registry", MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert done.returncode == 10, done.stdout + done.stderr
    assert "MLflow at http://127.0.0.1:9" in done.stderr
    done = team.run("registry", MLFLOW_TRACKING_PASSWORD="wrong")
    assert done.returncode == 10
    assert "Check user and password" in done.stderr
    for name in ("PATHOFLOW_REGISTRY", "PATHOFLOW_TRUSTED_KEYS"):
        done = team.run("registry", **{name: ""})
        assert done.returncode == 2
        assert f"{name} is not set" in done.stderr


def test_the_server_is_hardened(team):
    url = team.services.mlflow.url

    def asked(host: str, login: bool) -> int:
        mlflow = team.services.mlflow
        request = urllib.request.Request(f"{url}/api/2.0/mlflow/registered-models/search", headers={"Host": host})
        if login:
            secret = base64.b64encode(f"{mlflow.username}:{mlflow.password}".encode()).decode()
            request.add_header("Authorization", f"Basic {secret}")
        try:
            return urllib.request.urlopen(request).status
        except urllib.error.HTTPError as error:
            return error.code

    right = url.removeprefix("http://")
    assert asked(right, login=True) == 200
    assert asked(right, login=False) == 401
    assert asked("evil.example:5000", login=True) == 403
    assert (team.services.root / "mlflow" / "admin.password").stat().st_mode & 0o077 == 0
    # A user without permissions sees nothing.
    from mlflow.server import get_app_client

    admin = {"MLFLOW_TRACKING_USERNAME": team.services.mlflow.username}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (team.services.mlflow.environment | admin).items():
            patch.setenv(name, value)
        get_app_client("basic-auth", url).create_user("guest", "guest-password-1")
        patch.setenv("MLFLOW_TRACKING_USERNAME", "guest")
        patch.setenv("MLFLOW_TRACKING_PASSWORD", "guest-password-1")
        from mlflow import MlflowClient

        assert list(MlflowClient(url).search_registered_models()) == []


def test_mlflow_dies_in_the_middle_and_comes_back(team, registry, monkeypatch):
    """The last test: the server that it ends with is another one."""
    mlflow, root = team.services.mlflow, team.services.root
    port = int(mlflow.url.rpartition(":")[2])
    before = aliases_of(registry.client, "toy.staging")
    real = intents.set_aliases

    def killed(*arguments):
        listening = [one for one in psutil.net_connections("tcp") if one.laddr.port == port and one.status == "LISTEN"]
        os.killpg(os.getpgid(listening[0].pid), signal.SIGKILL)
        real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(intents, "set_aliases", killed)
        done = team.run("rollback", "toy", "--environment", "staging")
    assert done.returncode == 10, done.stdout + done.stderr
    assert "finished or taken back" in done.stderr
    database = f"postgresql+psycopg2://mlflow@/mlflow?host={root / 'postgres'}"
    with mlflow_server(root / "mlflow", database, port, f"s3://{BUCKET}/mlflow"):
        done = team.run("registry")
        assert done.returncode == 10
        assert "was killed half-way" in done.stdout
        done = team.run("registry", "--repair")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "was taken back" in done.stderr
        assert aliases_of(registry.client, "toy.staging") == before
        agree(registry)
        assert team.run("rollback", "toy", "--environment", "staging").returncode == 0
        agree(registry)
