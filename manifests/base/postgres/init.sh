#!/bin/sh
# Runs once, on an empty volume: MLflow gets a role of its own, which owns its two databases and nothing else.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$MLFLOW_PASSWORD" --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE mlflow LOGIN PASSWORD :'password';
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE auth OWNER mlflow;
REVOKE CONNECT ON DATABASE mlflow, auth FROM PUBLIC;
SQL
