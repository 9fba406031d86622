"""Command line of the `sft` stage."""

from components.training.sft.config import SftConfig
from pathoflow.contract.entrypoints import main

if __name__ == "__main__":
    main(SftConfig)
