"""Command line of the `corpus` stage."""

from components.data_processing.corpus.config import CorpusConfig
from pathoflow.contract.entrypoints import main

if __name__ == "__main__":
    main(CorpusConfig)
