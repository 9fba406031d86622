"""What a row needs so that a model can learn from it or be asked about it: the one place that decides, for all stages.

A row that lacks it is set aside with a reason and counted; it ends no run. Nothing here imports torch: rows are checked
before workers start.
"""
