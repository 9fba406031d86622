"""Opens a registry: MLflow, the object store, the keys, and the person at work."""

from __future__ import annotations

import getpass
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pathoflow.contract.code import REPOSITORY
from pathoflow.contract.workdir import WorkDir
from pathoflow.errors import ConfigError, InputError, RegistryError, SignatureError
from pathoflow.governance.audit import Places
from pathoflow.governance.registry.decisions import DecisionLog
from pathoflow.governance.registry.entries import Anchor
from pathoflow.governance.registry.names import ENVIRONMENTS, registered, split
from pathoflow.governance.signing import KeyFile, TrustedKeys, make_key
from pathoflow.governance.signing.keys import THROWAWAY
from pathoflow.stores.objects import ObjectStore, open_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

STORE_VARIABLE = "PATHOFLOW_REGISTRY"
TRUSTED_VARIABLE = "PATHOFLOW_TRUSTED_KEYS"
KEY_VARIABLE = "PATHOFLOW_SIGNING_KEY"
ACTOR_VARIABLE = "PATHOFLOW_ACTOR"
ANCHOR_TAG = "pathoflow.log_head"
"""Tag of registered models: number and digest of a log entry, kept where whoever may change the log may not."""


@dataclass(frozen=True)
class Registry:
    """Access to one registry.

    Attributes:
        tracking_uri: MLflow, which keeps versions, tags and aliases.
        objects: Keeps signatures, cards, records and the decision log.
        trusted_folder: The public keys that count.
        key_path: The private key of whoever is at work; commands that only read need none.
        actor: Who is at work.
        workdir: The work directory of a local registry.
        sources: Where an audit looks for files from outside that are not at their recorded path.
        code: The clone in which an audit looks recorded commits up.
    """

    tracking_uri: str
    objects: ObjectStore
    trusted_folder: Path
    key_path: Path | None
    actor: str
    workdir: WorkDir | None = None
    sources: Path | None = None
    code: Path = REPOSITORY

    @classmethod
    def from_environment(cls, key: Path | None = None) -> Registry:
        """Opens the registry that the environment names; beside a local MLflow store, the rest is found by itself.

        Raises:
            ConfigError: A part is not named; the message says which variable names it.
        """
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            raise ConfigError(
                "No registry is given. Set MLFLOW_TRACKING_URI, or name the work directory of a local run: "
                "--workdir runs/demo."
            )
        root = Path(uri.removeprefix("sqlite:///")).parent.parent if uri.startswith("sqlite:///") else None
        missing = [name for name in (STORE_VARIABLE, TRUSTED_VARIABLE) if not os.environ.get(name)]
        if root is None and missing:
            raise ConfigError(
                f"{missing[0]} is not set, and {uri} is no local store beside which it could be found. "
                f"Set {STORE_VARIABLE} to s3://bucket/prefix and {TRUSTED_VARIABLE} to the folder of trusted keys."
            )
        return cls._of(uri, root, key)

    @classmethod
    def of_workdir(cls, root: Path, key: Path | None = None) -> Registry:
        """Opens the registry of a local run.

        Raises:
            InputError: There is no MLflow store.
        """
        workdir = WorkDir(root)
        if not (workdir.mlflow / "mlflow.db").is_file():
            raise InputError(f"{root} has no MLflow store. Give the --workdir of a run.")
        if key is None and local_key(workdir.root).is_file():
            # A key of the environment belongs to the configured registry, and this one does not trust it.
            key = local_key(workdir.root)
        local = cls._of(workdir.tracking_uri, workdir.root, key)
        return cls(
            local.tracking_uri,
            open_store(str(workdir.root / "registry")),
            local_trusted(workdir.root),
            local.key_path,
            local.actor,
            workdir,
        )

    @classmethod
    def _of(cls, uri: str, root: Path | None, key: Path | None) -> Registry:
        trusted, store = os.environ.get(TRUSTED_VARIABLE), os.environ.get(STORE_VARIABLE)
        if root is not None:
            trusted, store = trusted or str(local_trusted(root)), store or str(root / "registry")
        if key is None and os.environ.get(KEY_VARIABLE):
            key = Path(os.environ[KEY_VARIABLE])
        elif key is None and root is not None and local_key(root).is_file():
            key = local_key(root)
        assert trusted is not None
        assert store is not None
        actor = os.environ.get(ACTOR_VARIABLE) or getpass.getuser()
        return cls(uri, open_store(store), Path(trusted), key, actor, WorkDir(root) if root else None)

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow."""
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)

    @cached_property
    def trusted(self) -> TrustedKeys:
        """The keys that count, as they are now."""
        return TrustedKeys.load(self.trusted_folder)

    @cached_property
    def key(self) -> KeyFile:
        """The private key of whoever is at work.

        Raises:
            SignatureError: None is named, it cannot be used, or its public half is not trusted.
        """
        if self.key_path is None:
            raise SignatureError(
                f"No key is given to sign with. Name one with --key or {KEY_VARIABLE}; `pathoflow keys new` makes one."
            )
        key = KeyFile.load(self.key_path)
        if self.trusted.role_of(key.public) is None:
            raise SignatureError(
                f"The public half of {self.key_path} is not trusted in {self.trusted_folder}: what it signs would "
                "count nowhere. Let whoever keeps that folder add it with `pathoflow keys trust`."
            )
        return key

    def require_key(self) -> None:
        """Makes sure that there is a registrar's key, before anything is begun that takes long or leaves a trace.

        Raises:
            SignatureError: There is none that will do.
        """
        key = self.key
        if self.trusted.role_of(key.public) != "registrar":
            raise SignatureError(
                f"{self.key_path} is an approver's key, and approvers move nothing. Use a registrar's: --key or "
                f"{KEY_VARIABLE}."
            )

    @property
    def log(self) -> DecisionLog:
        """The decision log, with its anchors in MLflow."""
        return DecisionLog(self.objects, self.trusted, _Anchors(self))

    @cached_property
    def places(self) -> Places:
        """The stores that hold what versions stand on."""
        if self.workdir is not None:
            return Places.of_workdir(self.workdir.root, sources=self.sources, repository=self.code)
        remote = os.environ.get("PATHOFLOW_DVC_REMOTE") or None
        return Places(self.tracking_uri, dvc_remote=remote, sources=self.sources, repository=self.code)


class _Anchors:
    """The log's head, noted on the registered models in MLflow."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def read(self, models: Collection[str]) -> list[Anchor]:
        """Returns every anchor, and those that are gone of models whose registered models are there."""
        with answering(self._registry.tracking_uri):
            tags = dict(self._tags())
        found = []
        for name, text in tags.items():
            number, _, digest = text.partition(":")
            seq = int(number) if number.isascii() and number.isdigit() else -1
            if text:
                found.append(Anchor(split(name)[0], seq, digest, f"tag {ANCHOR_TAG} of {name} in MLflow"))
        noted = {anchor.model for anchor in found}
        for model in sorted(set(models) - noted):
            if any(registered(model, environment) in tags for environment in ENVIRONMENTS):
                where = f"tag {ANCHOR_TAG} of {registered(model, 'dev')} in MLflow"
                found.append(Anchor(model, 0, "", where, gone=True))
        return found

    def _tags(self) -> Iterator[tuple[str, str]]:
        """Yields the anchor's text of every registered model, empty where there is none."""
        token = None
        while True:
            page = self._registry.client.search_registered_models(page_token=token)
            for model in page:
                yield model.name, model.tags.get(ANCHOR_TAG, "")
            token = page.token
            if not token:
                return

    def write(self, model: str, seq: int, digest: str) -> None:
        """Notes an entry on the dev environment of a model, if it is there."""
        from mlflow.exceptions import MlflowException

        try:
            with answering(self._registry.tracking_uri):
                self._registry.client.set_registered_model_tag(f"{model}.dev", ANCHOR_TAG, f"{seq}:{digest}")
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise


