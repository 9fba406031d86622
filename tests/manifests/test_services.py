"""PostgreSQL's first start, MLflow and the backup as their pods run them, and the runbook's blocks as they stand."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import urllib3

from pathoflow.contract.code import REPOSITORY
from pathoflow.stores.objects.bucket import connect
from pathoflow.system.processes import die_with_parent
from tests.manifests import runbook
from tests.manifests.pods import Pod, pods_of
from tests.manifests.rendering import rendered
from tests.support.s3_server import BUCKET, S3Server, free_port, s3_server
from tools.mlflow_server import postgres_programs

SECRETS = {
    "POSTGRES_PASSWORD": "the superuser's",
    "MLFLOW_PASSWORD": "it's mlflow's",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "the-administrators-own",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "signs sessions",
}


def pod_of(where: str, overlay: str = "single-gpu") -> Pod:
    return next(pod for pod in pods_of(rendered(overlay)) if pod.where.startswith(where))


def config_of(prefix: str, key: str) -> str:
    """A file that a pod mounts."""
    (found,) = [
        t for t in rendered("single-gpu") if t["kind"] == "ConfigMap" and t["metadata"]["name"].startswith(prefix)
    ]
    text: str = found["data"][key]
    return text


def environment_of(container: dict[str, Any], s3: S3Server) -> dict[str, str]:
    """A container's variables, with the secrets and nothing of this process but what finds its programs."""
    known = SECRETS | s3.environment
    values = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "OMP_NUM_THREADS") if name in os.environ}
    for entry in container["env"]:
        values[entry["name"]] = entry.get("value") or known[entry["valueFrom"]["secretKeyRef"]["key"]]
    return values | {name: s3.endpoint for name in ("AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL") if name in values}


@dataclass
class Database:
    """A PostgreSQL server, which asks for passwords by TCP and trusts its socket, as in its pod."""

    sockets: Path
    port: int

    def psql(self, database: str, query: str) -> list[str]:
        command = ["psql", "-h", str(self.sockets), "-p", str(self.port), "-U", "postgres", "-Atc", query, database]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@contextmanager
