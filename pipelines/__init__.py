"""The whole graph, its compilation and its local run."""
