"""Judges the model."""
