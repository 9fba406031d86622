"""Writes chain-of-thought samples from captions and in-line references."""
