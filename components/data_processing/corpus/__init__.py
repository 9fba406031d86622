"""Joins all pairs into one deduplicated, split and sharded corpus."""
