"""The runbook says what is so."""

from __future__ import annotations

import re

import pytest

from pathoflow.cluster.settings import SECRET_KEYS, Cluster
from pathoflow.contract.code import REPOSITORY
from tests.manifests.policies import SECRETS
from tests.manifests.rendering import MANIFESTS, OVERLAYS

README = (MANIFESTS / "README.md").read_text(encoding="utf-8")


def rows(heading: str) -> dict[str, list[str]]:
    """The first table of a section, by its first column."""
    section = README.partition(f"\n## {heading}")[2].partition("\n## ")[0]
    lines = re.findall(r"(?m)^\| (.*) \|$", section)[1:]
    cells = [line.split(" | ") for line in lines]
    return {cell[0].strip("`"): cell[1:] for cell in cells}


def test_the_table_of_parameters_is_the_settings_own() -> None:
    assert rows("2. Parameters") == {name: [field.description] for name, field in Cluster.model_fields.items()}


def test_every_secret_is_told_and_has_an_example() -> None:
    told = set(re.findall(r"(?m)^\| `(pathoflow-[a-z-]+)`", README.partition("\n## 4.")[2].partition("\n## 5.")[0]))
    assert told == set(SECRETS)
    examples = {path.name.removesuffix(".env.example"): path for path in (MANIFESTS / "secrets").glob("*.env.example")}
    # A key of its own is made by `pathoflow keys new`.
    assert set(examples) == {name for name, keys in SECRETS.items() if "key.pem" not in keys}
    for name, path in examples.items():
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        assert lines == [f"{key}=" for key in SECRETS[name]], path
    assert set(SECRET_KEYS) <= set(SECRETS)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_is_told(overlay: str) -> None:
    assert f"| `{overlay}` |" in README


def test_what_it_names_is_there() -> None:
    for name in re.findall(r"`(components/[a-z-]+)`", README):
        assert (MANIFESTS / name / "kustomization.yaml").is_file(), name
    for link in re.findall(r"\]\((\.\./[^)#]+)\)", README):
        assert (MANIFESTS / link).is_file(), link
    used = {
        line.rpartition("/")[2]
        for overlay in OVERLAYS
        for line in (MANIFESTS / "overlays" / overlay / "kustomization.yaml").read_text(encoding="utf-8").splitlines()
        if "components/" in line
    }
    assert used == {path.name for path in (MANIFESTS / "components").iterdir()}


def test_secrets_that_are_filled_in_stay_out_of_git() -> None:
    assert "/manifests/secrets/*.env" in (REPOSITORY / ".gitignore").read_text(encoding="utf-8").splitlines()
