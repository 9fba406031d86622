"""Command line of the `toy_model` stage."""

from pathoflow.contract.entrypoints import main
from tests.support.toy_model.config import ToyModelConfig

if __name__ == "__main__":
    main(ToyModelConfig)
