"""Talks to Kubernetes: a cluster's settings, its API, TrainJobs and the checks before a run."""
