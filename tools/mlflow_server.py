"""Starts MLflow as a team would run it: PostgreSQL, logins, checked host names, no pickle, no job execution.

`make mlflow-up`, or `python -m tools.mlflow_server --dir runs/mlflow-server`: it needs Debian's `postgresql` package,
and ends both servers on Ctrl-C. The data stay in the directory, with the administrator's password in
`admin.password`.
"""

from __future__ import annotations

import argparse
import configparser
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pathoflow.errors import InputError
from pathoflow.system.processes import die_with_parent

ADMIN = "admin"
_START_S = 120.0


@dataclass(frozen=True)
class MlflowServer:
    """A running MLflow server and its administrator's login."""

    url: str
    username: str
    password: str

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of a client."""
        return {
            "MLFLOW_TRACKING_URI": self.url,
            "MLFLOW_TRACKING_USERNAME": self.username,
            "MLFLOW_TRACKING_PASSWORD": self.password,
        }


def postgres_programs() -> Path | None:
    """The folder with PostgreSQL's newest `initdb` and `postgres`, if they are installed."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    return max((path for path in found if (path / "postgres").exists()), key=str, default=None)


@contextmanager
def postgres(directory: Path) -> Iterator[str]:
    """Runs PostgreSQL with its data in `directory`, on a socket there and on no port; yields its SQLAlchemy URL.

    Root hands the directory to the system's user `postgres`, since the server refuses to run as root.

    Raises:
        InputError: PostgreSQL is not installed, or cannot use the directory.
    """
    # Its processes run elsewhere.
    directory = directory.resolve()
    programs = postgres_programs()
    if programs is None:
        raise InputError("PostgreSQL is not installed. On Debian: apt-get install postgresql.")
    user = "postgres" if os.geteuid() == 0 else None
    directory.mkdir(parents=True, exist_ok=True)
    # PostgreSQL trusts whoever reaches its socket, so that nobody else may.
    directory.chmod(0o700)
    if user:
        account = pwd.getpwnam(user)
        for path in (directory, *directory.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid)
    data = directory / "data"
    with (directory / "postgres.log").open("ab") as log:
        if not (data / "PG_VERSION").is_file():
            make = [str(programs / "initdb"), "-D", str(data), "-U", "mlflow", "-E", "UTF8", "--auth", "trust"]
            if subprocess.run(make, user=user, check=False, stdout=log, stderr=log, cwd="/").returncode:
                raise InputError(
                    f"PostgreSQL cannot make a database in {data}; {log.name} says why. May its user "
                    f"({user or 'you'}) enter the folders above? Another --dir helps if not."
                )
        command = [str(programs / "postgres"), "-D", str(data), "-k", str(directory), "-c", "listen_addresses="]
        server = _start(command, log, user=user, environment=dict(os.environ))
    try:
        _wait(lambda: _accepts(str(directory)), server, directory / "postgres.log")
        _create_databases(str(directory))
        yield f"postgresql+psycopg2://mlflow@/mlflow?host={directory}"
    finally:
        # A fast shutdown: PostgreSQL's own word for it.
        _stop(server, signal.SIGINT)


@contextmanager
def mlflow_server(directory: Path, database: str, port: int, artifacts: str) -> Iterator[MlflowServer]:
    """Runs MLflow on `port` of this machine.

    Args:
        directory: Keeps the log, the secrets and the configuration of the logins.
        database: SQLAlchemy URL of a PostgreSQL database; the logins are kept in `auth` beside it.
        port: Where it listens, on 127.0.0.1.
        artifacts: An `s3://` URL, which clients then use directly, or a folder, which the server serves.
    """
    directory.mkdir(parents=True, exist_ok=True)
    password, secret = _secret(directory / "admin.password"), _secret(directory / "flask.secret")
    logins = configparser.ConfigParser(interpolation=None)
    logins["mlflow"] = {
        "default_permission": "NO_PERMISSIONS",
        "database_uri": database.replace("/mlflow?", "/auth?"),
        "admin_username": ADMIN,
        # A password's slow hash would be most of each request's time; a change of it empties the cache.
        "auth_cache_ttl_seconds": "60",
        "authorization_function": "mlflow.server.auth:authenticate_request_basic_auth",
    }
    with (directory / "auth.ini").open("w") as file:
        logins.write(file)
    hosts = ",".join(f"{name}:{port}" for name in ("127.0.0.1", "localhost"))
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--backend-store-uri", database]
    command += ["--host", "127.0.0.1", "--port", str(port), "--allowed-hosts", hosts, "--workers", "1"]
    if artifacts.startswith("s3://"):
        command += ["--default-artifact-root", artifacts, "--no-serve-artifacts"]
    else:
        command += ["--artifacts-destination", str(Path(artifacts).resolve())]
    environment = {
        **os.environ,
        "MLFLOW_AUTH_CONFIG_PATH": str((directory / "auth.ini").resolve()),
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secret,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    with (directory / "mlflow.log").open("ab") as log:
        server = _start(command, log, user=None, environment=environment)
    try:
        _wait(lambda: _listens(port), server, directory / "mlflow.log")
        yield MlflowServer(f"http://127.0.0.1:{port}", ADMIN, password)
    finally:
        _stop(server, signal.SIGTERM)


def main(arguments: Sequence[str] | None = None) -> None:
    """Starts both servers and stays until Ctrl-C."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dir", type=Path, default=Path("runs/mlflow-server"), help="Keeps data, logs and secrets.")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--artifacts", help="s3://bucket/prefix, or a folder. Default: below --dir.")
    options = parser.parse_args(arguments)
    artifacts = options.artifacts or str(options.dir / "artifacts")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with (
            postgres(options.dir / "postgres") as database,
            mlflow_server(options.dir, database, options.port, artifacts) as server,
        ):
            print(f"MLflow on {server.url} (Ctrl-C ends it). To use it:")
            print(f"  export MLFLOW_TRACKING_URI={server.url} MLFLOW_TRACKING_USERNAME={server.username}")
            print(f"  export MLFLOW_TRACKING_PASSWORD=$(cat {options.dir / 'admin.password'})", flush=True)
            signal.pause()
    except KeyboardInterrupt:
        pass
    except InputError as error:
        sys.exit(f"error: {error}")


def _accepts(sockets: str) -> bool:
    """Returns whether PostgreSQL takes connections: its socket is there before it does."""
    import psycopg2

    try:
        psycopg2.connect(host=sockets, user="mlflow", dbname="postgres").close()
    except psycopg2.OperationalError:
        return False
    return True


def _create_databases(sockets: str) -> None:
    import psycopg2

    connection = psycopg2.connect(host=sockets, user="mlflow", dbname="postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        for name in ("mlflow", "auth"):
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                cursor.execute(f"CREATE DATABASE {name}")
    connection.close()


def _secret(path: Path) -> str:
    """A secret that is made once and that only its owner can read."""
    if not path.is_file():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24))
    return path.read_text()


def _start(
    command: list[str], log: IO[bytes], *, user: str | None, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        user=user,
        env=environment,
        cwd="/",
        stdout=log,
        stderr=subprocess.STDOUT,
        # Neither outlives this process, however it ends.
        preexec_fn=die_with_parent,  # noqa: PLW1509
        start_new_session=True,
    )


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            tail = log.read_text(errors="replace")[-2000:]
            raise InputError(f"A server did not start. The end of {log}:\n{tail}")
        time.sleep(0.05)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _stop(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is None:
        # MLflow's workers are children of their own.
        os.killpg(process.pid, number)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


if __name__ == "__main__":
    main()
