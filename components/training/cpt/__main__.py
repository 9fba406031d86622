"""Command line of the `cpt` stage."""

from components.training.cpt.config import CptConfig
from pathoflow.contract.entrypoints import main

if __name__ == "__main__":
    main(CptConfig)
