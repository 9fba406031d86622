"""The blocks of shell commands in manifests/README.md that tests run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.manifests.rendering import MANIFESTS, kubectl


def block(name: str) -> str:
    """The block that follows `<!-- name -->`."""
    text = (MANIFESTS / "README.md").read_text(encoding="utf-8")
    found = re.search(rf"<!-- {name} -->\n```sh\n(.*?)```", text, re.DOTALL)
    assert found, name
    return found[1]


def run(name: str, folder: Path, **variables: str) -> str:
    """Runs a block in a folder, with the virtual environment's programs; returns what it says."""
    path = f"{kubectl().parent}:{os.environ['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", block(name)]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"PATH": path} | variables, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
