"""Command line of the `public_pairs` stage."""

from components.data_processing.public_pairs.config import PublicPairsConfig
from pathoflow.contract.entrypoints import main

if __name__ == "__main__":
    main(PublicPairsConfig)
