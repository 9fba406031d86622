"""Settings of a cluster: one ConfigMap per overlay, which kustomize and the command line both read."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pathoflow.contract.config import ImageKind
from pathoflow.contract.needs import HUB_SECRET, SIGNING_SECRET
from pathoflow.errors import ConfigError

PARAMETERS_FILE = "parameters.yaml"

# Names that the manifests and the compiled pipelines agree on.
RUNNER_ACCOUNT = "pathoflow-runner"
"""Service account of the pipeline's pods; it may create TrainJobs."""
TRAINER_ACCOUNT = "pathoflow-trainer"
"""Service account of a TrainJob's pods; it may do nothing and mounts no token."""
CHECKPOINTS_CLAIM = "pathoflow-checkpoints"
"""Volume claim, read and written by many pods, that outlives every run."""
CHECKPOINTS_PATH = "/checkpoints"
"""Where pods mount it."""
OBJECT_STORE_SECRET = "pathoflow-object-store"
"""Holds `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`."""
MLFLOW_SECRET = "pathoflow-mlflow"
"""Holds `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`."""
SECRET_KEYS = {
    OBJECT_STORE_SECRET: ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    MLFLOW_SECRET: ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
    HUB_SECRET: ("HF_TOKEN",),
    SIGNING_SECRET: ("key.pem",),
}
"""The keys of each secret whose keys no recipe names."""
TRUSTED_KEYS = "pathoflow-trusted-keys"
"""ConfigMap with the public keys that count, each as `<name>.pub`."""
SOURCES_PATH = "/sources"
"""Where stages that read files from outside mount the claim with them."""
TORCHRUN_RUNTIME = "pathoflow-torchrun"
"""TrainingRuntime of CPT and SFT over several nodes."""
ROLLOUT_RUNTIME = "pathoflow-rl"
"""TrainingRuntime of RL over several nodes, with a vLLM server for the rollouts."""
METRICS_PORT = 9464
"""Port `metrics`, on which process 0 of a training tells Prometheus how it goes."""

PART_OF_LABEL = "app.kubernetes.io/part-of"
"""Label of everything that is ours; its value is `PART_OF`."""
PART_OF = "pathoflow"
COMPONENT_LABEL = "app.kubernetes.io/component"
"""Label with the stage, or the service, that an object belongs to."""
EGRESS_LABEL = "pathoflow/egress-"
"""Begins the label of pods that a network policy lets out; the kind of egress ends it, and `allowed` is its value."""
KFP_RUN_LABEL = "pipeline/runid"
"""Label with the run's id that Kubeflow Pipelines puts on each pod of a run."""
USER_ID = 10001
"""Number of the user and of the group in every image."""
LOCAL_IMAGES: dict[ImageKind, str] = {
    "cpu": "pathoflow-cpu:0.1.0",
    "train": "pathoflow-train:0.1.0",
    "rl": "pathoflow-rl:0.1.0",
}
"""What `make images` calls the images, for runs on one machine."""
PLACEHOLDER_DIGEST = "sha256:" + 64 * "0"
"""Stands in the shipped overlays where the digests of your images belong."""

_NAME = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_CIDR = r"^\d{1,3}(\.\d{1,3}){3}/\d{1,2}$"
_IMAGE = r"^[a-z0-9][a-z0-9._/:-]*(@sha256:[0-9a-f]{64})?$"