def database(folder: Path) -> Iterator[Database]:
    """A new server on which the shipped `init.sh` has run."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    folder.mkdir()
    user = "postgres" if os.geteuid() == 0 else None
    if user:
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    (container,) = pod_of("StatefulSet/").spec["containers"]
    variables = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    port, data = free_port(), folder / "data"
    options = variables["POSTGRES_INITDB_ARGS"].split()
    make = [str(programs / "initdb"), "-D", str(data), "-U", variables["POSTGRES_USER"], *options]
    subprocess.run(make, user=user, check=True, capture_output=True, cwd="/")
    serve = [str(programs / "postgres"), "-D", str(data), "-k", str(folder), "-h", "127.0.0.1", "-p", str(port)]
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        server = subprocess.Popen(serve, user=user, cwd="/", stdout=log, stderr=log, preexec_fn=die_with_parent)  # noqa: PLW1509
    try:
        made = Database(folder, port)
        socket = {"PGHOST": str(folder), "PGPORT": str(port)}
        probe = container["readinessProbe"]["exec"]["command"]
        while subprocess.run(probe, env=os.environ | socket, check=False).returncode:
            time.sleep(0.05)
        script = folder.parent / f"{folder.name}.sh"
        script.write_text(config_of("pathoflow-postgres-init", "init.sh"))
        environment = os.environ | socket | SECRETS | {"POSTGRES_USER": variables["POSTGRES_USER"]}
        subprocess.run(["sh", str(script)], env=environment, check=True, capture_output=True)
        yield made
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    # PostgreSQL runs as a user of its own, who may not enter pytest's folders.
    with tempfile.TemporaryDirectory(prefix="pathoflow-manifests-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def s3(root: Path) -> Iterator[S3Server]:
    with s3_server(root / "s3") as server:
        yield server


@pytest.fixture(scope="module")
def filled(root: Path) -> Iterator[Database]:
    with database(root / "postgres") as made:
        yield made


@dataclass
class Mlflow:
    """MLflow as its pod runs it."""

    port: int

    def get(self, path: str, host: str, login: str | None = None, **more: Any) -> int:
        headers = {"Host": host, **(urllib3.make_headers(basic_auth=login) if login else {})}
        url = f"http://127.0.0.1:{self.port}{path}"
        method = "POST" if more else "GET"
        return urllib3.request(method, url, headers=headers, retries=False, timeout=30, **more).status


@pytest.fixture(scope="module")
def mlflow(root: Path, filled: Database, s3: S3Server) -> Iterator[Mlflow]:
    pod, port = pod_of("Deployment/pathoflow-mlflow"), free_port()

    def here(text: str) -> str:
        for there, local in (
            ("pathoflow-postgres:5432", f"127.0.0.1:{filled.port}"),
            ("--host=0.0.0.0", "--host=127.0.0.1"),
            ("--port=5000", f"--port={port}"),
            ("/etc/mlflow", str(root)),
        ):
            text = text.replace(there, local)
        return text

    (root / "auth.ini").write_text(here(config_of("pathoflow-mlflow-logins", "auth.ini")))
    (migrate,), (serve,) = pod.spec["initContainers"], pod.spec["containers"]
    for container, run in ((migrate, subprocess.run), (serve, subprocess.Popen)):
        variables = {name: here(value) for name, value in environment_of(container, s3).items()}
        words = [*container["command"][1:], *container["args"]]
        words = [re.sub(r"\$\((\w+)\)", lambda found, v=variables: v[found[1]], here(word)) for word in words]
        with (root / "mlflow.log").open("ab") as log:
            process = run(
                [sys.executable, *words], env=variables, cwd=root, stdout=log, stderr=log, start_new_session=True
            )
    try:
        made, deadline = Mlflow(port), time.monotonic() + 120
        probe = serve["readinessProbe"]["httpGet"]["path"]
        while True:
            try:
                # The kubelet names the pod's address, which is no allowed host.
                assert made.get(probe, "10.0.0.7:5000") == 200
                break
            except urllib3.exceptions.HTTPError:
                assert process.poll() is None, (root / "mlflow.log").read_text()[-3000:]
                assert time.monotonic() < deadline
                time.sleep(0.2)
        yield made
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


SEARCH = "/api/2.0/mlflow/experiments/search?max_results=5"
ADMIN = f"admin:{SECRETS['MLFLOW_AUTH_ADMIN_PASSWORD']}"
HOST = "pathoflow-mlflow.kubeflow.svc:5000"
RUNNER = {"MLFLOW_TRACKING_USERNAME": "runner", "MLFLOW_TRACKING_PASSWORD": "a-long-password"}


def test_mlflows_role_owns_its_databases_and_nothing_else(filled: Database) -> None:
    owners = "SELECT datname FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE rolname = 'mlflow' ORDER BY 1"
    assert filled.psql("postgres", owners) == ["auth", "mlflow"]
    rights = "SELECT rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication FROM pg_roles WHERE rolname = 'mlflow'"
    assert filled.psql("postgres", rights) == ["f"]
    # By TCP it takes the password, and no other.
    environment = os.environ | {"PGHOST": "127.0.0.1", "PGPORT": str(filled.port), "PGUSER": "mlflow"}
    for password, expected in ((SECRETS["MLFLOW_PASSWORD"], 0), ("wrong", 2)):
        command = ["psql", "-Atc", "SELECT 1", "mlflow"]
        done = subprocess.run(command, env=environment | {"PGPASSWORD": password}, check=False, capture_output=True)
        assert done.returncode == expected, done.stderr


def test_mlflow_answers_those_who_log_in_by_a_name_that_is_allowed(mlflow: Mlflow) -> None:
    assert mlflow.get(SEARCH, HOST, ADMIN) == 200
    assert mlflow.get(SEARCH, "localhost:5000", ADMIN) == 200
    assert mlflow.get(SEARCH, HOST) == 401
    assert mlflow.get(SEARCH, HOST, "admin:password1234") == 401
    assert mlflow.get(SEARCH, "evil.example:5000", ADMIN) == 403


def test_the_pipelines_login_sees_nothing_but_what_it_makes(mlflow: Mlflow, filled: Database, root: Path) -> None:
    folder = root / "checkout"
    secrets = folder / "manifests" / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "pathoflow-mlflow.env").write_text("".join(f"{key}={value}\n" for key, value in RUNNER.items()))
    (secrets / "pathoflow-mlflow-server.env").write_text(f"MLFLOW_AUTH_ADMIN_PASSWORD={ADMIN.partition(':')[2]}\n")
    run_block("login", folder, PORT=str(mlflow.port))
    login = ":".join(RUNNER.values())
    create = "/api/2.0/mlflow/experiments/create"
    assert mlflow.get(create, HOST, ADMIN, json={"name": "others"}) == 200
    assert mlflow.get(create, HOST, login, json={"name": "runs"}) == 200
    lines = filled.psql("mlflow", "SELECT name || '=' || experiment_id FROM experiments")
    found = dict(line.split("=") for line in lines)
    seen = {
        name: mlflow.get(f"/api/2.0/mlflow/experiments/get?experiment_id={number}", HOST, login)
        for name, number in found.items()
    }
    assert (seen["runs"], seen["others"]) == (200, 403)
    kept = filled.psql("mlflow", "SELECT artifact_location FROM experiments WHERE name = 'runs'")
    assert kept[0].startswith("s3://pathoflow-models/mlflow/")


KUBECTL = """#!/bin/sh
# Stands for kubectl: runs the command of `exec` here, with PostgreSQL's socket where it is in the pod.
while [ $# -gt 0 ]; do
  case "$1" in
    scale) echo "$@" >> "$CALLS"; exit 0 ;;
    port-forward) exit 0 ;;
    --) shift; exec "$@" ;;
    *) shift ;;
  esac
