"""Publishes a sealed output in its stage's MLflow run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pathoflow.contract.sealing import MANIFEST_FILE, Manifest

if TYPE_CHECKING:
    from pathoflow.stores.tracking import StageRun


def log_output(
    run: StageRun, manifest: Manifest, output: Path, *, log_model: bool, reference: str | None = None
) -> None:
    """Logs an output and ends its stage's run: figures, identity, manifest and plots, and all files of a model.

    Args:
        run: The stage's run.
        manifest: The output's manifest.
        output: The output.
        log_model: Whether its files are logged, too.
        reference: The output's reference as JSON, so that what stands on the output can be traced to its bytes.
    """
    from pathoflow.stores.tracking import IDENTITY_TAG, MODEL_PATH, REFERENCE_TAG

    counts = manifest.counts
    figures = {
        **manifest.metrics,
        "num_in": counts.num_in,
        "num_out": counts.num_out,
        "num_quarantined": sum(counts.quarantined.values()),
    }
    tags = {
        IDENTITY_TAG: manifest.identity,
        "pathoflow.config_digest": manifest.config_digest,
        "pathoflow.code_commit": manifest.code.commit or "unknown",
        **({REFERENCE_TAG: reference} if reference else {}),
        **{f"pathoflow.note.{name}": value for name, value in manifest.notes.items()},
    }
    folders = {"plots": output / "plots"} | ({MODEL_PATH: output} if log_model else {})
    run.finish(figures, tags, output / MANIFEST_FILE, {name: path for name, path in folders.items() if path.is_dir()})
