"""`pathoflow run` from pages to a registered model: real processes, tiny models, a small atlas."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pathoflow.contract.references import Reference
from pathoflow.contract.sealing import read_manifest
from pathoflow.contract.workdir import StageState, WorkDir
from tests.support.small import SMALL

PATHOFLOW = str(Path(sys.executable).with_name("pathoflow"))
STAGES = [
    "teaching_atlas",
    "textbook_pairs",
    "public_pairs",
    "corpus",
    "pathoclip",
    "reasoning_data",
    "diagnosis_mcqs",
    "base_model",
    "cpt",
    "sft",
    "rl",
    "vqa_benchmarks",
    "register",
]


def pathoflow(*arguments: str, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PATHOFLOW, *arguments], capture_output=True, text=True, timeout=timeout_s, check=False, env=_environment()
    )


def _environment() -> dict[str, str]:
    # A fixed commit: an identity must not change because someone commits while the tests run.
    return {**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "PATHOFLOW_CODE_COMMIT": "0" * 40}


def _command(workdir: Path, *more: str) -> list[str]:
    settings = [part for value in SMALL for part in ("--set", value)]
    return [PATHOFLOW, "run", "--recipe", "smoke", "--workdir", str(workdir), *settings, *more]


def _run(workdir: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return pathoflow(*_command(workdir, *more)[1:])


def _states(workdir: Path) -> dict[str, StageState]:
    return {stage: WorkDir(workdir).read_state(stage) for stage in STAGES}


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A finished small run; tests that change it take a copy."""
    workdir = tmp_path_factory.mktemp("run") / "small"
    done = _run(workdir)
    assert done.returncode == 0, done.stdout + done.stderr + WorkDir(workdir).log_file.read_text()[-4000:]
    return workdir


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    target = tmp_path / "copy"
    shutil.copytree(finished, target)
    return target


def test_every_stage_is_sealed_published_and_tracked(finished) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=WorkDir(finished).tracking_uri)
    experiment = client.get_experiment_by_name("pathoflow-smoke")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    parent = runs.pop("smoke")
    assert set(runs) == set(STAGES)
    for stage in STAGES:
        manifest = read_manifest(finished / stage)
        reference = Reference.model_validate_json(WorkDir(finished).reference(stage).read_bytes())
        assert reference.identity == manifest.identity == runs[stage].data.tags["pathoflow.identity"]
        assert bool(reference.dvc_md5) == (manifest.kind == "data")
        assert bool(reference.model_uri) == (manifest.kind == "model")
        assert runs[stage].data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert runs[stage].info.status == parent.info.status == "FINISHED"


def test_the_registered_version_leads_back_to_the_data(finished) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=WorkDir(finished).tracking_uri)
    [version] = client.search_model_versions("name = 'patho-r1-smoke.dev'")
    assert version.tags["pathoflow.identity"] == read_manifest(finished / "rl").identity
    for stage in ("corpus", "diagnosis_mcqs", "sft", "vqa_benchmarks", "pathoclip"):
        assert version.tags[f"pathoflow.identity.{stage}"] == read_manifest(finished / stage).identity
    assert version.tags["pathoflow.dvc.diagnosis_mcqs"].endswith(".dir")


def test_run_again_recognises_every_stage(copied) -> None:
    done = _run(copied)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {state.status for state in _states(copied).values()} == {"unchanged"}
    assert "Finished" in done.stdout


def test_a_changed_value_runs_its_stage_and_what_stands_on_it(copied) -> None:
    done = _run(copied, "--set", "sft.learning_rate=3e-4")
    assert done.returncode == 0, done.stdout + done.stderr
    ran = [stage for stage, state in _states(copied).items() if state.status == "done"]
    assert ran == ["sft", "rl", "vqa_benchmarks", "register"]


def test_only_runs_one_stage_again(copied) -> None:
    before = read_manifest(copied / "corpus").identity
    done = _run(copied, "--only", "corpus")
    assert done.returncode == 0, done.stdout + done.stderr
    assert _states(copied)["corpus"].status == "done"
    assert read_manifest(copied / "corpus").identity == before


def test_verify_names_the_flipped_byte(copied) -> None:
    assert pathoflow("verify", str(copied)).returncode == 0
    target = next((copied / "rl" / "model").glob("*.safetensors"))
    data = bytearray(target.read_bytes())
    data[len(data) // 2] ^= 1
    target.write_bytes(data)
    done = pathoflow("verify", str(copied))
    assert done.returncode == 4
    assert str(target) in done.stdout
    assert re.search(r"rl\b.*FAIL", done.stdout)
    # A run on top of it stops, too, and loses nothing.
    done = _run(copied)
    assert done.returncode == 4
    assert str(target) in done.stdout


def test_status_and_two_runs_at_once(copied) -> None:
    shutil.rmtree(copied / "teaching_atlas")
    command = _command(copied)
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment())
    try:
        _wait_for(lambda: WorkDir(copied).is_busy())
        second = _run(copied)
        assert second.returncode == 6
        assert "Another run works in" in second.stderr
        assert "is running" in pathoflow("status", str(copied)).stdout
    finally:
        output, _ = first.communicate(timeout=300)
    assert first.returncode == 0, output


@pytest.mark.parametrize("stage", ["textbook_pairs", "sft"])
def test_kill_9_in_a_stage_and_the_same_command_finishes(copied, stage) -> None:
    _forget(copied, stage)
    before = {name: read_manifest(copied / name).identity for name in STAGES if name != stage}
    command = _command(copied)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=_environment())
    _wait_for(lambda: WorkDir(copied).read_state(stage).report is not None)
    pid = WorkDir(copied).read_state(stage).pid
    time.sleep(1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _wait_for(lambda: not Path(f"/proc/{pid}").exists(), timeout_s=5)
    done = _run(copied)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name: read_manifest(copied / name).identity for name in before} == before


def test_ctrl_c_stops_with_a_resumable_code(copied) -> None:
    _forget(copied, "textbook_pairs")
    command = _command(copied)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment())
    _wait_for(lambda: WorkDir(copied).read_state("textbook_pairs").report is not None)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    assert "Run the same command again" in output


def test_mistakes_are_explained(tmp_path) -> None:
    for arguments, code, words in (
        (["--recipe", "smok"], 2, "Did you mean smoke?"),
        (["--set", "sft.learning_rat=1"], 2, "Did you mean learning_rate?"),
        (["--set", "sft.learning_rate=7"], 2, "--set sft.learning_rate"),
        (["--set", "stf.seed=1"], 2, "Did you mean sft?"),
        (["--books", str(tmp_path / "nowhere")], 3, "nowhere"),
        (["--only", "nothing"], 2, "nothing is no stage"),
        (["--only", "sft"], 3, "has none of teaching_atlas"),
    ):
        done = pathoflow("run", "--workdir", str(tmp_path / "w"), *arguments)
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        assert words in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr


def _forget(workdir: Path, stage: str) -> None:
    """Takes back a stage's output and its state, so that a test sees the stage begin again."""
    shutil.rmtree(workdir / stage)
    WorkDir(workdir).write_state(StageState(stage))


def _wait_for(condition, timeout_s: float = 400) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
