"""A model of the corpus."""
