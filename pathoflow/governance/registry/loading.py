"""Getting a version's model for use: every byte is verified before anybody sees it."""

from __future__ import annotations

import shutil
from pathlib import Path

from pathoflow.contract.sealing import verify
from pathoflow.errors import InputError, RegistryError, SealError, SignatureError
from pathoflow.governance.audit.stores import MissingError, UnreachableError
from pathoflow.governance.registry.access import Registry, answering
from pathoflow.governance.registry.verification import find_version, verify_signature
from pathoflow.stores.tracking import IDENTITY_TAG, download_model


def fetch_verified(registry: Registry, asked: str, target: Path) -> str:
    """Downloads a version's model to `target`, which appears only once the signature and every byte were verified.

    Returns:
        The version, as `name/number`.

    Raises:
        InputError: There is no such version, or `target` exists.
        SignatureError: The bytes are not those that were signed.
        RegistryError: They cannot be reached.
    """
    if target.exists():
        raise InputError(f"{target} exists. Name a folder that does not.")
    version = find_version(registry, asked)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        # Where a work directory lies now, not where it was made.
        place = registry.places.artifacts(version.uri).root
        with answering(registry.tracking_uri):
            downloaded = download_model(place, partial, registry.tracking_uri)
        manifest = verify(downloaded)
        if manifest.identity != version.tags.get(IDENTITY_TAG):
            raise SignatureError(
                f"{version.label} serves {manifest.identity}, but its tags say {version.tags.get(IDENTITY_TAG)}."
            )
        verify_signature(registry, manifest)
        downloaded.rename(target)
    except (MissingError, UnreachableError) as error:
        raise RegistryError(f"The files of {version.label} cannot be reached: {error}") from error
    except SealError as error:
        raise SignatureError(f"{version.label} is damaged where it is stored: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return version.label
