"""torchrun that dies with the stage which started it: `python -m pathoflow.training.agent <pid of the stage> …`."""

from __future__ import annotations

import os
import sys

from pathoflow.processes import die_with_parent
from pathoflow.training.process import AGENT

if __name__ == "__main__":
    die_with_parent(int(sys.argv.pop(1)))
    os.environ[AGENT] = str(os.getpid())
    from torch.distributed.run import main

    main()
