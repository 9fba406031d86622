"""The exit task of a run on a cluster, which cleans up and says how the run ended, however it ended."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from kfp import dsl

from pathoflow.cluster.settings import CHECKPOINTS_CLAIM, CHECKPOINTS_PATH, Cluster
from pathoflow.recipe import Recipe
from pipelines.pod import equip, keep_small, mount

STAGES = "stages"
"""Name of the group of all tasks but the exit task."""
