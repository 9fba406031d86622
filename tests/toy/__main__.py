"""Command line of the `toy` stage."""

from pathoflow.entrypoints import main
from tests.toy.config import ToyConfig

if __name__ == "__main__":
    main(ToyConfig)
