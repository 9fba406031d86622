"""torchrun that dies with the stage which started it: `python -m pathoflow.training.agent <pid of the stage> …`.

It exits with 75 if the run was stopped on request, and leaves the name and the error of the process that failed first.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from pathoflow.errors import Preempted
from pathoflow.processes import die_with_parent
from pathoflow.training.process import AGENT


def stop(*_: Any) -> None:
    """Ends an agent that has not started any process yet."""
    os._exit(Preempted.exit_code)


def main(failure_file: Path) -> None:
    """Runs torchrun on the command's arguments."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    try:
        torchrun()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
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
