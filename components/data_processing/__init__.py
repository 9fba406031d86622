"""Stages that turn pages and public data sets into training data."""
