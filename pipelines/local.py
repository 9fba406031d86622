"""Runs the compiled pipeline of a work directory with kfp.local's SubprocessRunner: one subprocess per stage.

The command line starts this module as a process of its own and watches the work directory's state.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from kfp import local
from kfp.components import load_component_from_file

from pathoflow.contract.entrypoints import FORCED, KEPT, OWNER, WORKDIR
from pathoflow.contract.stage import Services
from pathoflow.contract.workdir import WorkDir
from pathoflow.system.processes import die_with_parent

if TYPE_CHECKING:
    from pathoflow.stores.tracking import Tracker


def run_local(workdir: WorkDir) -> None:
    """Runs `pipeline.yaml` of the work directory as `run.json` describes it.

    Raises:
        RuntimeError: A stage failed; its state in the work directory says why.
    """
    run = workdir.read_run()
    assert run is not None, "the command line plans the run before it starts this process"
    os.environ[WORKDIR] = str(workdir.root)
    os.environ[OWNER] = str(os.getpid())
    os.environ[FORCED] = ",".join(run.forced)
    os.environ[KEPT] = ",".join(run.kept)
    os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", f"pathoflow-{run.recipe}")
    # The stages' subprocesses are small models on few cores: more threads than one make them slower, not faster.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # KFP warns that an image is not used by its subprocess runner, which is the point of that runner.
    warnings.filterwarnings("ignore", message="You may be attem", category=RuntimeWarning)
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(workdir.state / "kfp"),
        raise_on_error=True,
    )
    if not (workdir.mlflow / "mlflow.db").exists():
        # Making the store's tables takes seconds, which are the run's, not its first stage's.
        _tracker(Services.from_environment(workdir))
    status = "FAILED"
    try:
        load_component_from_file(str(workdir.pipeline_file))()
        status = "FINISHED"
    finally:
        _end_pipeline_run(workdir, status)


def _end_pipeline_run(workdir: WorkDir, status: str) -> None:
    run = workdir.read_run()
    if run and run.mlflow_run_id:
        _tracker(Services.from_environment(workdir)).end_run(run.mlflow_run_id, status)


def _tracker(services: Services) -> Tracker:
    """MLflow, imported only by runs that have something to say to it."""
    from pathoflow.stores.tracking import Tracker

    return Tracker(services.tracking_uri, services.experiment)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[2]))
    run_local(WorkDir(Path(sys.argv[1])))
