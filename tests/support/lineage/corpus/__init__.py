"""Divides pairs."""
