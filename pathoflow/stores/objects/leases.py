"""A lock made of plain objects, for stores that offer no lock: Lamport's bakery, with leases.

Everybody who wants the lock draws a ticket, an object that only its owner writes, and waits until no smaller ticket
is left. That excludes others with nothing but reads that see every earlier write, which S3 guarantees; no conditional
write is needed. A ticket's owner renews it; one that was not renewed for a whole lease, by the clock of whoever waits,
is taken away. Clocks of different machines are never compared.

The guarantee is weaker than a kernel's lock in one point: an owner that is stopped for longer than its lease between
its last check and its next write cannot be kept from that write.

Source: Lamport, A New Solution of Dijkstra's Concurrent Programming Problem (1974).
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import psutil

from pathoflow.errors import BusyError, RegistryError

LEASE_VARIABLE = "PATHOFLOW_LEASE_S"
_DEFAULT_LEASE_S = 30.0
_POLL_S = 0.1


class Objects(Protocol):
    """The part of a store that a lease needs."""

    def get(self, key: str) -> bytes | None:
        """Returns the object's content, if there is one."""

    def put(self, key: str, content: bytes) -> None:
        """Writes or replaces an object."""

    def list(self, prefix: str) -> list[str]:
        """Returns the keys that begin with `prefix`, sorted."""

    def delete(self, key: str) -> None:
        """Removes an object."""


def lease_s() -> float:
    """Returns how long a ticket counts that is not renewed, in seconds."""
    return float(os.environ.get(LEASE_VARIABLE) or _DEFAULT_LEASE_S)


@contextmanager
def lease(objects: Objects, prefix: str, wait_s: float) -> Iterator[Callable[[], None]]:
    """Holds the lock whose tickets lie below `prefix`, and yields a check that raises if it was lost.

    Raises:
        BusyError: It was not to be had within `wait_s`.
    """
    ticket = _Ticket(objects, prefix)
    try:
        ticket.draw()
        ticket.wait(wait_s)
        yield ticket.check
    finally:
        ticket.give_back()


class _Ticket:
    def __init__(self, objects: Objects, prefix: str) -> None:
        self._objects, self._prefix = objects, prefix
        self._id = uuid.uuid4().hex[:16]
        self._choosing = f"{prefix}choosing-{self._id}"
        self._key: str | None = None
        self._lease_s = lease_s()
        self._renewed_at = time.monotonic()
        self._num_renewals = 0
        self._stop = threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True, name="lease")

    def draw(self) -> None:
        """Takes the next number, in sight of all others."""
        self._objects.put(self._choosing, self._content())
        numbers = [int(key.removeprefix(self._prefix).partition("-")[0]) for key in self._tickets()]
        key = f"{self._prefix}{max(numbers, default=0) + 1:012d}-{self._id}"
        self._objects.put(key, self._content())
        self._key, self._renewed_at = key, time.monotonic()
        self._renewing.start()
        self._objects.delete(self._choosing)

    def wait(self, wait_s: float) -> None:
        """Waits until nobody with a smaller ticket is left, nobody who may yet get one."""
        deadline = time.monotonic() + wait_s
        seen: dict[str, tuple[bytes, float]] = {}
        while blocking := [key for key in self._objects.list(self._prefix) if self._comes_before(key)]:
            self.check()
            for key in blocking:
                self._take_away_if_dead(key, seen)
            if time.monotonic() > deadline:
                raise BusyError(
                    f"Another command has held {self._prefix} for {wait_s:g} s. Wait for it, and run this one again."
                )
            time.sleep(_POLL_S)

    def check(self) -> None:
        """Makes sure that this ticket still counts.

        Raises:
            RegistryError: It was not renewed in time.
        """
        if self._key is None or time.monotonic() - self._renewed_at > 0.7 * self._lease_s:
            raise RegistryError(
                f"The lock {self._prefix} was lost: it could not be renewed within {self._lease_s:g} s. Run the same "
                f"command again; raise {LEASE_VARIABLE} if the store is slow."
            )

    def give_back(self) -> None:
        """Ends the claim; a ticket that cannot be removed now runs out by itself."""
        self._stop.set()
        if self._renewing.ident is not None:
            self._renewing.join()
        self._objects.delete(self._key or self._choosing)

    def _tickets(self) -> list[str]:
        return [key for key in self._objects.list(self._prefix) if "/choosing-" not in key]

    def _comes_before(self, key: str) -> bool:
        assert self._key is not None
        return key < self._key or (f"{self._prefix}choosing-" in key and key != self._choosing)

    def _take_away_if_dead(self, key: str, seen: dict[str, tuple[bytes, float]]) -> None:
        content = self._objects.get(key)
        if content is None:
            return
        before, since = seen.get(key, (b"", 0.0))
        if content != before:
            seen[key] = (content, time.monotonic())
            since = time.monotonic()
        if time.monotonic() - since > self._lease_s or _owner_is_gone(content):
            # Nobody else ever writes an object of this name, so that nothing but the dead claim can be hit.
            self._objects.delete(key)

    def _renew(self) -> None:
        assert self._key is not None
        while not self._stop.wait(self._lease_s / 5):
            try:
                if self._objects.get(self._key) is None:
                    # Taken away: from here on the check fails, and the claim must not come back.
                    return
                self._num_renewals += 1
                started = time.monotonic()
                self._objects.put(self._key, self._content())
                self._renewed_at = started
            except RegistryError:
                continue

    def _content(self) -> bytes:
        process = psutil.Process()
        owner = {"host": _host(), "pid": process.pid, "started": process.create_time(), "beat": self._num_renewals}
        return json.dumps(owner).encode()


def _owner_is_gone(content: bytes) -> bool:
    """Returns whether the owner ran on this machine and is no more; of other machines nothing is known."""
    try:
        owner = json.loads(content)
        if owner["host"] != _host():
            return False
        return bool(psutil.Process(owner["pid"]).create_time() != owner["started"])
    except psutil.NoSuchProcess:
        return True
    except (KeyError, TypeError, ValueError):
        return False


def _host() -> str:
    """Names this machine unlike any other with its host name, and unlike itself before a restart.

    Process ids mean something within one pid name space only.
    """
    return f"{socket.gethostname()}/{psutil.boot_time():.0f}/{os.stat('/proc/self/ns/pid').st_ino}"
