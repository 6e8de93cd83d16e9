# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Queues as entries in the register, in the form of locks: an entry expires unless its controller
renews it.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ...clock import Deadline
from . import locks
from .locks import DistributedLocks, Entry
from .register import Register, Values


@dataclass(frozen=True)
class RegisterTicket:
    """The place of a request, as :class:`...hypervisor.queues.Ticket` describes it."""

    queues: RegisterQueues
    prefix: str
    number: int

    def ahead(self) -> int:
        return self.queues.count(self.prefix, self.number)


class RegisterQueues:
    """The queues of one yard's folder, as :class:`...hypervisor.queues.Queues` describes them."""

    def __init__(self, distributed_locks: DistributedLocks, register: Register) -> None:
        self._locks = distributed_locks
        self._register = register

    @contextmanager
    def join(self, name: str, deadline: Deadline) -> Iterator[RegisterTicket]:
        prefix, token = _prefix(name), uuid.uuid4().hex
        until = self._locks.now() + deadline.left()
        drawn_numbers: list[int] = []

        def edit(values: Values) -> None:
            number = max(_numbers(values, prefix), default=0) + 1
            expiry = min(until, self._locks.now() + locks.LASTS)
            values[_key(prefix, number)] = locks.write(Entry(token, expiry, locks.whereabouts()))
            # The last attempt is the one that vCenter accepted.
            drawn_numbers.append(number)

        self._register.change(edit)
        number = drawn_numbers[-1]
        with self._locks.renewed(_key(prefix, number), token):
            yield RegisterTicket(self, prefix, number)

    def length(self, name: str, now: float) -> int:
        return self.count(_prefix(name))

    def count(self, prefix: str, before: int | None = None) -> int:
        """Return the number of requests that wait, or of those before a number."""
        values, current_time = self._register.read().values, self._locks.now()
        return sum(
            (before is None or number < before)
            and locks.alive(values.get(_key(prefix, number)), current_time)
            for number in _numbers(values, prefix)
        )


def _prefix(name: str) -> str:
    return f"{locks.PREFIX}queue.{hashlib.sha256(name.encode()).hexdigest()[:32]}."


def _key(prefix: str, number: int) -> str:
    return f"{prefix}{number}"


def _numbers(values: Mapping[str, str], prefix: str) -> list[int]:
    keys = (key.removeprefix(prefix) for key in values if key.startswith(prefix))
    return [int(tail) for tail in keys if tail.isdecimal()]
