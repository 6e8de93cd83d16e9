# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run of a command with a leased host, at most until the lease ends.

The exit code is the command's own; 128 plus the signal's number if a signal ended it. As with
``env`` and ``timeout``: 124 if the lease was lost and the command was ended; 125 if stockyard
itself failed; 126 if the command cannot be run; 127 if the command does not exist.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO, Any, Protocol

from ..clock import Clock
from ..errors import LeaseExpired, MissingDependency, StockyardError
from . import say

LOST, FAILED, NOT_RUNNABLE, NOT_FOUND = 124, 125, 126, 127
# Seconds in which a command must end after SIGTERM.
GRACE = 10.0
# The part of the remaining time until the next renewal. After a failed renewal the next one follows
# sooner.
PART = 1 / 3


class RenewableLease(Protocol):
    """A lease of a command."""

    @property
    def id(self) -> str:
        """Return the number of the lease."""

    @property
    def until(self) -> float:
        """Return the end of the lease, in seconds since the epoch."""

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables that a Docker client needs."""

    def renew(self) -> None:
        """Renew the lease from now on for its first duration."""


def run(lease: RenewableLease, command: Sequence[str], clock: Clock) -> int:
    """Run a command to its end and renew the lease until then; return its exit code."""
    environment = {**os.environ, **lease.environment, "STOCKYARD_LEASE": lease.id}
    with _signals() as signals:
        try:
            child = _start(signals, command, env=environment)
        except OSError as error:
            say.err(f"stockyard: {command[0]}: {error.strerror}")
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUNNABLE
        return _exit_code(_watched(lease, child, clock))


def run_program(words: Sequence[str], stdin: IO[bytes]) -> int:
    """Run a program to its end; return its exit code.

    :raises MissingDependency: if it cannot be run.
    """
    with _signals() as signals:
        try:
            child = _start(signals, words, stdin=stdin)
        except OSError as error:
            raise MissingDependency(f"{words[0]} cannot be run: {error.strerror}.") from error
        return _exit_code(child.wait())


def _start(signals: _Signals, words: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a program that gets the signals of this process."""
    child = subprocess.Popen(words, **options)
    signals.to(child)
    return child


def _exit_code(code: int) -> int:
    """Return the exit code of a process as a shell does: 128 and the number of a signal."""
    return code if code >= 0 else 128 - code


def failed(code: int) -> bool:
    """Return whether a command failed by itself: it was not ended from outside, and did not lose
    its lease.
    """
    ended = {128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
    return code not in (0, LOST, *ended)


def _watched(lease: RenewableLease, child: subprocess.Popen[bytes], clock: Clock) -> int:
    while True:
        remaining = lease.until - clock.now()
        try:
            return child.wait(max(0.2, min(remaining, remaining * PART)))
        except subprocess.TimeoutExpired:
            if not _kept(lease, clock):
                _end(child)
                return LOST


def _kept(lease: RenewableLease, clock: Clock) -> bool:
    """Renew the lease and return whether it is still valid. A hypervisor that does not answer now
    may answer later.
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
    """Forwarder of signals to the command, including signals that arrive before the command has
    started.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Handle one signal. A terminal sends an interrupt to both processes, so that ignoring it
        is sufficient.
        """
        if number == signal.SIGINT:
            return
        if self._child is None:
            self._early.append(number)
        else:
            self._child.send_signal(number)

    def to(self, child: subprocess.Popen[bytes]) -> None:
        """Forward all signals to this process from now on."""
        self._child = child
        for number in self._early:
            child.send_signal(number)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block by an exception, so that the host is released."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def _signals() -> Iterator[_Signals]:
    """Forward signals to the command; this process survives them, so that it can release the
    host.
    """
    signals, numbers = _Signals(), (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signals.handle) for number in numbers}
    try:
        yield signals
    finally:
        for number, old in before.items():
            signal.signal(number, old)
