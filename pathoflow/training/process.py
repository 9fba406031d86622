"""A worker that dies with its agent: `python -m pathoflow.training.process <module> …` runs the module in its place.

The module's imports take seconds. An agent that is killed meanwhile must not leave its workers behind, so this comes
first.
"""

from __future__ import annotations

import os
import runpy
import sys

from pathoflow.processes import die_with_parent

AGENT = "PATHOFLOW_AGENT_PID"
"""The environment variable with the process id of the agent."""

if __name__ == "__main__":
    die_with_parent(int(os.environ[AGENT]))
    sys.argv.pop(0)
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
