"""Compares one stage's needs with its limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pathoflow.estimate.devices import GIB
from pathoflow.estimate.gpu_memory import Phase, peak_phase

_UNITS = {"K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


@dataclass(frozen=True)
class StageEstimate:
    """Needs of one stage; sizes in bytes, times in seconds.

    Attributes:
        stage: Its name.
        model: The model that it trains or evaluates.
        parameters: Parameters of the model, adapters included.
        learning: Those that learn.
        gpus: GPUs that it asks for, on all nodes; 0 computes on CPUs.
        phases: Memory of a GPU (or a process on CPUs) in each phase.
        gpu_limit: Memory of a GPU; None on CPUs.
        host: A node's memory by part.
        host_limit: Memory that the recipe requests; None if it does not say.
        shm: Bytes of /dev/shm.
        shm_limit: Size of /dev/shm that the recipe requests; None without a pod.
        disk: Disk by part.
        flops: Operations.
        seconds: Duration of the stage; None where that is not known.
        deadline: Seconds after which the recipe ends it; None for never.
        basis: Values that the figures rest on, in words.
        disk_limit: Disk for checkpoints; None where that is not known.
    """

    stage: str
    model: str
    parameters: int
    learning: int
    gpus: int
    phases: tuple[Phase, ...]
    gpu_limit: float | None
    host: Mapping[str, float]
    host_limit: float | None
    shm: float
    shm_limit: float | None
    disk: Mapping[str, float]
    flops: float
    seconds: float | None
    deadline: float | None
    basis: str
    disk_limit: float | None = None

    @property
    def peak(self) -> Phase:
        """Phase that needs most."""
        return peak_phase(list(self.phases))

    @property
    def host_total(self) -> float:
        """Bytes of a node's memory."""
        return sum(self.host.values())

    @property
    def gpu_hours(self) -> float | None:
        """GPUs times hours."""
        return None if self.seconds is None or not self.gpus else self.gpus * self.seconds / 3600

    def faults(self) -> list[str]:
        """Describes what does not fit."""
        checks = (
            (f"GPU memory ({self.peak.name})", self.peak.total, self.gpu_limit),
            ("host memory", self.host_total, self.host_limit),
            ("/dev/shm", self.shm, self.shm_limit),
            ("disk for checkpoints", self.disk.get("checkpoints", 0.0), self.disk_limit),
        )
        return [
            f"{what}: {need / GIB:.1f} GiB needed, {limit / GIB:.1f} GiB there"
            for what, need, limit in checks
            if limit is not None and need > limit
        ]


def bytes_of(quantity: str) -> float:
    """Converts a Kubernetes quantity to bytes.

    >>> bytes_of("64Gi") / 2**30, bytes_of("500M")
    (64.0, 500000000.0)
    """
    matched = re.fullmatch(r"(\d+)([KMGT]i?)", quantity)
    assert matched is not None
    return int(matched[1]) * float(_UNITS[matched[2]])
