"""The generated READMEs: what they say of a stage, and that those in the repository are up to date."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import BaseModel, Field

from components import catalogue
from pathoflow.contract.code import REPOSITORY
from pathoflow.contract.config import StageConfig
from tools import drift, readmes


class Inner(BaseModel):
    width: int = Field(default=64, ge=16, description="Width.")


class ExampleConfig(StageConfig):
    stage: ClassVar[str] = "example"

    rate: float = Field(gt=0.0, le=1.0, description="Learning rate,\nper step | of the optimizer.")
    method: Literal["grpo", "dapo"] = Field(default="grpo", description="Objective.")
    shape: Inner = Field(default=Inner(), description="Dimensions.")
    weights: dict[str, float] = Field(default={"a": 1.0}, description="Weights.")
    extra: Path | None = Field(default=None, description="A file.")


def test_every_key_of_a_configuration_is_in_its_table() -> None:
    rows = readmes._configuration(ExampleConfig).splitlines()[2:]
    assert rows == [
        "| `rate` | number | required | > 0, ≤ 1 | Learning rate, per step \\| of the optimizer. |",
        "| `method` | `grpo` or `dapo` | `grpo` |  | Objective. |",
        "| `shape` | keys below | below |  | Dimensions. |",
        "| `shape.width` | integer | `64` | ≥ 16 | Width. |",
        "| `weights` | map of text to number | `{a: 1.0}` |  | Weights. |",
        "| `extra` | path or null | `null` |  | A file. |",
        "| `max_quarantine_share` | number | `0.05` | ≥ 0, ≤ 1 | Largest share of the records read that may be "
        "quarantined before the stage fails. |",
    ]


def test_a_stage_readme_tells_inputs_output_and_how_to_run_it() -> None:
    text = readmes.stage_readme(catalogue()["sft"])
    assert "| `reasoning_data` | Dataset |" in text
    assert "| `cpt` | Model |" in text
    assert "model, logged to MLflow" in text
    assert "python -m components.training.sft --recipe smoke --workdir runs/demo" in text


def test_the_table_names_each_stage_after_those_it_takes() -> None:
    table = readmes.stage_table(catalogue().values())
    places = {stage: table.index(f"[`{stage}`]") for stage in catalogue()}
    for stage, config in catalogue().items():
        assert all(places[source] < places[stage] for source in config.inputs)


def test_the_graph_draws_every_input_and_dots_those_that_a_recipe_may_lack() -> None:
    lines = [line.strip() for line in readmes.stage_graph(catalogue().values()).splitlines()]
    assert (lines[0], lines[1], lines[-1]) == ("```mermaid", "flowchart LR", "```")
    edges = {" ".join(line.split()[0::2]) for line in lines if "->" in line}
    assert edges == {f"{source} {stage}" for stage, config in catalogue().items() for source in config.inputs}
    assert "base_model -.-> cpt" in lines
    assert "corpus --> cpt" in lines
    coloured = [name for line in lines if line.startswith("class ") for name in line.split()[1].split(",")]
    assert sorted(coloured) == sorted(catalogue())


def test_component_and_configuration_agree_on_the_inputs() -> None:
    for stage, config in catalogue().items():
        component = readmes.read_component(readmes.folder_of(config) / "component.py", stage)
        assert {parameter.name for parameter in component.inputs} == set(config.inputs), stage
        assert component.output.kind == {"data": "Dataset", "model": "Model"}[config.output], stage


def test_the_readmes_in_the_repository_are_up_to_date() -> None:
    assert drift.drifted(readmes.readmes()) == [], "run `make docs`"


def test_generating_imports_neither_torch_nor_kfp() -> None:
    code = "import sys; from tools.readmes import readmes; readmes(); print({'torch', 'kfp'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert done.stdout.strip() == "set()"
