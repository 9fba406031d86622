"""Finding the version that the user names: `MODEL`, `MODEL@ALIAS` or `MODEL/VERSION`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException

from pathoflow.errors import InputError
from pathoflow.governance.audit.stores import UnreachableError
from pathoflow.stores.tracking import IDENTITY_TAG

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

_NOT_THERE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
CHAMPION = "champion"


@dataclass(frozen=True)
class Version:
    """A registered version.

    Attributes:
        name: The registered model.
        number: The version's number, as text.
        aliases: Names that point at it.
        tags: Its tags.
        run_id: The MLflow run that made the model.
        source: What the registry says it stands for; another version where it is a copy.
        uri: Where its bytes lie.
        status: MLflow's word on it.
        created_at_ms: When it was registered, milliseconds since the epoch.
    """

    name: str
    number: str
    aliases: tuple[str, ...]
    tags: dict[str, str]
    run_id: str | None
    source: str
    uri: str
    status: str
    created_at_ms: int

    @property
    def label(self) -> str:
        """The version as it is written on the command line."""
        return f"{self.name}/{self.number}"


def model_stage(tags: Mapping[str, str]) -> str | None:
    """Returns the stage that trained a version, by the version's tags; None where they do not say.

    >>> identities = {"pathoflow.identity.sft": "sha256:a", "pathoflow.identity.rl": "sha256:b"}
    >>> model_stage({"pathoflow.identity": "sha256:b"} | identities)
    'rl'
    """
    prefix, identity = f"{IDENTITY_TAG}.", tags.get(IDENTITY_TAG)
    found = (tag.removeprefix(prefix) for tag, value in tags.items() if tag.startswith(prefix) and value == identity)
    return next(found, None)


def find_version(client: MlflowClient, asked: str) -> Version:
    """Finds the version that a user names; a model alone stands for its champion, or else its latest version.

    Raises:
        InputError: There is no such model, alias or version; the message lists those that exist.
        UnreachableError: The registry does not answer.
    """
    name, alias, number = _parse(asked)
    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        raise _explained(error, f"There is no model {name!r}.{_known_models(client, name)}") from error
    if alias is None and number is None and CHAMPION in model.aliases:
        alias = CHAMPION
    if alias is not None and alias not in model.aliases:
        known = ", ".join(sorted(model.aliases)) or "none"
        raise InputError(f"{name} has no alias {alias!r}. Its aliases: {known}.")
    if alias is not None:
        number = str(model.aliases[alias])
    return load_version(client, model, number or _latest(client, name))


def load_version(client: MlflowClient, model: RegisteredModel, number: str) -> Version:
    """Loads one version of a model, with where its bytes lie.

    Raises:
        InputError: There is no such version.
        UnreachableError: The registry does not answer.
    """
    try:
        found: ModelVersion = client.get_model_version(model.name, number)
        uri = client.get_model_version_download_uri(model.name, number)
    except MlflowException as error:
        known = ", ".join(sorted(str(item.version) for item in _versions(client, model.name))[:20]) or "none"
        raise _explained(error, f"{model.name} has no version {number}. Its versions: {known}.") from error
    return Version(
        name=model.name,
        number=str(found.version),
        aliases=tuple(sorted(alias for alias, target in model.aliases.items() if str(target) == str(found.version))),
        tags=dict(found.tags),
        run_id=found.run_id or None,
        source=found.source or "",
        uri=str(uri or ""),
        status=str(found.status),
        created_at_ms=int(found.creation_timestamp or 0),
    )


def all_versions(client: MlflowClient) -> list[Version]:
    """Returns every version of every model.

    Raises:
        UnreachableError: The registry does not answer.
    """
    try:
        models = list(_pages(lambda token: client.search_registered_models(page_token=token)))
        # A search result may lack the aliases.
        return [
            load_version(client, client.get_registered_model(model.name), str(version.version))
            for model in models
            for version in _versions(client, model.name)
        ]
    except MlflowException as error:
        raise UnreachableError(str(error)) from error


def _parse(asked: str) -> tuple[str, str | None, str | None]:
    """Splits what was asked into name, alias and version number.

    >>> _parse("patho-r1.dev@champion"), _parse("two words/7"), _parse("patho-r1.dev")
    (('patho-r1.dev', 'champion', None), ('two words', None, '7'), ('patho-r1.dev', None, None))
    """
    head, at, alias = asked.rpartition("@")
    if at and head:
        return head, alias, None
    head, slash, number = asked.rpartition("/")
    if slash and head:
        if not number.isascii() or not number.isdigit():
            raise InputError(f"{number!r} in {asked!r} is no version. Write MODEL/3, MODEL@champion or MODEL.")
        return head, None, str(int(number))
    return asked, None, None


def _latest(client: MlflowClient, name: str) -> str:
    versions = _versions(client, name)
    if not versions:
        raise InputError(f"{name} has no version.")
    return str(max(int(version.version) for version in versions))


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    quote = next((mark for mark in "'\"" if mark not in name), None)
    query = f"name = {quote}{name}{quote}" if quote else None
    found = _pages(lambda token: client.search_model_versions(query, page_token=token))
    return [version for version in found if version.name == name]


def _pages(search: Callable[[str | None], Any]) -> Iterator[Any]:
    """Yields every item of a search that MLflow answers in pages."""
    token = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def _known_models(client: MlflowClient, name: str) -> str:
    try:
        known = sorted(model.name for model in _pages(lambda token: client.search_registered_models(page_token=token)))
    except MlflowException:
        return ""
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} Known: {', '.join(known[:20]) or 'none'}."


def _explained(error: MlflowException, message: str) -> Exception:
    return InputError(message) if error.error_code in _NOT_THERE else UnreachableError(str(error))
