"""Command line of the `base_model` stage."""

from components.training.base_model.config import BaseModelConfig
from pathoflow.contract.entrypoints import main

if __name__ == "__main__":
    main(BaseModelConfig)
