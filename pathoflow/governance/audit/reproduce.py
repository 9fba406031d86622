"""Runs a version's pipeline again from its recorded commit, configurations and sources, and compares what came out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from pathoflow.contract.sealing import Manifest, read_manifest
from pathoflow.errors import InputError, StageError
from pathoflow.governance.audit.places import Places
from pathoflow.governance.audit.report import AuditReport, Output

_RUN = "import sys; from pathoflow.cli import main; sys.argv[0] = 'pathoflow'; main()"


class Sameness(StrEnum):
    """The result of comparing a repeated output with the recorded one."""

    IDENTICAL = "bit-identical"
    WITHIN = "within tolerance"
    DIFFERENT = "different"
    MISSING = "not made"


@dataclass(frozen=True)
class Comparison:
    """One output, recorded and repeated.

    Attributes:
        stage: The stage.
        sameness: The verdict.
        num_same_files: Files with the recorded SHA-256.
        num_files: Files recorded.
        detail: What differs.
    """

    stage: str
    sameness: Sameness
    num_same_files: int
    num_files: int
    detail: str


def check_recorded(report: AuditReport, repository: Path) -> str:
    """Checks that the records suffice, and returns the commit to run from.

    Raises:
        InputError: The records do not suffice to repeat the version; says which and why.
    """
    lacking = [output.stage for output in report.outputs if output.manifest is None]
    if lacking or not report.outputs:
        raise InputError(
            f"{report.model}/{report.version} cannot be repeated: no sound manifest of {', '.join(lacking) or 'it'} "
            "was found. `pathoflow audit` says why."
        )
    manifests = _manifests(report.outputs)
    dirty = sorted(stage for stage, manifest in manifests.items() if manifest.code.dirty is not False)
    commits = {manifest.code.commit for manifest in manifests.values()}
    if dirty:
        raise InputError(
            f"{report.model}/{report.version} cannot be repeated: {', '.join(dirty)} ran with changes that were not "
            "committed."
        )
    if len(manifests) < len(report.outputs):
        raise InputError(
            f"{report.model}/{report.version} stands on several outputs of one stage: there is no single run to repeat."
        )
    if len(commits) > 1:
        raise InputError(
            f"{report.model}/{report.version} was made from several commits ({', '.join(map(str, commits))}): there "
            "is no single run to repeat."
        )
    [commit] = commits
    found = subprocess.run(
        ["git", "-C", str(repository), "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True, check=False
    )
    if found.returncode != 0:
        raise InputError(f"{repository} has no commit {commit}. Fetch it, or name a clone that has it with --code.")
    return str(commit)


def reproduce(report: AuditReport, commit: str, places: Places, workdir: Path, log: Path) -> list[Comparison]:
    """Repeats the run in `workdir` and compares every output that the version stands on.

    Args:
        report: What is repeated; an audit of the version.
        commit: The recorded commit, which is checked out beside the work directory while the run goes on.
        places: Where the repository and the files from outside are.
        workdir: Gets the outputs and the stores of the new run.
        log: Gets what the run prints.

    Raises:
        InputError: The commit cannot be checked out, or is of another repository.
        StageError: The run did not get anywhere.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with _checked_out(places.repository, commit, workdir.with_name(f"{workdir.name}.code")) as code:
        if not (code / "pathoflow" / "cli").is_dir():
            # Python would take the installed code instead, and repeat something else.
            raise InputError(f"Commit {commit} of {places.repository} holds no pathoflow. Name its clone with --code.")
        recipe = _write_recipe(report.outputs, code, places.sources, workdir / "recipe")
        command = [sys.executable, "-c", _RUN, "run", "--recipe", str(recipe), "--workdir", str(workdir)]
        with log.open("ab") as output:
            done = subprocess.run(
                command, cwd=code, env=_environment(code), stdout=output, stderr=subprocess.STDOUT, check=False
            )
    comparisons = [compare(manifest, workdir / stage) for stage, manifest in _manifests(report.outputs).items()]
    if done.returncode != 0 and all(item.sameness is Sameness.MISSING for item in comparisons):
        raise StageError(f"The run did not get anywhere (exit code {done.returncode}); see {log}.")
    return comparisons


