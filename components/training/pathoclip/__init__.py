"""Trains PathoCLIP on the corpus by contrastive learning."""
