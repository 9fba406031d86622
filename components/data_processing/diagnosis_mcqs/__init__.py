"""Samples multiple-choice questions on the diagnosis from pairs that no reasoning sample used."""
