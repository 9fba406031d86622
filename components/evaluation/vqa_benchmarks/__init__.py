"""Measures the base, CPT, SFT and RL models on held-out questions."""
