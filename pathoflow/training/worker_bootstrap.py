"""Runs a worker that dies with its agent: `python -m pathoflow.training.worker_bootstrap <module> …`.

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
from pathoflow.system.processes import die_with_parent

AGENT = "PATHOFLOW_AGENT_PID"
"""The environment variable with the process id of the agent."""
_MOMENT = ".raised"


def stop(*_: Any) -> None:
    """Exits at once: a worker that has not begun to train has nothing to save."""
    os._exit(Preempted.exit_code)


def moment_of(error_file: str) -> float:
    """Returns when the process with this torchrun error file raised an error, in seconds; infinite if it did not."""
    path = Path(error_file + _MOMENT)
    return path.stat().st_mtime if path.is_file() else math.inf


def run(module: str) -> int:
    """Runs a worker's module and returns its exit code."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except Exception:
        if error_file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
            Path(error_file + _MOMENT).touch()
        raise
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    die_with_parent(int(os.environ[AGENT]))
    sys.argv.pop(0)
    exit_code = run(sys.argv[0])
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # Libraries' own threads may abort the interpreter while it is taken apart, when all is done and written.
    os._exit(exit_code)