class Cluster(BaseModel):
    """The parameters of one overlay.

    They are the `data` of the ConfigMap `pathoflow-parameters` in the overlay's `parameters.yaml`: kustomize puts them
    into the manifests, `pathoflow compile --cluster` into the pipeline.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: str = Field(pattern=_NAME, description="Namespace of runs and services.")
    cpu_image: str = Field(pattern=_IMAGE, description="Image of data, evaluation and report stages, and of MLflow.")
    train_image: str = Field(pattern=_IMAGE, description="Image of stages with GPUs.")
    rl_image: str = Field(pattern=_IMAGE, description="Image of RL and of its vLLM server.")
    postgres_image: str = Field(pattern=_IMAGE, description="PostgreSQL, which holds MLflow's records.")
    image_pull_secret: str = Field("", description="Secret with the registry's login; empty for a public registry.")
    storage_class: str = Field(description="Storage class of PostgreSQL's volume.")
    shared_storage_class: str = Field(description="Storage class of the checkpoints, which many pods mount at once.")
    checkpoints_size: str = Field(pattern=r"^\d+[GT]i$", description="Size of the volume with checkpoints.")
    object_store: str = Field(pattern=r"^https?://[^/:]+:\d+$", description="S3 endpoint, with its port.")
    data_bucket: str = Field(description="Bucket and prefix of DVC's remote.", pattern=r"^[a-z0-9][a-z0-9./-]+$")
    model_bucket: str = Field(description="Bucket and prefix of MLflow's files.", pattern=r"^[a-z0-9][a-z0-9./-]+$")
    backup_bucket: str = Field(
        "pathoflow-backup/postgres",
        description="Bucket and prefix of PostgreSQL's nightly dumps.",
        pattern=r"^[a-z0-9][a-z0-9./-]+$",
    )
    mlflow: str = Field(pattern=r"^https?://[^/]+$", description="MLflow's address from inside the cluster.")
    mlflow_host: str = Field(
        "", pattern=r"^[a-z0-9.-]*$", description="MLflow's host name for browsers; empty: by port-forward only."
    )
    kfp: str = Field(pattern=r"^https?://[^/]+", description="Kubeflow Pipelines' address, for `pathoflow submit`.")
    kfp_namespace: str = Field("kubeflow", pattern=_NAME, description="Namespace of Kubeflow Pipelines' services.")
    monitoring_namespace: str = Field("monitoring", pattern=_NAME, description="Namespace of Prometheus.")
    queue: str = Field("", description="Kueue LocalQueue that admits training; empty where there is no Kueue.")
    queue_gpus: str = Field("0", pattern=r"^\d+$", description="GPUs that the queue may give out.")
    queue_cpu: str = Field("0", pattern=r"^\d+$", description="CPU cores that the queue may give out.")
    queue_memory: str = Field("0", pattern=r"^(0|\d+[GT]i)$", description="Memory that the queue may give out.")
    sources_claim: str = Field(
        "", description=f"Claim with books and public data, mounted at {SOURCES_PATH}; empty where there is none."
    )
    fixed_user: Literal["true", "false"] = Field(
        "true",
        description="Whether containers run as the images' own user; `false` where the cluster gives out numbers, as "
        "OpenShift's restricted-v2 does.",
    )
    api_server_cidr: str = Field(
        "10.0.0.0/8", pattern=_CIDR, description="Addresses of the Kubernetes API server, for the network policies."
    )
    object_store_cidr: str = Field(
        "10.0.0.0/8", pattern=_CIDR, description="Addresses of the S3 endpoint, for the network policies."
    )

    @property
    def dvc_remote(self) -> str:
        """URL of DVC's remote."""
        return f"s3://{self.data_bucket}"

    @property
    def registry(self) -> str:
        """URL of the registry's signatures and decision log."""
        return f"s3://{self.model_bucket}/registry"

    def image(self, kind: ImageKind) -> str:
        """The image of a kind of stage."""
        return {"cpu": self.cpu_image, "train": self.train_image, "rl": self.rl_image}[kind]

    def placeholders(self) -> list[str]:
        """The image parameters in which nobody has written a digest yet."""
        return [
            name
            for name in ("cpu_image", "train_image", "rl_image", "postgres_image")
            if getattr(self, name).endswith(PLACEHOLDER_DIGEST)
        ]


def load_cluster(place: Path) -> Cluster:
    """Reads the parameters of an overlay.

    Args:
        place: The overlay's folder, or its `parameters.yaml`.

    Raises:
        ConfigError: There are none, or one is wrong; the message names it.
    """
    path = place / PARAMETERS_FILE if place.is_dir() else place
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is missing. Give an overlay, such as manifests/overlays/single-gpu.") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict) or document.get("kind") != "ConfigMap":
        raise ConfigError(f"{path} must be a ConfigMap with an overlay's parameters.")
    try:
        return Cluster.model_validate(document.get("data") or {})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise ConfigError(f"{path}: {faults}") from error
