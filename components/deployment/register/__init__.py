"""Registers the model in MLflow with its lineage."""
