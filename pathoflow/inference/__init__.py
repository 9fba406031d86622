"""Asks models for text."""
