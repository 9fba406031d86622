"""The registry: models in dev, staging and prod, moved by gates and approvals, and a log of every decision."""
