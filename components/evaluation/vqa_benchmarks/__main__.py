"""Command line of the `vqa_benchmarks` stage."""

from components.evaluation.vqa_benchmarks.config import VqaBenchmarksConfig
from pathoflow.contract.entrypoints import main

if __name__ == "__main__":
    main(VqaBenchmarksConfig)
