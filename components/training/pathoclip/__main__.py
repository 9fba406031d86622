"""Command line of the `pathoclip` stage."""

from components.training.pathoclip.config import PathoclipConfig
from pathoflow.contract.entrypoints import main

if __name__ == "__main__":
    main(PathoclipConfig)
