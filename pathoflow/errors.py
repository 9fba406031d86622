"""The errors that a user of pathoflow can meet.

```
PathoflowError            exit 1   anything that stops a command
├── ConfigError           exit 2   a recipe, an override or an option is wrong
├── InputError            exit 3   an input is missing, empty or unreadable as a whole
├── SealError             exit 4   a sealed output is broken or was changed
├── QuarantineError       exit 5   more records were quarantined than the recipe tolerates
├── BusyError             exit 6   another run holds the work directory
├── StageError            exit 7   a stage failed; its log says where
├── SignatureError        exit 8   a key cannot be used, or a signature does not hold
├── RefusedError          exit 9   a gate or an approval refuses what was asked of the registry
├── RegistryError         exit 10  the registry cannot be reached, or its records contradict each other
├── ClusterError          exit 11  the cluster cannot be reached, refuses, or cannot run what was asked of it
└── Preempted             exit 75  stopped on request after a checkpoint: run the same command again
    └── Standstill        exit 75  a training ended itself because it stood still: the same command goes on
```

Every message says what was wrong, where, and what to do.
"""

from __future__ import annotations


class PathoflowError(Exception):
    """Stops a command with a message for its user."""

    exit_code = 1


class ConfigError(PathoflowError):
    """A recipe, an override or a command-line option is wrong."""

    exit_code = 2


class InputError(PathoflowError):
    """An input is missing, empty or unreadable as a whole."""

    exit_code = 3


class SealError(PathoflowError):
    """A sealed output is missing, incomplete or no longer what was sealed."""

    exit_code = 4


class QuarantineError(PathoflowError):
    """A larger share of the records was quarantined than the recipe tolerates."""

    exit_code = 5


class BusyError(PathoflowError):
    """Another process works in the same work directory."""

    exit_code = 6


class StageError(PathoflowError):
    """A stage failed for a reason that is not the user's configuration or input."""

    exit_code = 7


class SignatureError(PathoflowError):
    """A key cannot be used, or a signature does not hold."""

    exit_code = 8


class RefusedError(PathoflowError):
    """A gate, an approval or the state of the registry refuses what was asked of it."""

    exit_code = 9


class RegistryError(PathoflowError):
    """The registry or its object store cannot be reached, or its records contradict each other."""

    exit_code = 10


class ClusterError(PathoflowError):
    """The cluster cannot be reached, refuses what was asked, or cannot run it."""

    exit_code = 11


class Preempted(PathoflowError):
    """A stage stopped on request after writing a checkpoint; it can be resumed.

    The exit code is `EX_TEMPFAIL` of `sysexits.h`: the same command, run again, finishes the job.
    """

    exit_code = 75


class Standstill(Preempted):
    """A training stood still and ended itself, without another checkpoint; it can be resumed from the last one."""


def error_of(exit_code: int, message: str) -> PathoflowError:
    """The error with which another process ended; a `StageError` for an exit code that is none of ours.

    >>> error_of(75, "stopped"), error_of(137, "killed")
    (Preempted('stopped'), StageError('killed'))
    """
    known = {kind.exit_code: kind for kind in PathoflowError.__subclasses__()}
    return known.get(exit_code, StageError)(message)
