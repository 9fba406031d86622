"""Stands in for the process that runs a stage: `python -m tests.support.toy_training <directory> <values as JSON>`."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

from pathoflow.contract.output import StageOutput
from pathoflow.errors import PathoflowError, Preempted
from pathoflow.system.processes import die_with_parent
from pathoflow.training.job import Job
from pathoflow.training.launch import launch_workers
from tests.support.toy_training.config import ToyTrainingConfig


def _stop(*_: object) -> None:
    raise Preempted("asked to stop")


if __name__ == "__main__":
    # A test that fails leaves its attempt behind.
    die_with_parent()
    signal.signal(signal.SIGTERM, _stop)
    where, config = Path(sys.argv[1]), ToyTrainingConfig(**json.loads(sys.argv[2]))
    # As the runner of stages does: each attempt begins with an empty output and the scratch of the one before.
    shutil.rmtree(where / "output", ignore_errors=True)
    out = StageOutput(where / "output", where / "scratch")
    try:
        launch_workers("tests.support.toy_training.worker", Job.create(config, {}, out), config)
    except PathoflowError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
