"""What a recipe's training and evaluation need, computed from shapes before anything is asked of a cluster.

Nothing here imports torch: models are the numbers of their configurations (`shapes`), memory is the sum of what is
alive at once (`memory`, `activations`, `host`), time is operations by an assumed share of a device's peak (`work`).
`stages` puts a recipe's keys in, `fitting` looks for values that fit.
"""
