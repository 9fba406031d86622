"""Divides a stage's expensive work over tasks, whose parts the stage's ordinary run then finds done.

A shard's part is sealed and published like every output, under the name `<stage>.shard-<i>-of-<n>`. The run that
merges the parts seals what it would have sealed without them, so that n is nowhere in its manifest: how often the
work was divided is a matter of the recipe's compute, not of the result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pathoflow.contract.sealing import SealedFile, read_manifest, verify, work_key
from pathoflow.errors import ConfigError, InputError

_NAME = re.compile(r"(?P<stage>\w+)\.shard-\d+-of-\d+")


@dataclass(frozen=True)
class Shard:
    """One of `count` shards of a stage's work, counted from 1."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parses a shard as it is written on the command line and in the pipeline.

        Raises:
            ConfigError: It is not `i/n` with 1 ≤ i ≤ n.

        >>> Shard.parse("2/8").name("textbook_pairs")
        'textbook_pairs.shard-2-of-8'
        """
        match = re.fullmatch(r"(\d{1,4})/(\d{1,4})", text)
        shard = cls(int(match[1]), int(match[2])) if match else None
        if shard is None or not 1 <= shard.index <= shard.count:
            raise ConfigError(f"--shard {text}: write it as i/n with i from 1 to n, such as 2/8.")
        return shard

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def name(self, stage: str) -> str:
        """Returns the name under which the shard's part is sealed, published, tracked and shown."""
        return f"{stage}.shard-{self.index}-of-{self.count}"

    def owns(self, number: int) -> bool:
        """Returns whether the unit of work with this number, from 0, is this shard's: every count-th one.

        >>> [number for number in range(7) if Shard(2, 3).owns(number)]
        [1, 4]
        """
        return number % self.count == self.index - 1


def shard_names(stage: str, count: int) -> list[str]:
    """Returns the names of all parts of a stage; none where it is not divided.

    >>> shard_names("public_pairs", 2), shard_names("public_pairs", 1)
    (['public_pairs.shard-1-of-2', 'public_pairs.shard-2-of-2'], [])
    """
    return [Shard(index, count).name(stage) for index in range(1, count + 1)] if count > 1 else []


def stage_of(name: str) -> str:
    """Returns the stage that a part or a whole output belongs to.

    >>> stage_of("public_pairs.shard-1-of-2"), stage_of("public_pairs")
    ('public_pairs', 'public_pairs')
    """
    match = _NAME.fullmatch(name)
    return match["stage"] if match else name


@dataclass(frozen=True)
class Work:
    """Everything that decides a stage's output: equal works make equal outputs.

    Attributes:
        stage: The stage.
        config_digest: Digest of its configuration.
        code_digest: Digest of its code.
        inputs: Identities of its inputs.
        external_files: Files from outside that it reads.
    """

    stage: str
    config_digest: str
    code_digest: str
    inputs: dict[str, str]
    external_files: tuple[SealedFile, ...]

    def key(self, name: str) -> str:
        """Returns the key of the whole work, by the stage's name, or of a part of it."""
        return work_key(name, self.config_digest, self.code_digest, self.inputs, self.external_files)

    def is_done_in(self, directory: Path) -> bool:
        """Returns whether a sealed directory is a part of this very work."""
        manifest = read_manifest(directory)
        return stage_of(manifest.stage) == self.stage and manifest.key == self.key(manifest.stage)


def parts_of(work: Work, given: Sequence[Path], root: Path) -> list[Path]:
    """Returns the verified parts that a merging run begins with, sorted by name.

    A part that is not there is no error: the merging run does its work itself, as a run without shards does all of
    it. A part that is there has to be whole, since it would be sealed unseen.

    Args:
        work: The stage's whole work.
        given: Parts that the pipeline hands over.
        root: Holds parts that were made here before; those of other work (an older configuration's) are left alone.

    Raises:
        SealError: A part is broken.
        InputError: A given part is of other work.
    """
    for directory in given:
        if not work.is_done_in(directory):
            raise InputError(
                f"{directory} is no part of this {work.stage}: it was made with another configuration, other code or "
                f"from other files. Run the shards of {work.stage} again."
            )
    found = [path for path in root.glob(f"{work.stage}.shard-*-of-*") if path.is_dir() and work.is_done_in(path)]
    by_name: Mapping[str, Path] = {read_manifest(path).stage: path for path in (*found, *given)}
    for path in by_name.values():
        verify(path)
    return [by_name[name] for name in sorted(by_name)]