def compare(recorded: Manifest, repeated: Path, tolerance: float = 0.02) -> Comparison:
    """Compares a repeated output with the recorded manifest.

    Args:
        recorded: The manifest of what the version stands on.
        repeated: The folder of the repeated output.
        tolerance: Largest difference of a figure, relative to its size or absolute if that is below 1.
    """
    total = len(recorded.files)
    if not repeated.is_dir():
        return Comparison(recorded.stage, Sameness.MISSING, 0, total, f"there is no {repeated.name}")
    manifest = read_manifest(repeated)
    here = {file.path: file.sha256 for file in manifest.files}
    there = {file.path: file.sha256 for file in recorded.files}
    differing = sorted(path for path in here.keys() | there.keys() if here.get(path) != there.get(path))
    num_same = sum(here.get(path) == sha256 for path, sha256 in there.items())
    if not differing:
        return Comparison(recorded.stage, Sameness.IDENTICAL, num_same, total, "")
    apart = _figures_apart(recorded, manifest, tolerance)
    detail = "; ".join(apart) or f"figures agree; {', '.join(differing[:3])}{' …' if len(differing) > 3 else ''} differ"
    return Comparison(recorded.stage, Sameness.DIFFERENT if apart else Sameness.WITHIN, num_same, total, detail)


def _figures_apart(recorded: Manifest, repeated: Manifest, tolerance: float) -> list[str]:
    """Figures and counts that differ by more than the tolerance."""
    pairs: dict[str, tuple[float | None, float | None]] = {
        name: (recorded.metrics.get(name), repeated.metrics.get(name))
        for name in sorted(recorded.metrics.keys() | repeated.metrics.keys())
    }
    pairs["records out"] = (recorded.counts.num_out, repeated.counts.num_out)
    return [
        f"{name} {before} became {after}"
        for name, (before, after) in pairs.items()
        if before is None or after is None or abs(before - after) > tolerance * max(1.0, abs(before))
    ]


@contextmanager
def _checked_out(repository: Path, commit: str, folder: Path) -> Iterator[Path]:
    """Checks a commit out into a git worktree, for a while."""
    git = ["git", "-C", str(repository), "worktree"]
    subprocess.run([*git, "remove", "--force", str(folder)], capture_output=True, check=False)
    added = subprocess.run([*git, "add", "--detach", str(folder), commit], capture_output=True, text=True, check=False)
    if added.returncode != 0:
        raise InputError(f"git cannot check {commit} out to {folder}: {added.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], capture_output=True, check=False)


def _write_recipe(outputs: Sequence[Output], code: Path, sources: Path | None, folder: Path) -> Path:
    """Writes a recipe of the recorded configurations, each complete: no default of the code can change it.

    The repetition registers its model in the stores of its own work directory, as the smoke recipe does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = {"title": "A repeated run", "description": "The recorded configurations of a registered version."}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(about))
    shutil.copyfile(code / "recipes" / "smoke" / "register.yaml", folder / "register.yaml")
    for stage, manifest in _manifests(outputs).items():
        external = {file.path.rstrip("/") for file in manifest.external_files}
        values = _placed(manifest.config, external, code, sources)
        (folder / f"{stage}.yaml").write_text(yaml.safe_dump(values, allow_unicode=True))
    return folder


def _placed(value: Any, external: set[str], code: Path, sources: Path | None) -> Any:
    """Returns a recorded configuration with its files where they are now.

    Paths in a recipe are relative to its folder, recorded ones to the repository's root, whose files are those of the
    checked out commit. Files from elsewhere that are not at their recorded place are looked for in `sources`.
    """
    if isinstance(value, dict):
        return {key: _placed(item, external, code, sources) for key, item in value.items()}
    if isinstance(value, list):
        return [_placed(item, external, code, sources) for item in value]
    if not isinstance(value, str) or value.rstrip("/") not in external:
        return value
    if not Path(value).is_absolute():
        return str(code / value)
    moved = sources / Path(value).name if sources else Path(value)
    return str(moved) if moved.exists() and not Path(value).exists() else value


def _environment(code: Path) -> dict[str, str]:
    """Builds the environment of the repeated run: the checked out code, and stores of its own."""
    services = ("MLFLOW_", "PATHOFLOW_", "KFP_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(services)}
    return kept | {"PYTHONPATH": str(code)}


def _manifests(outputs: Sequence[Output]) -> dict[str, Manifest]:
    return {output.stage: output.manifest for output in outputs if output.manifest is not None}
