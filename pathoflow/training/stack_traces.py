"""Locates a thread in its program, and measures for how long it has been exactly there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType

_ROOT = Path(__file__).parents[2]
_LIBRARIES = "site-packages"
# Modules in whose functions a process waits for others, and one of which only one function does.
_COLLECTIVES = ("torch.distributed", "deepspeed.comm")
_ZERO_3 = ("deepspeed.runtime.zero.partition_parameters", "wait")
# It stands around other calls and says nothing of them.
_WRAPPER = "deepspeed.utils.nvtx"


def frames(innermost: FrameType) -> Iterator[FrameType]:
    """Yields a stack's frames, from its innermost call outwards."""
    frame: FrameType | None = innermost
    while frame is not None:
        yield frame
        frame = frame.f_back


def place(innermost: FrameType) -> str:
    """Describes where a stack is: this repository's innermost line, and the innermost library call that it made."""
    innermost = _unwrapped(innermost)
    own = next((frame for frame in frames(innermost) if _is_own(frame)), None)
    if own is None:
        return _described(innermost)
    if own is innermost:
        return _described(own)
    return f"{_described(own)}, in {_described(innermost)}"


def in_collective(innermost: FrameType) -> bool:
    """Returns whether a stack ends in a call that waits for other processes, as Python sees it.

    A wait in C++ (in a backward pass, or for a GPU) looks like a computation from Python.
    """
    innermost = _unwrapped(innermost)
    module = _module(innermost)
    if (module, innermost.f_code.co_name) == _ZERO_3:
        return True
    return any(module == name or module.startswith(f"{name}.") for name in _COLLECTIVES)


class StuckTimer:
    """Measures how long a thread has been at one place.

    A place is the same if each call in the stack is the same function at the same instruction. A thread that is seen
    every second in the one call that takes most of each step is there again, not still: once it seems to have been
    there for long, the innermost call itself is remembered. Not sooner, since that keeps alive what the call holds.

    Args:
        doubt_after_s: Seconds at one place after which the call is remembered.
        gap_s: A longer time between two samples only shows that this process itself did not run.
    """

    def __init__(self, doubt_after_s: float, gap_s: float) -> None:
        self._doubt_after_s, self._gap_s = doubt_after_s, gap_s
        self._seen: list[tuple[CodeType, int]] = []
        self._call: FrameType | None = None
        self._since = self._last = float("-inf")

    def seconds(self, innermost: FrameType, now: float) -> float:
        """Returns for how long the thread has been at its place at the time `now`, as far as it was looked at."""
        seen = [(frame.f_code, frame.f_lasti) for frame in frames(innermost)]
        same = seen == self._seen and (self._call is None or self._call is innermost)
        if not same or now - self._last > self._gap_s:
            self._seen, self._call, self._since = seen, None, now
        self._last = now
        if now - self._since >= self._doubt_after_s:
            self._call = innermost
        return now - self._since


def _unwrapped(innermost: FrameType) -> FrameType:
    return next((frame for frame in frames(innermost) if _module(frame) != _WRAPPER), innermost)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _is_own(frame: FrameType) -> bool:
    file = Path(frame.f_code.co_filename)
    return file.is_relative_to(_ROOT) and _LIBRARIES not in file.parts


def _described(frame: FrameType) -> str:
    """Describes a frame's line.

    >>> _described(next(frames(__import__("sys")._getframe()))).endswith("(<module>)")
    True
    """
    file = Path(frame.f_code.co_filename)
    if _is_own(frame):
        short = file.relative_to(_ROOT)
    elif _LIBRARIES in file.parts:
        short = Path(*file.parts[file.parts.index(_LIBRARIES) + 1 :])
    else:
        short = Path(*file.parts[-2:])
    return f"{short}:{frame.f_lineno} ({frame.f_code.co_name})"
