# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A command that runs with a leased host, for as long as the lease lasts and no longer.

Its exit code is the command's own; 128 and the signal's number when a signal ended it. As with
``env`` and ``timeout``: 124 the lease was lost, and the command was ended; 125 stockyard itself
failed; 126 the command cannot be run; 127 there is no such command.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from ..clock import Clock
from ..errors import LeaseExpired, StockyardError
from ..leasing import HeldLease
from . import say

LOST, FAILED, NOT_RUNNABLE, NOT_FOUND = 124, 125, 126, 127
# Seconds that a command has to end after it was asked to.
GRACE = 10.0
# Of the time that is left; what follows a renewal that failed is tried sooner.
PART = 1 / 3


def run(lease: HeldLease, command: Sequence[str], clock: Clock) -> int:
    """Run a command to its end, and renew the lease meanwhile."""
    environment = {**os.environ, **lease.environment, "STOCKYARD_LEASE": lease.id}
    with _signals() as signals:
        try:
            child = subprocess.Popen(command, env=environment)
        except OSError as error:
            say.err(f"stockyard: {command[0]}: {error.strerror}")
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUNNABLE
        signals.to(child)
        code = _watched(lease, child, clock)
    return code if code >= 0 else 128 - code


def _watched(lease: HeldLease, child: subprocess.Popen[bytes], clock: Clock) -> int:
    while True:
        left = lease.until - clock.now()
        try:
            return child.wait(max(0.2, min(left, left * PART)))
        except subprocess.TimeoutExpired:
            if not _kept(lease, clock):
                _end(child)
                return LOST


def _kept(lease: HeldLease, clock: Clock) -> bool:
    """Renew the lease; whether it is still ours. A hypervisor that does not answer now may answer
    later.
    """
    try:
        lease.renew()
    except LeaseExpired as error:
        say.err(f"stockyard: {error}")
        return False
    except StockyardError as error:
        say.err(f"stockyard: {error}")
        return lease.until > clock.now()
    return True


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(GRACE)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


class _Signals:
    """Passes signals on to the command, those too that came while it was being started."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Take one. A terminal's interrupt goes to both, so there it is enough not to end of it."""
        if number == signal.SIGINT:
            return
        if self._child is None:
            self._early.append(number)
        else:
            self._child.send_signal(number)

    def to(self, child: subprocess.Popen[bytes]) -> None:
        """From now on they go there."""
        self._child = child
        for number in self._early:
            child.send_signal(number)


@contextmanager
def _signals() -> Iterator[_Signals]:
    """Signals that are sent to us go to the command; we live on to give the host back."""
    signals, numbers = _Signals(), (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signals.handle) for number in numbers}
    try:
        yield signals
    finally:
        for number, old in before.items():
            signal.signal(number, old)
