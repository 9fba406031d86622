"""Command line of the `register` stage."""

from components.deployment.register.config import RegisterConfig
from pathoflow.contract.entrypoints import main

if __name__ == "__main__":
    main(RegisterConfig)
