"""What `kubectl kustomize` makes of an overlay, and of an overlay whose parameters were changed."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pathoflow.cluster.settings import PARAMETERS_FILE
from pathoflow.contract.code import REPOSITORY

MANIFESTS = REPOSITORY / "manifests"
OVERLAYS = ("local", "single-gpu", "multi-node", "openshift")

Object = dict[str, Any]


@cache
def rendered(overlay: str) -> list[Object]:
    """The objects of an overlay as it is shipped; do not change them."""
    return render(MANIFESTS / "overlays" / overlay)


def shipped(kind: str, name: str, namespace: str) -> Object:
    """An object of the overlay `multi-node`, for another namespace."""
    (found,) = [made for made in rendered("multi-node") if (made["kind"], made["metadata"]["name"]) == (kind, name)]
    made: Object = found | {"metadata": found["metadata"] | {"namespace": namespace}}
    if "subjects" in made:
        made["subjects"] = [subject | {"namespace": namespace} for subject in made["subjects"]]
    return made


def kubectl() -> Path:
    """The program of the virtual environment; one of the system may be too old to know components."""
    return Path(sysconfig.get_path("scripts")) / "kubectl"


def render(folder: Path) -> list[Object]:
    """The objects of a kustomization."""
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.load_all(done.stdout, yaml.CSafeLoader) if document]


def render_with(overlay: str, parameters: dict[str, str], folder: Path) -> list[Object]:
    """The objects of an overlay with other parameters, from a copy of the manifests in `folder`."""
    shutil.copytree(MANIFESTS, folder)
    path = folder / "overlays" / overlay / PARAMETERS_FILE
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["data"] |= parameters
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return render(path.parent)


def parameters(overlay: str) -> dict[str, str]:
    """The parameters of an overlay as kustomize sees them."""
    path = MANIFESTS / "overlays" / overlay / PARAMETERS_FILE
    data: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8"))["data"]
    return data


def name_of(thing: Object) -> str:
    """`Kind/name`, for messages."""
    return f"{thing['kind']}/{thing['metadata']['name']}"
