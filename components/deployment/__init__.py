"""Stages that register models."""
