"""Estimates what a recipe's training and evaluation need, from shapes, before a cluster is asked for anything.

Nothing here imports torch: models are the numbers of their configurations (`shapes`), memory is the sum of what is
alive at once (`memory`, `activations`, `host`), time is operations by an assumed share of a device's peak (`work`).
`stages` puts a recipe's keys in, `fitting` looks for values that fit.
"""