@contextmanager
def answering(uri: str) -> Iterator[None]:
    """Tells of a server that is away; what MLflow itself answers goes through.

    Raises:
        RegistryError: MLflow cannot be reached, or fails.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    remedy = "See to the server and run the same command again: what was begun is finished or taken back then."
    try:
        yield
    except MlflowException as error:
        if error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"):
            raise RegistryError(f"MLflow at {uri} fails: {str(error)[:300]}. {remedy}") from error
        if error.error_code in ("PERMISSION_DENIED", "UNAUTHENTICATED"):
            raise RegistryError(f"MLflow at {uri} refuses: {str(error)[:300]}. Check user and password.") from error
        raise
    except (OSError, SQLAlchemyError) as error:
        raise RegistryError(f"MLflow at {uri} cannot be reached: {str(error)[:300]}. {remedy}") from error


def local_trusted(root: Path) -> Path:
    """Returns the folder of trusted keys of a local registry."""
    return root / "keys" / "trusted"


def local_key(root: Path) -> Path:
    """Returns the throw-away key of a local registry."""
    return root / "keys" / f"{THROWAWAY}.key"


def make_throwaway_key(root: Path) -> None:
    """Gives a local registry a key of its own that it trusts, once: enough to try everything, and to trust nothing."""
    if not local_key(root).is_file():
        key = make_key(local_key(root), "ec")
        TrustedKeys.add(local_trusted(root), "registrar", key.public)
    elif not any((local_trusted(root) / "registrars").glob(f"{THROWAWAY}.pub")):
        TrustedKeys.add(local_trusted(root), "registrar", KeyFile.load(local_key(root)).public)
