"""Writes the bill of materials of an image (CycloneDX 1.6): its Python packages, and what its base brings.

Usage: sbom.py IMAGE PYTHON PYPROJECT OUT
"""

import json
import platform
import subprocess
import sys
from pathlib import Path

from packageurl import PackageURL

SYSTEM = Path("/src/system.tsv")
"""What `packages.sh` found in the base."""


def main(image: str, python: str, pyproject: str, out: str) -> None:
    """Writes the bill of the environment that `python` belongs to, and of the system that this runs in."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--spec-version", "1.6"]
    command += ["--pyproject", pyproject, "--mc-type", "application", "--output-file", out, python]
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(command, check=True)
    bill = json.loads(Path(out).read_text())
    bill["metadata"]["component"]["name"] = image
    bill["components"] += [component(kind, *rest) for kind, *rest in (interpreter(), *system_packages())]
    Path(out).write_text(json.dumps(bill, indent=1, sort_keys=True) + "\n")


def interpreter() -> tuple[str, str, str, dict[str, str]]:
    """The Python that the packages run in; an official image compiles its own, which no package list names."""
    return "generic", "python", platform.python_version(), {}


def system_packages() -> list[tuple[str, str, str, dict[str, str]]]:
    """The base's Debian packages; none where the base is no Debian."""
    if not SYSTEM.is_file():
        return []
    rows = (line.split("\t") for line in SYSTEM.read_text().splitlines())
    return [("deb/debian", name, version, {"arch": architecture}) for name, version, architecture in sorted(rows)]


def component(kind: str, name: str, version: str, qualifiers: dict[str, str]) -> dict[str, str]:
    """One component, whose package URL is its identity."""
    family, _, namespace = kind.partition("/")
    address = PackageURL(family, namespace or None, name, version, qualifiers).to_string()
    return {"type": "library", "bom-ref": address, "name": name, "version": version, "purl": address}


if __name__ == "__main__":
    main(*sys.argv[1:])
