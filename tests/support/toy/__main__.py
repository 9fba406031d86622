"""Command line of the `toy` stage."""

from pathoflow.contract.entrypoints import main
from tests.support.toy.config import ToyConfig

if __name__ == "__main__":
    main(ToyConfig)
