"""Lists GPUs with their memory, bandwidth and peak operations."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """Kind of GPU.

    Attributes:
        name: As `--gpu` takes it.
        memory: Bytes that a process can have, a little below what the data sheet says.
        tflops: Dense peak in bfloat16, in 10^12 operations a second.
        float32_tflops: Peak in float32 without TF32, which pathoclip computes in.
        bandwidth: Bytes a second between memory and cores.
    """

    name: str
    memory: float
    tflops: float
    float32_tflops: float
    bandwidth: float


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("a100-40", 39.4 * GIB, 312.0, 19.5, 1.56e12),
        Gpu("a100-80", 79.1 * GIB, 312.0, 19.5, 2.04e12),
        Gpu("l40s", 44.4 * GIB, 362.0, 91.6, 0.86e12),
        Gpu("h100-80", 79.1 * GIB, 989.4, 66.9, 3.35e12),
        Gpu("h200", 139.8 * GIB, 989.4, 66.9, 4.8e12),
        Gpu("b200", 178.3 * GIB, 2250.0, 75.0, 7.7e12),
    )
}
"""Source: the makers' data sheets; memory as CUDA reports it."""