done
exit 1
"""


CURL = """#!/bin/sh
# Stands for the port-forward.
exec /usr/bin/curl --connect-to "localhost:5000:127.0.0.1:$PORT" "$@"
"""


def run_block(name: str, folder: Path, **variables: str) -> None:
    """Runs a block of the runbook with a `kubectl` that reaches into this machine's PostgreSQL."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    for program, text in (("kubectl", KUBECTL), ("curl", CURL)):
        (programs / program).write_text(text)
        (programs / program).chmod(0o755)
    path = f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    runbook.run(name, folder, PATH=path, NAMESPACE="n", CALLS=str(folder / "calls"), **variables)


def contents(server: Database) -> list[list[str]]:
    return [
        server.psql("mlflow", "SELECT name || ':' || artifact_location FROM experiments ORDER BY 1"),
        server.psql("mlflow", "SELECT version_num FROM alembic_version"),
        server.psql("auth", "SELECT username || ':' || password_hash FROM users ORDER BY 1"),
        server.psql("mlflow", "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"),
    ]


def test_what_the_runbook_dumps_it_restores_into_a_new_server(mlflow: Mlflow, filled: Database, root: Path) -> None:
    if not filled.psql("mlflow", "SELECT 1 FROM experiments WHERE name = 'kept'"):
        assert mlflow.get("/api/2.0/mlflow/experiments/create", HOST, ADMIN, json={"name": "kept"}) == 200
    run_block("dump", root, PGHOST=str(filled.sockets), PGPORT=str(filled.port))
    with database(root / "new") as new:
        where = {"PGHOST": str(new.sockets), "PGPORT": str(new.port)}
        # The second time into a server that holds all this already.
        for _ in range(2):
            run_block("restore", root, **where)
            assert contents(new) == contents(filled)
        assert (root / "calls").read_text().count("replicas=0") == 2
        # A dump that was changed is refused before anything is touched.
        (root / "backup" / "auth.dump").write_bytes(b"x")
        with pytest.raises(AssertionError, match="WARNING: 1 computed checksum did NOT match"):
            run_block("restore", root, **where)
        assert contents(new) == contents(filled)


def test_the_nightly_backup_can_be_restored(mlflow: Mlflow, filled: Database, s3: S3Server, root: Path) -> None:
    spec = pod_of("CronJob/").spec
    (dump,), (upload,) = spec["initContainers"], spec["containers"]
    (root / "dumps").mkdir()
    script = dump["args"][0].replace("/dumps", str(root / "dumps"))
    variables = environment_of(dump, s3) | {"PGHOST": "127.0.0.1", "PGPORT": str(filled.port)}
    done = subprocess.run([*dump["command"], script], env=variables, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    variables = environment_of(upload, s3) | {"BACKUP_BUCKET": f"{BUCKET}/postgres", "PYTHONPATH": str(REPOSITORY)}
    words = [word.replace("/dumps", str(root / "dumps")) for word in upload["args"]]
    words = [word.replace("$(BACKUP_BUCKET)", variables["BACKUP_BUCKET"]) for word in words]
    command = [sys.executable, *upload["command"][1:], *words]
    done = subprocess.run(command, env=variables, check=True, capture_output=True, text=True, cwd=root)
    (kept,) = (s3.folder / BUCKET / "postgres").iterdir()
    assert done.stdout.strip() == f"s3://{BUCKET}/postgres/{kept.name}"
    (root / "fetched").mkdir()
    (root / "fetched" / "backup").symlink_to(kept)
    with database(root / "fresh") as new:
        run_block("restore", root / "fetched", PGHOST=str(new.sockets), PGPORT=str(new.port))
        assert contents(new) == contents(filled)


def test_buckets_are_copied_as_the_runbook_says(s3: S3Server, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in s3.environment.items():
        monkeypatch.setenv(key, value)
    client, _ = connect()
    for name in ("data", "models"):
        client.make_bucket(f"pathoflow-{name}")
        client.put_object(f"pathoflow-{name}", "dvc/object", BytesIO(name.encode()), len(name))
    (root / "elsewhere").mkdir()
    login = s3.environment
    run_block(
        "buckets",
        root,
        RCLONE_CONFIG_STORE_TYPE="s3",
        RCLONE_CONFIG_STORE_PROVIDER="Other",
        RCLONE_CONFIG_STORE_ENDPOINT=s3.endpoint,
        RCLONE_CONFIG_STORE_ACCESS_KEY_ID=login["AWS_ACCESS_KEY_ID"],
        RCLONE_CONFIG_STORE_SECRET_ACCESS_KEY=login["AWS_SECRET_ACCESS_KEY"],
        RCLONE_CONFIG_ELSEWHERE_TYPE="alias",
        RCLONE_CONFIG_ELSEWHERE_REMOTE=str(root / "elsewhere"),
    )
    for name in ("data", "models"):
        assert (root / "elsewhere" / f"pathoflow-{name}" / "dvc" / "object").read_text() == name
