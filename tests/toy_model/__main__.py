"""Command line of the `toy_model` stage."""

from pathoflow.entrypoints import main
from tests.toy_model.config import ToyModelConfig

if __name__ == "__main__":
    main(ToyModelConfig)
