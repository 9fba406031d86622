"""The body of the exit task, as its pod runs it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pathoflow.cluster.api import connect
from pathoflow.cluster.cleanup import clean_up
from pathoflow.cluster.settings import CHECKPOINTS_PATH
from pathoflow.cluster.trainjob_spec import RUN_ID
from pathoflow.errors import PathoflowError


def finish_run(recipe: str, namespace: str, state: str, told: str, report: str) -> None:
    """Cleans up after the run that the environment names; ends the process with the error's code if that fails."""
    checkpoints = Path(os.environ.get("PATHOFLOW_CHECKPOINTS", CHECKPOINTS_PATH))
    try:
        clean_up(connect(), namespace, recipe, os.environ[RUN_ID], state, checkpoints, Path(report), told)
    except PathoflowError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
