"""Stages that stand in for the pipeline's where a version with a whole lineage is wanted in seconds."""
