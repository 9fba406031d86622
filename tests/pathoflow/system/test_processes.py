"""A process that was told to die with another does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from multiprocessing.synchronize import Event

import psutil
import pytest

from pathoflow.system.processes import die_with_parent


def python(code: str, *arguments: object, **options) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


def ends(pid: int, within_s: float = 10) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


CHILD = """
import os, sys, time
from pathoflow.system.processes import die_with, die_with_parent
{call}
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.races
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_a_child_dies_with_its_parent(signal_number):
    parent = python(
        """
        import subprocess, sys, time
        child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE)
        child.stdout.readline()
        print(child.pid, flush=True)
        time.sleep(60)
        """,
        CHILD.format(call="die_with_parent()"),
    )
    child = int(parent.stdout.readline())
    assert psutil.pid_exists(child)
    parent.send_signal(signal_number)
    parent.wait()
    assert ends(child)


def test_a_child_whose_parent_died_before_it_could_ask_dies_at_once():
    # The parent ends without waiting; the child asks only when it has another parent.
    parent = python(
        """
        import os, subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid())], stdout=subprocess.DEVNULL)
        print(child.pid, flush=True)
        """,
        CHILD.format(
            call="while os.getppid() == int(sys.argv[1]): time.sleep(0.01)\ndie_with_parent(int(sys.argv[1]))"
        ),
    )
    child = int(parent.stdout.readline())
    parent.wait()
    assert ends(child)


@pytest.mark.races
def test_a_worker_whose_parent_died_while_it_started_dies_at_once():
    parent = python(
        """
        import multiprocessing, os, sys, time
        from tests.pathoflow.system.test_processes import outlive_parent
        context = multiprocessing.get_context("spawn")
        began = context.Event()
        worker = context.Process(target=outlive_parent, args=(began,))
        worker.start()
        began.wait()
        print(worker.pid, flush=True)
        os.kill(os.getpid(), 9)
        """
    )
    worker = int(parent.stdout.readline())
    parent.wait()
    assert ends(worker)


def outlive_parent(began: Event) -> None:
    parent = os.getppid()
    began.set()
    while os.getppid() == parent:
        time.sleep(0.01)
    die_with_parent()
    time.sleep(60)


@pytest.mark.races
def test_a_process_dies_with_one_that_is_not_its_parent():
    owner = python("import time; time.sleep(60)")
    follower = python(CHILD.format(call="die_with(int(sys.argv[1]), 0.05)"), owner.pid)
    assert follower.stdout.readline() == "ready\n"
    owner.kill()
    # Not waited for: a zombie is as good as gone.
    assert follower.wait(10) == -signal.SIGKILL
    owner.wait()


def test_a_process_dies_if_the_other_is_gone_already():
    owner = python("")
    owner.wait()
    assert python(CHILD.format(call="die_with(int(sys.argv[1]), 0.05)"), owner.pid).wait(10) == -signal.SIGKILL


def test_a_process_whose_owner_lives_goes_on():
    follower = python(
        """
        import sys, time
        from pathoflow.system.processes import die_with, die_with_parent
        die_with(int(sys.argv[1]), 0.01)
        die_with_parent(int(sys.argv[1]))
        time.sleep(0.3)
        """,
        os.getpid(),
    )
    assert follower.wait(20) == 0
