# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that are held by one controller at a time, as entries in the register.

An entry ends at a time of vCenter's clock, which is the same for all controllers, and is renewed
while its holder lives: what a dead one held is free a minute after. An entry also says which
process made it, so that another controller on the same machine sees at once that it is dead.
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
# Held while the register itself is taken away.
CLOSING = f"{PREFIX}closing"
LASTS = 60.0
RENEW = 15.0
POLL = 0.1


@dataclass(frozen=True)
class Entry:
    """Who holds a name.

    :param until: by vCenter's clock, in seconds since the epoch.
    :param where: which process of which machine.
    """

    token: str
    until: float
    where: str


def key_of(name: str) -> str:
    """The entry's key; names are longer than keys should be."""
    return PREFIX + hashlib.sha256(name.encode()).hexdigest()[:40]


def write(entry: Entry) -> str:
    """An entry as a value."""
    return json.dumps([entry.token, entry.until, entry.where])


def read(value: str | None) -> Entry | None:
    """A value as an entry; what is none of ours holds nothing."""
    try:
        token, until, where = untrusted.items(untrusted.parse(value or ""), "the entry")
        return Entry(
            untrusted.line(token, "token"),
            naming.moment("until", until),
            untrusted.line(where, "where"),
        )
    except (ValueError, InvalidInput):
        return None


def alive(value: str | None, now: float) -> bool:
    """Whether somebody holds a name.

    :param now: by vCenter's clock.
    """
    entry = read(value)
    return entry is not None and entry.until > now and not is_dead(entry.where)


def anyone(values: Values, now: float) -> bool:
    """Whether any name is held."""
    return any(alive(value, now) for key, value in values.items() if key.startswith(PREFIX))


def open_again(values: Values) -> None:
    """Let others in: the register stays."""
    values.pop(CLOSING, None)


def whereabouts() -> str:
    """This process: machine and boot, process namespace, number and the moment of its start."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as handle:
            boot = handle.read().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')} {os.getpid()} {_started(os.getpid())}"
    except OSError:
        return ""


def is_dead(where: str) -> bool:
    """Whether it is known that a process has ended: only of processes that this one could see."""
    parts, own = where.split(" "), whereabouts().split(" ")
    if len(parts) != 4 or parts[:2] != own[:2] or not parts[2].isdigit():
        return False
    return _started(int(parts[2])) != parts[3]


def _started(pid: int) -> str:
    """When a process started, in ticks since the boot; empty when there is none, or a dead one that
    nobody buried.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as handle:
            # The name may hold anything, a bracket too.
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
        """The time by vCenter's clock; asked once, then counted on."""
        if self._offset is None:
            there = self.session.ask("read vCenter's clock", "", self.session.instance.CurrentTime)
            self._offset = there.timestamp() - time.monotonic()
        return self._offset + time.monotonic()

    @contextmanager
    def held(self, name: str, deadline: Deadline) -> Iterator[None]:
        """Hold a name.

        :raises Busy: when somebody else holds it until the deadline.
        :raises Conflict: at the end, when it was lost meanwhile: this controller was not heard of
            for a minute.
        """
        token = self.take(key_of(name), name, deadline)
        ended = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(key_of(name), token, ended), daemon=True)
        keeper.start()
        try:
            yield
        except BaseException:
            self._let_go(key_of(name), token, ended, keeper, quietly=True)
            raise
        if not self._let_go(key_of(name), token, ended, keeper, quietly=False):
            raise Conflict(
                "another controller took it meanwhile.",
                name=name,
                cause=f"vCenter was out of reach for {LASTS:g} s",
                remedy="run again: it is looked at what there is",
            )

    def take(self, key: str, name: str, deadline: Deadline) -> str:
        """Make an entry, without a keeper; returns what proves that it is this one's."""
        token = uuid.uuid4().hex

        def edit(values: Values) -> None:
            now = self.now()
            if alive(values.get(key), now) or (key != CLOSING and alive(values.get(CLOSING), now)):
                raise Busy(
                    "another controller is at work on it.", name=name, remedy="wait, then run again"
                )
            # Those that nobody holds any more are cleared away on the way.
            for other in [
                k for k, v in values.items() if k.startswith(PREFIX) and not alive(v, now)
            ]:
                del values[other]
            values[key] = write(Entry(token, now + LASTS, whereabouts()))

        while True:
            try:
                self.register.change(edit)
                return token
            except Busy:
                if deadline.passed():
                    raise
                deadline.pause(POLL)

    def _keep(self, key: str, token: str, ended: threading.Event) -> None:
        """Renew an entry until it is let go."""
        while not ended.wait(RENEW):
            # What cannot be renewed now is tried again; at the end it is seen whether it was too
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
        ended: threading.Event,
        keeper: threading.Thread,
        *,
        quietly: bool,
    ) -> bool:
        """Free an entry; whether it was this controller's still."""
        ended.set()
        keeper.join()
        mine: list[bool] = []

        def edit(values: Values) -> None:
            entry = read(values.get(key))
            mine.append(entry is not None and entry.token == token)
            if mine[-1]:
                del values[key]

        try:
            self.register.change(edit)
        except StockyardError:
            if not quietly:
                raise
        return bool(mine and mine[-1])
