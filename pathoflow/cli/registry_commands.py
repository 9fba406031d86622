"""The registry's commands: promote, approve, rollback, demote, registry, fetch, card, log and keys."""

from __future__ import annotations

import os
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from pathoflow.governance.registry.access import Registry

log = typer.Typer(help="The decision log.", no_args_is_help=True)
keys = typer.Typer(help="Keys to sign with, and the folder of those that are trusted.", no_args_is_help=True)


class Target(StrEnum):
    """Environments that a version is promoted to."""

    staging = "staging"
    prod = "prod"


class KeyKind(StrEnum):
    """Kinds of keys."""

    ec = "ec"
    ed25519 = "ed25519"


class KeyRole(StrEnum):
    """Kinds of statements that a trusted key may sign."""

    registrar = "registrar"
    approver = "approver"


VersionArgument = Annotated[str, typer.Argument(help="MODEL/VERSION or MODEL@ALIAS.", metavar="MODEL/VERSION")]
ModelArgument = Annotated[str, typer.Argument(help="The model's name, without the environment.", metavar="MODEL")]
WorkdirOption = Annotated[
    Path | None,
    typer.Option(help="The registry of a local run. Default: the one that the environment names.", metavar="DIR"),
]
KeyOption = Annotated[
    Path | None,
    typer.Option(help="The private key that signs. Default: PATHOFLOW_SIGNING_KEY.", metavar="FILE"),
]
EnvironmentOption = Annotated[Target, typer.Option("--environment", help="The environment whose champion moves.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for the log.")]


