"""Benchmarks: `python -m bench.<name> [--quick]`; `python -m bench` runs them all and writes bench/README.md."""
