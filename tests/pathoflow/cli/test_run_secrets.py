"""`pathoflow run` names a secret that a stage needs before anything starts."""

from __future__ import annotations

import pytest

from pathoflow.cli.run import RunOptions, run_recipe
from pathoflow.contract.workdir import WorkDir
from pathoflow.errors import ConfigError

SIGNED = ("register.signing=key",)


@pytest.fixture(autouse=True)
def no_run(monkeypatch):
    monkeypatch.delenv("PATHOFLOW_SIGNING_KEY", raising=False)
    monkeypatch.setattr("pathoflow.cli.run._Runner.__enter__", lambda self: pytest.fail("it was started"))


def test_a_missing_variable_ends_the_run_before_it_begins(tmp_path):
    with pytest.raises(ConfigError, match=r"register needs PATHOFLOW_SIGNING_KEY: set it in the environment"):
        run_recipe(RunOptions("smoke", tmp_path, overrides=SIGNED))
    assert WorkDir(tmp_path).read_run() is None


def test_only_stages_that_run_are_asked(tmp_path):
    with pytest.raises(pytest.fail.Exception, match="it was started"):
        run_recipe(RunOptions("smoke", tmp_path, overrides=SIGNED, only="teaching_atlas"))
