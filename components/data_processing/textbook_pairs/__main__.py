"""Command line of the `textbook_pairs` stage."""

from components.data_processing.textbook_pairs.config import TextbookPairsConfig
from pathoflow.contract.entrypoints import main

if __name__ == "__main__":
    main(TextbookPairsConfig)
