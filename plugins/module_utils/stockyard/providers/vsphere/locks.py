# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks on names, each held by one controller at a time, as entries in the register.

An entry expires at a time of vCenter's clock, which is the same for all controllers, and is renewed
while its controller lives: a lock of a dead controller is free within a minute. An entry also
identifies the process that created it, so that another controller on the same machine detects a
dead process at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ...clock import Deadline
from ...errors import Busy, Conflict, InvalidInput, StockyardError
from ...model import naming, untrusted
from .register import Register, Values
from .session import Session

PREFIX = "stockyard.lock."
# Held while the register itself is deleted.
CLOSING = f"{PREFIX}closing"
LASTS = 60.0
RENEW = 15.0
POLL = 0.1


@dataclass(frozen=True)
class Entry:
    """The holder of a name.

    :param until: when the entry expires by vCenter's clock, in seconds since the epoch.
    :param where: the machine and process of the holder.
    """

    token: str
    until: float
    where: str


def key_of(name: str) -> str:
    """Return the key of a name's entry; names are longer than keys should be."""
    return PREFIX + hashlib.sha256(name.encode()).hexdigest()[:40]


def write(entry: Entry) -> str:
    """Return an entry as a value."""
    return json.dumps([entry.token, entry.until, entry.where])


def read(value: str | None) -> Entry | None:
    """Return the entry of a value; ``None`` if the value is not a valid entry."""
    try:
        token, until, process = untrusted.items(untrusted.parse(value or ""), "the entry")
        return Entry(
            untrusted.line(token, "token"),
            naming.moment("until", until),
            untrusted.line(process, "where"),
        )
    except (ValueError, InvalidInput):
        return None


def alive(value: str | None, current_time: float) -> bool:
    """Check whether a name is held.

    :param current_time: by vCenter's clock.
    """
    entry = read(value)
    return entry is not None and entry.until > current_time and not is_dead(entry.where)


def anyone(values: Values, current_time: float) -> bool:
    """Check whether any name is held."""
    return any(
        alive(value, current_time) for key, value in values.items() if key.startswith(PREFIX)
    )


def open_again(values: Values) -> None:
    """Delete the closing lock, so that other controllers can take locks: the register stays."""
    values.pop(CLOSING, None)


def whereabouts() -> str:
    """Identify this process: machine and boot, process namespace, process ID and start time."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as handle:
            boot = handle.read().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')} {os.getpid()} {_started(os.getpid())}"
    except OSError:
        return ""


def is_dead(process: str) -> bool:
    """Check whether a process has certainly ended; false for processes this one cannot see."""
    parts, own_parts = process.split(" "), whereabouts().split(" ")
    if len(parts) != 4 or parts[:2] != own_parts[:2] or not parts[2].isdigit():
        return False
    return _started(int(parts[2])) != parts[3]


def _started(pid: int) -> str:
    """Return a process's start time in ticks since the boot; empty for none or for a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as handle:
            # The name may contain any character, even a bracket.
            words = handle.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if words[0] in ("Z", "X") else words[19]


class DistributedLocks:
    """The names that this session's controller holds and waits for."""

    def __init__(self, session: Session, register: Register) -> None:
        self.session = session
        self.register = register
        self._offset: float | None = None

    def now(self) -> float:
        """Return the time by vCenter's clock, which is read once and then counted on."""
        if self._offset is None:
            vcenter_time = self.session.read(
                "read vCenter's clock", "", self.session.instance.CurrentTime
            )
            self._offset = vcenter_time.timestamp() - time.monotonic()
        return self._offset + time.monotonic()

    @contextmanager
    def held(self, name: str, deadline: Deadline) -> Iterator[None]:
        """Hold a name.

        :raises Busy: if another controller still holds the name at the deadline.
        :raises Conflict: at the end, if the name was lost: this controller could not renew it for a
            minute.
        """
        token = self.acquire(key_of(name), name, deadline)
        stop_event = threading.Event()
        renewal_thread = threading.Thread(
            target=self._renew_until_released, args=(key_of(name), token, stop_event), daemon=True
        )
        renewal_thread.start()
        try:
            yield
        except BaseException:
            self._let_go(key_of(name), token, stop_event, renewal_thread, quietly=True)
            raise
        if not self._let_go(key_of(name), token, stop_event, renewal_thread, quietly=False):
            raise Conflict(
                "another controller took the lock.",
                name=name,
                cause=f"vCenter was out of reach for {LASTS:g} s",
                remedy="run again: the next run continues from the present state",
            )

    @contextmanager
    def renewed(self, key: str, token: str) -> Iterator[None]:
        """Renew an existing entry for the length of a ``with`` block, and delete it at the end."""
        stop_event = threading.Event()
        renewal_thread = threading.Thread(
            target=self._renew_until_released, args=(key, token, stop_event), daemon=True
        )
        renewal_thread.start()
        try:
            yield
        finally:
            self._let_go(key, token, stop_event, renewal_thread, quietly=True)

    def acquire(self, key: str, name: str, deadline: Deadline) -> str:
        """Create an entry without a renewal thread; return the token that proves its ownership."""
        token = uuid.uuid4().hex

        def edit(values: Values) -> None:
            current_time = self.now()
            if alive(values.get(key), current_time) or (
                key != CLOSING and alive(values.get(CLOSING), current_time)
            ):
                raise Busy(
                    "the object is locked by another controller.",
                    name=name,
                    remedy="wait, then run again",
                )
            # Entries without a living holder are deleted in the same write.
            for dead_key in [
                lock_key
                for lock_key, value in values.items()
                if lock_key.startswith(PREFIX) and not alive(value, current_time)
            ]:
                del values[dead_key]
            values[key] = write(Entry(token, current_time + LASTS, whereabouts()))

        while True:
            try:
                self.register.change(edit)
                return token
            except Busy:
                if deadline.passed():
                    raise
                deadline.pause(POLL)

    def _renew_until_released(self, key: str, token: str, stop_event: threading.Event) -> None:
        """Renew an entry until its release."""
        while not stop_event.wait(RENEW):
            # A failed renewal is repeated; the release at the end detects a renewal that was too
            # late.
            with suppress(StockyardError):
                self.register.change(lambda values: self._renew(values, key, token))

    def _renew(self, values: Values, key: str, token: str) -> None:
        entry = read(values.get(key))
        if entry is not None and entry.token == token:
            values[key] = write(Entry(token, self.now() + LASTS, entry.where))

    def _let_go(
        self,
        key: str,
        token: str,
        stop_event: threading.Event,
        renewal_thread: threading.Thread,
        *,
        quietly: bool,
    ) -> bool:
        """Release an entry, and return whether this controller still held it."""
        stop_event.set()
        renewal_thread.join()
        was_holder: list[bool] = []

        def edit(values: Values) -> None:
            entry = read(values.get(key))
            was_holder.append(entry is not None and entry.token == token)
            if was_holder[-1]:
                del values[key]

        try:
            self.register.change(edit)
        except StockyardError:
            if not quietly:
                raise
        return bool(was_holder and was_holder[-1])
