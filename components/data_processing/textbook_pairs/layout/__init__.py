"""Layout of a page: its regions, and the models that find them."""
