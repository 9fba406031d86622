"""Checks whether a row can be learned or asked: one rule for all stages.

A row that lacks it is set aside with a reason and counted; it ends no run. Nothing here imports torch: rows are checked
before workers start.
"""
