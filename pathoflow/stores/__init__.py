"""The stores that outputs go to: DVC remotes, MLflow and S3 buckets."""
