"""Where outputs go: DVC remotes, MLflow and S3 buckets."""
