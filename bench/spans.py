# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Begin and end of each phase of a fork, measured from outside: the product's own functions are
wrapped by name.

The product contains no code for it. Phases do not nest: a call inside a phase belongs to that
phase.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias
from unittest import mock

from stockyard.providers.libvirt import boot, disks, fork, frozen
from stockyard.providers.libvirt.branches import Branches
from stockyard.providers.libvirt.channel import SocketChannel
from stockyard.providers.libvirt.provider import LibvirtProvider
from stockyard.resources.hosts import access, host_lifecycle, identity

# A measured function: the object, the name of its attribute, and the phase.
Phase: TypeAlias = tuple[Any, str, str]
PHASES: tuple[Phase, ...] = (
    (LibvirtProvider, "observe", "read the yard"),
    (LibvirtProvider, "create_host", "reserve"),
    (frozen, "verify", "check the template's files"),
    (disks, "make", "make the overlay"),
    (Branches, "create", "freeze the branch"),
    (Branches, "fork", "fork from the branch"),
    (LibvirtProvider, "_create_paused", "create the machine"),
    (fork, "resume", "take the state in, resume"),
    (boot, "start", "load the saved memory"),
    (LibvirtProvider, "channel", "open the channel"),
    (SocketChannel, "request", "guest"),
    (identity, "_sign", "sign its certificate"),
    (LibvirtProvider, "set_link", "raise its link"),
    (host_lifecycle, "wait_for_docker", "TLS and Docker"),
    (LibvirtProvider, "claim", "write the record"),
    (LibvirtProvider, "destroy", "destroy"),
    (access, "sync_known_hosts", "pin its SSH key"),
)
Span = tuple[str, float, float]


class Spans:
    """Phases of each thread, in the order of their ends."""

    def __init__(self) -> None:
        self.found: list[Span] = []
        self.begin = time.monotonic()
        self._inside = threading.local()

    def end_of(self, label: str) -> float:
        """Return the seconds from the beginning to the end of the last phase with this name."""
        return next(end for name, _begin, end in reversed(self.found) if name == label)

    def taken(self, label: str) -> float:
        """Return the total seconds of all phases with this name."""
        return sum(end - begin for name, begin, end in self.found if name == label)

    def watch(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        """Return the function with a wrapper that records each call."""

        if inspect.iscoroutinefunction(function):
            return self._watch_call(function, label)

        def watched(*arguments: Any, **keywords: Any) -> Any:
            if getattr(self._inside, "phase", False):
                return function(*arguments, **keywords)
            self._inside.phase = True
            begin = time.monotonic() - self.begin
            try:
                return function(*arguments, **keywords)
            finally:
                self._inside.phase = False
                self.found.append((_named(label, arguments), begin, time.monotonic() - self.begin))

        return watched

    def _watch_call(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        """Return a coroutine function with a wrapper. Such calls overlap with other phases."""

        async def watched(*arguments: Any, **keywords: Any) -> Any:
            begin = time.monotonic() - self.begin
            try:
                return await function(*arguments, **keywords)
            finally:
                self.found.append((label, begin, time.monotonic() - self.begin))

        return watched


@contextmanager
def watching(phases: Iterable[Phase] = ()) -> Iterator[Spans]:
    """Record all phases inside the ``with`` block: those of a fork by default."""
    spans = Spans()
    with ExitStack() as stack:
        for owner, name, label in phases or PHASES:
            stack.enter_context(
                mock.patch.object(owner, name, spans.watch(getattr(owner, name), label))
            )
        spans.begin = time.monotonic()
        yield spans


def _named(label: str, arguments: tuple[Any, ...]) -> str:
    """Return the label of a phase; that of a request to the guest includes its operation."""
    message = next(
        (argument for argument in arguments if isinstance(argument, dict) and "op" in argument),
        None,
    )
    return f"{label}: {message['op']}" if message else label
