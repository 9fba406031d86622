"""The registry: models in the stages dev, staging and prod, moved by gates, approvals and a log of every decision."""
