"""Containers as a cluster runs them: a number for a user, nothing to write on but /tmp and /work, no privilege."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from pathoflow.contract.code import REPOSITORY

WRITABLE = {"/tmp": "mode=1777,size=2g", "/work": "mode=1777,size=4g"}
"""What a pod's emptyDir volumes are on a cluster."""
RESTRICTED = (
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    *(f"--tmpfs={path}:{options}" for path, options in WRITABLE.items()),
)

TAG = "test"


def build(kind: str, out: Path, **more: str) -> str:
    """Builds an image as `make images` does; BASE, CA, WHEELS and the like come from the environment."""
    settings = {"IMAGES": kind, "ACCELERATOR": "cpu", "TAG": TAG, "REGISTRY": "", "PUSH": "", "OUT": str(out), **more}
    done = subprocess.run(
        [str(REPOSITORY / "images" / "build")],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-8000:]}"
    print(done.stdout)
    return f"pathoflow-{kind}:{settings['TAG']}"


def docker(*arguments: str, timeout_s: float = 120) -> str:
    """What a `docker` command prints; fails the test, with its words, where it fails."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def options(
    *, network: str = "none", mounts: Mapping[Path, str] | None = None, environment: Mapping[str, str] | None = None
) -> list[str]:
    """The options of `docker run` for a restricted container; mounts are host folder: path inside."""
    found = [*RESTRICTED, f"--network={network}"]
    if network == "none":
        # In a pod a name resolves to itself; without a network nothing resolves the name that Docker makes up.
        found.append("--hostname=localhost")
    for host, inside in (mounts or {}).items():
        if inside in WRITABLE:
            found.remove(f"--tmpfs={inside}:{WRITABLE[inside]}")
        found.append(f"--volume={host}:{inside}")
    return found + [f"--env={name}={value}" for name, value in (environment or {}).items()]


def run(image: str, *command: str, more: tuple[str, ...] = (), timeout_s: float = 120, **settings) -> str:
    """Runs a command in a restricted container and returns what it prints."""
    return docker("run", "--rm", *options(**settings), *more, image, *command, timeout_s=timeout_s)


class Container:
    """A restricted container that runs in the background."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def running(self) -> bool:
        return docker("inspect", "--format={{.State.Running}}", self.name).strip() == "true"

    @property
    def exit_code(self) -> int:
        return int(docker("inspect", "--format={{.State.ExitCode}}", self.name))

    def logs(self) -> str:
        done = subprocess.run(["docker", "logs", self.name], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def wait_until(self, ready, what: str, timeout_s: float = 120) -> None:
        deadline = time.monotonic() + timeout_s
        while not ready():
            assert self.running, f"ended with {self.exit_code} before {what}:\n{self.logs()[-6000:]}"
            assert time.monotonic() < deadline, f"no {what} after {timeout_s} s:\n{self.logs()[-6000:]}"
            time.sleep(0.1)


@contextmanager
def background(image: str, *command: str, **settings) -> Iterator[Container]:
    """Starts a restricted container and removes it in the end."""
    name = f"pathoflow-test-{uuid4().hex[:8]}"
    docker("run", "--detach", f"--name={name}", *options(**settings), image, *command)
    try:
        yield Container(name)
    finally:
        docker("rm", "--force", name)
