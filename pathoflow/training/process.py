"""A worker that dies with its agent: `python -m pathoflow.training.process <module> …` runs the module in its place.

The module's imports take seconds. An agent that is killed meanwhile must not leave its workers behind, so this comes
first; and a worker that is asked to stop meanwhile has nothing to save, and says so by its exit code.
"""

from __future__ import annotations

import math
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

from pathoflow.errors import Preempted
from pathoflow.processes import die_with_parent

AGENT = "PATHOFLOW_AGENT_PID"
"""The environment variable with the process id of the agent."""
_MOMENT = ".raised"


def stop(*_: Any) -> None:
    """Ends a worker that has not begun to train."""
    os._exit(Preempted.exit_code)


def moment_of(error_file: str) -> float:
    """When the process that torchrun gave this error file raised an error, in seconds; infinite if it did not."""
    path = Path(error_file + _MOMENT)
    return path.stat().st_mtime if path.is_file() else math.inf


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    die_with_parent(int(os.environ[AGENT]))
    sys.argv.pop(0)
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except Exception:
        if error_file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
            Path(error_file + _MOMENT).touch()
        raise
