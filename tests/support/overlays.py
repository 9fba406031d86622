"""Parameters of overlays that tests make up."""

from __future__ import annotations

from pathlib import Path

import yaml


def parameters(**changes: str) -> dict[str, str]:
    """The parameters of a cluster with everything."""
    return {
        "namespace": "ml",
        "cpu_image": f"registry.example/pathoflow-cpu@sha256:{64 * 'a'}",
        "train_image": f"registry.example/pathoflow-train@sha256:{64 * 'b'}",
        "rl_image": f"registry.example/pathoflow-rl@sha256:{64 * 'c'}",
        "postgres_image": f"registry.example/postgres@sha256:{64 * 'd'}",
        "storage_class": "fast",
        "shared_storage_class": "shared",
        "checkpoints_size": "2Ti",
        "object_store": "https://s3.example.org:443",
        "data_bucket": "data/dvc",
        "model_bucket": "models/mlflow",
        "mlflow": "http://mlflow.ml.svc:5000",
        "kfp": "https://kubeflow.example.org/pipeline",
        "queue": "training",
        **changes,
    }


def write_overlay(folder: Path, **changes: str) -> Path:
    """Writes an overlay's `parameters.yaml` and returns its folder."""
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "pathoflow-parameters"}}
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump({**config_map, "data": parameters(**changes)}, sort_keys=False)
    (folder / "parameters.yaml").write_text(text)
    return folder
