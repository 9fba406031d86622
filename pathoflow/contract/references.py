"""Refers to sealed outputs: references travel between stages instead of data.

A reference is a small JSON document that names a sealed output by its identity and says where its bytes are: in a
DVC remote (data) or in MLflow's artifact store (models).
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pathoflow.contract.config import OutputKind
from pathoflow.contract.sealing import read_manifest, verify
from pathoflow.contract.workdir import WorkDir
from pathoflow.errors import SealError


class Reference(BaseModel):
    """Location of a stage's sealed output.

    `dvc_md5` and `dvc_remote` are set for data that was versioned, `model_uri` for models that were logged; `run_id` is
    the MLflow run that published it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    kind: OutputKind
    identity: str
    dvc_md5: str | None = None
    dvc_remote: str | None = None
    model_uri: str | None = None
    run_id: str | None = None


def fetch(reference: Reference, workdir: WorkDir, tracking_uri: str) -> Path:
    """Returns the directory of the referenced output: the work directory's if it is that one, else a download.

    A download is checked whole. The bytes of a directory that was there are checked by whoever uses them; here only
    its identity is compared.

    Args:
        reference: The output to fetch.
        workdir: Keeps the download.
        tracking_uri: The MLflow that models are downloaded from.

    Raises:
        SealError: What lies at the reference is not what it names.
    """
    target = workdir.state / "fetched" / reference.identity.removeprefix("sha256:")[:16]
    for directory in (workdir.output(reference.stage), target):
        if directory.is_dir() and read_manifest(directory).identity == reference.identity:
            return directory
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    downloaded = _download(reference, partial, workdir, tracking_uri)
    try:
        found = verify(downloaded).identity
    except SealError as error:
        raise SealError(
            f"What {reference.stage} published is damaged where it is stored: {error} If no good copy is left there, "
            f"run {reference.stage} again."
        ) from error
    if found != reference.identity:
        raise SealError(f"The reference names {reference.identity}, but {found} of {reference.stage} is stored there.")
    shutil.rmtree(target, ignore_errors=True)
    downloaded.rename(target)
    shutil.rmtree(partial, ignore_errors=True)
    return target


def _download(reference: Reference, folder: Path, workdir: WorkDir, tracking_uri: str) -> Path:
    """Downloads the output into `folder` and returns where in it the output lies."""
    if reference.dvc_md5 and reference.dvc_remote:
        from pathoflow.stores.versioning import DvcStore

        target = folder / reference.stage
        DvcStore(workdir.dvc, reference.dvc_remote).pull(reference.stage, reference.dvc_md5, target)
        return target
    if reference.model_uri:
        from pathoflow.stores.tracking import download_model

        return download_model(reference.model_uri, folder, tracking_uri)
    raise SealError(
        f"The output of {reference.stage} was not published, and {workdir.output(reference.stage)} is not it. "
        f"Run {reference.stage} again."
    )
