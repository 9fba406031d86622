"""Runs torchrun so that it dies with the stage: `python -m pathoflow.training.torchrun_agent <pid of the stage> …`.

It exits with 75 if the run was stopped on request, and leaves the name and the error of the process that failed first.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pathoflow.errors import Preempted
from pathoflow.system.processes import die_with_parent
from pathoflow.training.worker_bootstrap import AGENT, moment_of


def stop(*_: Any) -> None:
    """Exits at once: no process has been started yet."""
    os._exit(Preempted.exit_code)


def cause_of(failures: Mapping[int, Any], patience_s: int) -> tuple[int, Any]:
    """Returns the rank of the process that failed first, and its failure.

    When a process fails, its peers fail within moments, because they lost it, and torchrun ends the rest by SIGTERM.
    torchrun counts in whole seconds, and dates an error when it was raised and a kill when it noticed: simultaneous
    failures may be a second apart. Among those a process that something else killed is the cause, then the one whose
    error came first.

    Args:
        failures: torchrun's record of each failed process, by rank.
        patience_s: Seconds from torchrun's SIGTERM to its SIGKILL.
    """
    first = min(failure.timestamp for failure in failures.values())
    at_once = [(rank, failure) for rank, failure in failures.items() if failure.timestamp - first < min(2, patience_s)]

    def order(found: tuple[int, Any]) -> tuple[int, float, int]:
        rank, failure = found
        ended_by_torchrun = failure.exitcode == -signal.SIGTERM
        return 2 if ended_by_torchrun else int(failure.exitcode > 0), moment_of(failure.error_file), rank

    return min(at_once, key=order)


def main(failure_file: Path) -> None:
    """Runs torchrun on the command's arguments."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun
    from torch.distributed.run import parse_args

    patience_s = parse_args(sys.argv[1:]).shutdown_timeout
    try:
        torchrun()
    except ChildFailedError as error:
        rank, failure = cause_of(error.failures, patience_s)
        if failure.exitcode == Preempted.exit_code:
            sys.exit(Preempted.exit_code)
        failure_file.write_text(
            json.dumps({"rank": rank, "local_rank": failure.local_rank, "exit_code": failure.exitcode})
        )
        sys.exit(1)
    except SignalException:
        sys.exit(Preempted.exit_code)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    die_with_parent(int(sys.argv.pop(1)))
    os.environ[AGENT] = str(os.getpid())
    main(Path(sys.argv.pop(1)))
