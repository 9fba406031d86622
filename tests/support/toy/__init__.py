"""A stage that does as its configuration tells it, to try the contract on."""
