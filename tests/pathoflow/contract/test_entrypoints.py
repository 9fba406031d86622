"""The two ways into a stage: as a KFP task that gets and gives references, and as a command of its own."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from pathoflow.contract import entrypoints
from pathoflow.contract.entrypoints import FORCED, KEPT, WORKDIR, run_task
from pathoflow.contract.references import Reference
from pathoflow.contract.sealing import verify
from tests.support.toy.config import ToyConfig
from tests.support.toy_model.config import ToyModelConfig


@dataclass
class Artifact:
    path: str
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def reference(self) -> Reference:
        return Reference.model_validate_json(Path(self.path).read_bytes())


@pytest.fixture
def task(tmp_path, monkeypatch):
    """Runs a stage as KFP would, in a given work directory; returns its output artifact."""
    numbers = iter(range(100))

    def run(workdir, config, inputs=None, *, forced="", kept="") -> Artifact:
        monkeypatch.chdir(tmp_path)
        for name, value in ((WORKDIR, str(workdir.root)), (FORCED, forced), (KEPT, kept)):
            monkeypatch.setenv(name, value)
        output = Artifact(str(tmp_path / f"artifact-{next(numbers)}"))
        run_task(type(config), config.model_dump_json(), inputs or {}, output)
        return output

    return run


def test_tasks_hand_on_references_and_never_data(workdir, task):
    data = task(workdir, ToyConfig(text="x" * 100_000))
    model = task(workdir, ToyModelConfig(), {"toy": data})
    assert Path(data.path).stat().st_size < 1000
    assert (data.reference.kind, model.reference.kind) == ("data", "model")
    assert data.metadata["identity"] == verify(workdir.output("toy")).identity
    assert verify(workdir.output("toy_model")).inputs == {"toy": data.reference.identity}


def test_a_task_in_another_work_directory_gets_its_input_by_reference(workdir, new_workdir, task, monkeypatch):
    data = task(workdir, ToyConfig())
    elsewhere = new_workdir("elsewhere")
    task(elsewhere, ToyModelConfig(), {"toy": data})
    assert verify(elsewhere.output("toy_model")).inputs == {"toy": data.reference.identity}
    assert not elsewhere.output("toy").exists()


def test_an_input_that_is_not_in_the_pipeline_is_left_out(workdir, task):
    data = task(workdir, ToyConfig())
    task(workdir, ToyModelConfig(), {"toy": data, "other": None})
    assert workdir.read_state("toy_model").status == "done"


def test_forced_stages_run_and_kept_ones_hand_on_what_is_there(workdir, task):
    first = task(workdir, ToyConfig())
    made = task(workdir, ToyConfig(), forced="toy,other")
    assert workdir.read_state("toy").status == "done"
    assert made.reference.identity == first.reference.identity
    assert made.reference.run_id != first.reference.run_id
    kept = task(workdir, ToyConfig(text="not made"), kept="toy")
    assert workdir.read_state("toy").status == "unchanged"
    assert kept.reference == made.reference
    assert (workdir.output("toy") / "text.txt").read_text() == "hello"


def test_a_kept_stage_without_output_is_told(workdir, task, capsys):
    with pytest.raises(SystemExit) as ended:
        task(workdir, ToyConfig(), kept="toy")
    assert ended.value.code == 4
    assert "toy has no sealed output" in capsys.readouterr().err
    state = workdir.read_state("toy")
    assert (state.status, state.exit_code) == ("failed", 4)
    assert "toy has no sealed output" in state.error


def test_a_crash_shows_its_traceback_and_a_users_error_does_not(workdir, task, capsys):
    for ending, code in (("raise", 7), ("user_error", 3)):
        with pytest.raises(SystemExit) as ended:
            task(workdir, ToyConfig(ending=ending))
        assert ended.value.code == code
        assert ("Traceback" in (printed := capsys.readouterr().err)) == (ending == "raise")
        assert "error: " in printed


@pytest.fixture
def main(toy_recipe, workdir, monkeypatch, capsys):
    """Runs a stage's command line in this process; returns its exit code and what it printed."""

    def run(config_type, *more: str, recipe: str = "toys") -> tuple[int, str]:
        # A stage's command goes to the repository, and need not come back.
        monkeypatch.chdir(toy_recipe.parent)
        monkeypatch.setattr(sys, "argv", ["toy", "--recipe", recipe, "--workdir", workdir.root.name, *more])
        with pytest.raises(SystemExit) as ended:
            entrypoints.main(config_type)
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out + printed.err

    return run


def test_the_command_line_runs_a_stage_on_what_is_there(main, workdir, tmp_path):
    (tmp_path / "book.txt").write_text(" and read")
    exit_code, printed = main(ToyConfig, "--no-versioned", "--set", "toy.text=said", "--set", "books=[book.txt]")
    assert exit_code == 0
    assert (workdir.output("toy") / "text.txt").read_text() == "said and read"
    assert printed.strip().endswith(f"toy: {verify(workdir.output('toy')).identity} in {workdir.output('toy')}")
    assert Reference.model_validate_json(workdir.reference("toy").read_bytes()).dvc_md5 is None
    assert main(ToyModelConfig)[0] == 0
    client = MlflowClient(workdir.tracking_uri)
    assert "pathoflow-toys" in [experiment.name for experiment in client.search_experiments()]


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["--set", "txt=a"], 2, "--set toy.txt is no known key. Did you mean text?"),
        (["--set", "other.text=a"], 2, "--set toy.other.text is no known key"),
        (["--set", "num_items=-1"], 2, "--set toy.num_items"),
        (["--set", "books=[nowhere.txt]"], 7, "nowhere.txt"),
        (["--set", "num_bad=5"], 5, "toy set 5 of 10 records aside (bad_number 5)"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_with_its_exit_code(main, more, code, words):
    exit_code, printed = main(ToyConfig, *more)
    assert exit_code == code
    assert words in printed


def test_an_unknown_recipe_is_told(main):
    exit_code, printed = main(ToyConfig, recipe="smok")
    assert (exit_code, "Did you mean smoke?" in printed) == (2, True)


def test_a_stage_before_its_inputs_is_told(main):
    exit_code, printed = main(ToyModelConfig)
    assert exit_code == 3
    assert "Run toy first." in printed


def test_force_and_recognition(main, workdir):
    for more, status in (([], "done"), ([], "unchanged"), (["--force"], "done")):
        assert main(ToyConfig, "--no-versioned", *more)[0] == 0
        assert workdir.read_state("toy").status == status
