"""Writes the packages of each image, pinned and with their hashes: `make image-locks`.

An image's `requirements.txt` holds the whole closure of its extras, for Linux on x86-64 and Python 3.11, at the
versions of `constraints.txt` wherever they can be had together. pip installs exactly these files, or none.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from pathoflow.contract.code import REPOSITORY
from pathoflow.errors import ConfigError

IMAGES = REPOSITORY / "images"
_HEADER = "# Made by `make image-locks` from pyproject.toml and constraints.txt. Do not edit.\n"
# The C library of Debian 12, which the base has.
_TARGET = ("--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_36")
_LEFT_OUT = (
    # rapidocr and rapid-layout ask for it; the headless build is the same module and needs no libGL.
    "opencv-python",
    # DeepSpeed compiles with it when it runs; an image has no compiler.
    "ninja",
)


_FROM_SOURCE = ("antlr4-python3-runtime", "deepspeed", "kfp-server-api")
"""Published without wheels, and of Python alone. Whatever else had to be built could need a compiler."""


@dataclass(frozen=True)
class Lock:
    """The requirements of one image.

    Attributes:
        extras: Of this project.
        more: Further requirements.
        keep: Packages that are installed although `_LEFT_OUT` lists them.
        project: Whether this project's own requirements belong to it.
    """

    extras: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    project: bool = True


LOCKS = {
    "cpu": Lock(("data", "slides", "s3", "registry", "server"), ("opencv-python-headless",)),
    "train": Lock(("train", "deepspeed", "s3", "registry")),
    # vLLM compiles kernels when it starts, and asks for ninja to do so. The version: the newest that TRL 1.16 takes and
    # that is built for the torch of constraints.txt.
    "rl": Lock(("train", "deepspeed", "s3", "registry"), ("vllm==0.28.0",), keep=("ninja",)),
    # What the images are built with; none of it is in them.
    "shared": Lock(more=("pip", "setuptools", "wheel", "hatchling", "editables", "cyclonedx-bom"), project=False),
}


def main() -> None:
    """Writes the lock of every image."""
    for image, lock in LOCKS.items():
        path = IMAGES / image / "requirements.txt"
        path.write_text(_HEADER + "".join(pinned(package) for package in resolve(lock)))
        print(path.relative_to(REPOSITORY), file=sys.stderr)


def resolve(lock: Lock) -> list[dict[str, Any]]:
    """The packages of a lock, as `pylock.toml` describes them (PEP 751)."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        wanted, overrides, pins = root / "wanted.in", root / "overrides.txt", root / "pins.txt"
        wanted.write_text("".join(f"{line}\n" for line in lock.more))
        overrides.write_text(
            "".join(f"{name} ; sys_platform == 'never'\n" for name in _LEFT_OUT if name not in lock.keep)
        )
        sources = [str(wanted)]
        if lock.project:
            sources += [str(REPOSITORY / "pyproject.toml"), *(f"--extra={extra}" for extra in lock.extras)]
        # An output file that exists is what uv prefers, so far as the requirements allow it.
        pins.write_text((REPOSITORY / "constraints.txt").read_text())
        _uv(*sources, "--override", str(overrides), "--output-file", str(pins))
        _uv(
            *sources,
            "--override",
            str(overrides),
            "--constraint",
            str(pins),
            "--output-file",
            str(root / "pylock.toml"),
        )
        packages: list[dict[str, Any]] = tomllib.loads((root / "pylock.toml").read_text())["packages"]
    found = [package for package in packages if "version" in package]
    if odd := [p["name"] for p in found if not p.get("wheels") and p["name"] not in _FROM_SOURCE]:
        raise ConfigError(f"{', '.join(odd)}: no wheel for the images' platform. Ask for another version in LOCKS.")
    return found


def pinned(package: dict[str, Any]) -> str:
    r"""The line of one package: its wheels for the images' platform, or its source where there is none.

    >>> wheel = {"url": "https://example.org/x-1-py3-none-any.whl", "hashes": {"sha256": "ab"}}
    >>> pinned({"name": "x", "version": "1", "wheels": [wheel]})
    'x==1 --hash=sha256:ab\n'
    """
    files = package.get("wheels") or [package["sdist"]]
    hashes = sorted(file["hashes"]["sha256"] for file in files)
    return (
        " ".join([f"{package['name']}=={package['version']}", *(f"--hash=sha256:{value}" for value in hashes)]) + "\n"
    )


def read_lock(path: Path) -> dict[str, str]:
    """The version of each package in an image's `requirements.txt`."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    required = [Requirement(line.split(" --hash")[0]) for line in lines]
    return {requirement.name: str(requirement.specifier).removeprefix("==") for requirement in required}


def _uv(*arguments: str) -> None:
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-annotate", "--no-header", "--native-tls"]
    subprocess.run([*command, *_TARGET, *arguments], check=True, cwd=REPOSITORY, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
