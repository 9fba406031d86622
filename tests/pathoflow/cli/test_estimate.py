"""The command that computes what a recipe needs, and the warnings of those that ask a cluster for it."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from pathoflow.cli import app
from pathoflow.contract.code import REPOSITORY

OVERLAYS = REPOSITORY / "manifests" / "overlays"
TOO_MUCH = ["--recipe", "paper_7b", "--set", "rl.steps_per_generation=4"]


def invoke(*arguments: str, columns: int = 100):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": str(columns), "NO_COLOR": "1"})


def test_the_table_names_every_stage_and_what_it_rests_on() -> None:
    result = invoke("estimate", "--recipe", "paper_7b")
    assert result.exit_code == 0, result.output
    for words in ("KV cache", "a GPU, of it", "GPU-hours", "3,500,000 pairs", "40%", "Every stage fits."):
        assert words in result.output


@pytest.mark.parametrize("columns", [80, 100])
def test_no_figure_is_cut_off(columns: int) -> None:
    result = invoke("estimate", *TOO_MUCH, columns=columns)
    assert "…" not in result.output.partition("Rests on")[0]
    assert max(map(len, result.output.partition("Rests on")[0].splitlines())) <= columns


def test_what_does_not_fit_ends_with_1_and_tells_what_does() -> None:
    result = invoke("estimate", *TOO_MUCH)
    assert result.exit_code == 1
    assert "rl does not fit: GPU memory (last token generated): 85." in result.output
    assert "--set rl.steps_per_generation=2\n" in result.output


def test_another_gpu_makes_it_fit() -> None:
    assert invoke("estimate", *TOO_MUCH, "--gpu", "h200").exit_code == 0
    assert "known are a100-40" in invoke("estimate", "--gpu", "abacus").output


def test_json_has_bytes_seconds_and_suggestions() -> None:
    result = invoke("estimate", *TOO_MUCH, "--json")
    assert result.exit_code == 1
    stages = {stage["stage"]: stage for stage in json.loads(result.output)}
    rl = stages["rl"]
    assert not rl["fits"]
    assert rl["gpu_total"] > rl["gpu_limit"]
    assert rl["moments"]["last token generated"]["total"] == rl["gpu_total"]
    assert rl["suggestions"][0] == "--set rl.steps_per_generation=2"
    assert stages["cpt"]["fits"]
    assert stages["cpt"]["seconds"] > 3600


def test_twice_the_efficiency_is_half_the_time() -> None:
    def seconds(*more: str) -> float:
        result = invoke("estimate", "--recipe", "paper_3b", "--json", *more)
        return next(stage["seconds"] for stage in json.loads(result.output) if stage["stage"] == "cpt")

    assert seconds("--mfu", "0.2") == pytest.approx(2 * seconds("--mfu", "0.4"))
    assert seconds("--pairs", "350000") == pytest.approx(seconds() / 10)


def test_the_clusters_volume_must_hold_the_checkpoints(tmp_path) -> None:
    text = (OVERLAYS / "single-gpu" / "parameters.yaml").read_text()
    (tmp_path / "parameters.yaml").write_text(
        "\n".join('  checkpoints_size: "100Gi"' if "checkpoints_size" in line else line for line in text.splitlines())
    )
    result = invoke("estimate", "--recipe", "paper_7b", "--cluster", str(tmp_path))
    assert result.exit_code == 1
    assert "disk for checkpoints" in result.output


def test_compiling_warns_and_goes_on(tmp_path) -> None:
    out = tmp_path / "pipeline.yaml"
    result = invoke("compile", *TOO_MUCH, "--out", str(out))
    assert result.exit_code == 0, result.output
    assert out.is_file()
    assert "Warning: estimate of rl: by estimate, GPU memory" in result.stderr
    assert "--set rl.steps_per_generation=2" in result.stderr
    assert "Warning" not in invoke("compile", "--recipe", "paper_7b", "--out", str(out)).stderr


def test_submitting_warns_before_it_asks(tmp_path) -> None:
    # The shipped overlay's images are placeholders, which ends it after the warning.
    result = invoke("submit", *TOO_MUCH, "--cluster", str(OVERLAYS / "multi-node"))
    assert result.exit_code != 0
    assert "Warning: estimate of rl" in result.stderr


def test_the_doctor_finds_it_without_a_cluster(monkeypatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    result = invoke("doctor", *TOO_MUCH, "--cluster", str(OVERLAYS / "multi-node"), "--json")
    findings = {finding["what"]: finding for finding in json.loads(result.output)}
    assert findings["estimate of rl"]["level"] == "warning"
    assert "--set rl.steps_per_generation=2" in findings["estimate of rl"]["remedy"]
