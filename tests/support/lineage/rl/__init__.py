"""The model that is registered."""
