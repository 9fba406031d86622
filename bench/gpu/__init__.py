"""Benchmarks for one GPU."""
