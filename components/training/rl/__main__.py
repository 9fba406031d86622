"""Command line of the `rl` stage."""

from components.training.rl.config import RlConfig
from pathoflow.contract.entrypoints import main

if __name__ == "__main__":
    main(RlConfig)
