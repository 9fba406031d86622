"""Workers never outlive their agent, not even one that is killed while they still import."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

SLOW_MODULE = "import pathlib, sys, time\npathlib.Path(sys.argv[1]).touch()\ntime.sleep(60)\n"
AGENT = """
import os, subprocess, sys
os.environ["PATHOFLOW_AGENT_PID"] = str(os.getpid())
subprocess.Popen([sys.executable, "-m", "pathoflow.training.worker_bootstrap", "slow_module", sys.argv[1]]).wait()
"""


def test_a_worker_dies_with_its_agent_while_it_imports(tmp_path):
    (tmp_path / "slow_module.py").write_text(SLOW_MODULE)
    started = tmp_path / "started"
    root = str(Path(__file__).parents[3])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((root, str(tmp_path)))}
    agent = subprocess.Popen([sys.executable, "-c", AGENT, str(started)], env=environment)
    deadline = time.monotonic() + 30
    while not started.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (worker,) = psutil.Process(agent.pid).children()
    agent.kill()
    agent.wait()
    assert not psutil.wait_procs([worker], timeout=10)[1]
