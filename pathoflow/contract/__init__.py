"""The contract of a stage: configuration, verified inputs, a sealed output, restart."""
