"""Trains the model by reinforcement learning on multiple-choice questions."""
