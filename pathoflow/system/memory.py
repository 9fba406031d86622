"""Tunes Python's garbage collector and the C library's allocator."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager

_USUAL = gc.get_threshold()
_SELDOM = (50_000, *_USUAL[1:])
# glibc's name for it, how large blocks are that go back at once while a model is loaded, and glibc's own upper limit.
_M_MMAP_THRESHOLD = -3
_LOADING_BYTES, _USUAL_BYTES = 2**20, 32 * 2**20


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """Runs the collector rarely: MLflow's and DVC's imports stay, and walking them takes a third of their time."""
    gc.set_threshold(*_SELDOM)
    try:
        yield
    finally:
        gc.set_threshold(*_USUAL)


@contextmanager
def default_garbage_collection() -> Iterator[None]:
    """Runs the collector at its default rate over objects that are created from here on.

    What was imported before is left out: it stays, and every full collection would walk it again.
    """
    gc.freeze()
    gc.set_threshold(*_USUAL)
    try:
        yield
    finally:
        gc.set_threshold(*_SELDOM)
        gc.unfreeze()


@contextmanager
def returning_freed_memory() -> Iterator[None]:
    """Returns blocks of a megabyte and more to the system as soon as they are freed, where the C library is glibc.

    glibc learns from the first large blocks to keep them. Weights that come whole and stay in part then leave holes:
    loading a model that two processes share took 2.8 times its size instead of 1.1.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        yield
        return
    mallopt(_M_MMAP_THRESHOLD, _LOADING_BYTES)
    try:
        yield
    finally:
        mallopt(_M_MMAP_THRESHOLD, _USUAL_BYTES)
