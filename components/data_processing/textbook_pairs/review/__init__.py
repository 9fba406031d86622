"""Review: reports and pictures of a run for people."""
