"""A worker of `sft` in which processes take their dev questions without regard to each other, so that it hangs."""

from __future__ import annotations

from components.training.sft.worker import main
from pathoflow.inference import transformers_engine
from pathoflow.training.worker import run_worker


def uneven_rounds(num: int, process: int, num_processes: int, batch_size: int) -> list[range]:
    """Every process takes as many batches as its own questions fill."""
    own = range(process, num, num_processes)
    return [own[start : start + batch_size] for start in range(0, len(own), batch_size)]


if __name__ == "__main__":
    transformers_engine.rounds = uneven_rounds
    run_worker(main)
