"""Generators of files that follow the code: READMEs, dvc.yaml, the dashboard, compiled pipelines."""
