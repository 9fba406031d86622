"""How often Python's garbage collector runs: seldom while large libraries are imported."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

_USUAL = gc.get_threshold()
_SELDOM = (50_000, *_USUAL[1:])


@contextmanager
def seldom_collecting() -> Iterator[None]:
    """Lets the collector run seldom: what MLflow and DVC make on import stays, and walking it takes a third of it."""
    gc.set_threshold(*_SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*_USUAL)


@contextmanager
def usually_collecting() -> Iterator[None]:
    """Lets the collector run as often as it does by default, over what is made from here on.

    What was imported before is left out: it stays, and every full collection would walk it again.
    """
    gc.freeze()
    gc.set_threshold(*_USUAL)
    try:
        yield
    finally:
        gc.set_threshold(*_SELDOM)
        gc.unfreeze()
