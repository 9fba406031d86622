"""Command line of the `reasoning_data` stage."""

from components.data_processing.reasoning_data.config import ReasoningDataConfig
from pathoflow.contract.entrypoints import main

if __name__ == "__main__":
    main(ReasoningDataConfig)