def promote(
    version: VersionArgument,
    to: Annotated[Target, typer.Option("--to", help="The environment that it enters, from the one before.")],
    gates: Annotated[
        str | None,
        typer.Option(
            help="A recipe with a gates.yaml, or such a file. Default: PATHOFLOW_GATES; with --workdir, its recipe.",
            metavar="RECIPE|FILE",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask the gates and print their verdicts only.")] = False,
    workdir: WorkdirOption = None,
    key: KeyOption = None,
    sources: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the books and archives from outside, where they are not at the recorded path.",
            metavar="DIR",
        ),
    ] = None,
    code: Annotated[
        Path | None,
        typer.Option(help="Clone in which the recorded commits are looked up. Default: this one.", metavar="DIR"),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make a version the champion of the next environment, if every gate passes.

    Examples:
    - `pathoflow promote patho-r1/3 --to staging --gates paper_7b --dry-run`
    - `pathoflow promote patho-r1/1 --to prod`: version 1 of `patho-r1.staging`, once it is approved
    """
    from pathoflow.cli.registry import promote_version

    recipe = gates or os.environ.get("PATHOFLOW_GATES") or _recipe_of(workdir)
    opened = _registry(workdir, key)
    opened = replace(opened, sources=sources, code=code or opened.code)
    raise typer.Exit(promote_version(opened, version, to.value, recipe, dry_run=dry_run, as_json=json))


def approve(
    version: Annotated[
        str, typer.Argument(help="MODEL/VERSION in the environment before.", metavar="MODEL/VERSION")
    ] = "",
    to: Annotated[Target, typer.Option("--to", help="The environment that the weights may enter.")] = Target.prod,
    key: KeyOption = None,
    days: Annotated[float, typer.Option(min=0.001, max=366, help="How long the approval counts.")] = 30,
    comment: Annotated[str, typer.Option(help="What was looked at.")] = "",
    revoke: Annotated[str | None, typer.Option(help="Take this approval back instead.", metavar="ID")] = None,
    workdir: WorkdirOption = None,
) -> None:
    """Sign a version's weights with your approver's key, or take an approval back.

    Examples:
    - `pathoflow approve patho-r1/1 --key approver.key --days 14 --comment "read the dossier"`
    - `pathoflow approve --revoke 0123456789ab --key approver.key`
    """
    from pathoflow.cli.registry import approve_version, revoke_approval

    registry = _registry(workdir, key)
    if revoke is not None:
        revoke_approval(registry, revoke, comment)
    elif not version:
        raise typer.BadParameter("name a MODEL/VERSION, or an approval to --revoke")
    else:
        approve_version(registry, version, to.value, days, comment)


def rollback(
    model: ModelArgument,
    environment: EnvironmentOption = Target.prod,
    reason: ReasonOption = "",
    workdir: WorkdirOption = None,
    key: KeyOption = None,
) -> None:
    """Serve the champion before the present one again, once its every byte was verified."""
    from pathoflow.cli.registry import print_outcome
    from pathoflow.governance.registry.promotion import roll_back

    print_outcome(roll_back(_registry(workdir, key), model, environment.value, reason))


def demote(
    model: ModelArgument,
    environment: EnvironmentOption = Target.prod,
    reason: ReasonOption = "",
    workdir: WorkdirOption = None,
    key: KeyOption = None,
) -> None:
    """Take an environment's champion away: nothing is served there until a promotion or a rollback."""
    from pathoflow.cli.registry import print_outcome
    from pathoflow.governance.registry.promotion import demote as take_away

    print_outcome(take_away(_registry(workdir, key), model, environment.value, reason))


def registry(
    model: Annotated[str, typer.Argument(help="Show this model only.", metavar="[MODEL]")] = "",
    repair: Annotated[
        bool, typer.Option("--repair", help="Finish what a killed command left, put moved aliases back.")
    ] = False,
    workdir: WorkdirOption = None,
    key: KeyOption = None,
    json: JsonOption = False,
) -> None:
    """Show the environments, versions and figures of each model, and who moved what when."""
    from pathoflow.cli.registry import show_registry

    raise typer.Exit(show_registry(_registry(workdir, key), model, repair=repair, as_json=json))


def fetch(
    version: VersionArgument,
    out: Annotated[Path, typer.Option(help="Gets the model; must not exist.", metavar="DIR")],
    workdir: WorkdirOption = None,
) -> None:
    """Download a version's model, and keep it only if every byte is what was signed."""
    from pathoflow.governance.registry.loading import fetch_verified

    label = fetch_verified(_registry(workdir, None), version, out)
    typer.echo(f"{label} in {out}: signature and every byte verified")


def card(version: VersionArgument, workdir: WorkdirOption = None) -> None:
    """Print a version's model card, once it was compared with what the log says of it."""
    from pathoflow.governance.registry.cards import read
    from pathoflow.governance.registry.verification import find_version

    opened = _registry(workdir, None)
    typer.echo(read(opened, find_version(opened, version)))


@log.command(name="verify")
def log_verify(
    workdir: WorkdirOption = None,
    head: Annotated[
        str | None,
        typer.Option(help="A head that was noted earlier: the log must still hold it.", metavar="NUMBER:DIGEST"),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check every entry's signature, the chain, its head and the notes of it elsewhere; exit 8 if it was changed."""
    from pathoflow.cli.registry import verify_log

    raise typer.Exit(verify_log(_registry(workdir, None), head, as_json=json))


@log.command(name="show")
def log_show(
    model: Annotated[str, typer.Argument(help="Show this model only.", metavar="[MODEL]")] = "",
    workdir: WorkdirOption = None,
    json: JsonOption = False,
) -> None:
    """Show the decisions, the latest last."""
    from pathoflow.cli.registry import show_log

    show_log(_registry(workdir, None), model, as_json=json)


@keys.command(name="new")
def keys_new(
    path: Annotated[Path, typer.Argument(help="Gets the private key; the public one goes to PATH's name.pub.")],
    kind: Annotated[
        KeyKind,
        typer.Option(help="Either serves for every role; the stock model-signing reads signatures by `ec` keys only."),
    ] = KeyKind.ec,
) -> None:
    """Make a key pair. A password for the private key is taken from PATHOFLOW_KEY_PASSWORD."""
    from pathoflow.governance.signing import make_key
    from pathoflow.system.files import write_atomically

    key = make_key(path, kind.value)
    public = path.with_suffix(".pub")
    write_atomically(public, key.public.pem)
    typer.echo(f"{path}: private, keep it\n{public}: public, fingerprint {key.public.fingerprint}")


@keys.command(name="trust")
def keys_trust(
    public: Annotated[Path, typer.Argument(help="A public key; its name is its holder's.", metavar="NAME.pub")],
    role: Annotated[KeyRole, typer.Option("--as", help="What its signature counts for.")],
    workdir: WorkdirOption = None,
) -> None:
    """Add a public key to the folder of trusted keys. Compare its fingerprint with its holder's first."""
    from pathoflow.governance.signing import PublicKey, TrustedKeys

    folder = _registry(workdir, None).trusted_folder
    key = PublicKey.load(public)
    TrustedKeys.add(folder, role.value, key)
    typer.echo(f"{key.name} ({key.kind}, {key.fingerprint}) is trusted as {role.value} in {folder}")


@keys.command(name="retire")
def keys_retire(
    name: Annotated[str, typer.Argument(help="The name of a trusted key.", metavar="NAME")],
    workdir: WorkdirOption = None,
) -> None:
    """Take a trusted key out of use: what it signed so far stays readable, nothing newer counts."""
    from pathoflow.governance.signing import TrustedKeys

    opened = _registry(workdir, None)
    seq = opened.log.head().seq
    TrustedKeys.retire(opened.trusted_folder, name, seq)
    typer.echo(f"{name} counts no more after entry {seq} of the log. Its approvals and model signatures count no more.")


def add_to(app: typer.Typer) -> None:
    """Adds the registry's commands to the command line."""
    for command in (registry, promote, approve, rollback, demote, fetch, card):
        app.command()(command)
    app.add_typer(log, name="log")
    app.add_typer(keys, name="keys")


def _registry(workdir: Path | None, key: Path | None) -> Registry:
    from pathoflow.governance.registry.access import Registry as Access

    # A server that is away is told of soon; MLflow's own default waits for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
    return Access.of_workdir(workdir, key) if workdir else Access.from_environment(key)


def _recipe_of(workdir: Path | None) -> str:
    """The recipe whose gates are asked where none is named.

    Raises:
        ConfigError: There is no way to know; gates are nothing to be guessed.
    """
    from pathoflow.contract.workdir import WorkDir
    from pathoflow.errors import ConfigError

    run = WorkDir(workdir).read_run() if workdir else None
    if run is None:
        raise ConfigError("Which gates? Name a recipe or a file with --gates, or in PATHOFLOW_GATES.")
    return run.recipe
