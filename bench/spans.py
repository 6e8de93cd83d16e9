# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""When each phase of a fork began and ended, seen from outside: the product's own functions are
watched by name.

Nothing is added to the product for it. Phases do not nest: what is called inside of one belongs to
that one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from stockyard.providers.libvirt import disks, fork, frozen
from stockyard.providers.libvirt.channel import SocketChannel
from stockyard.providers.libvirt.provider import LibvirtProvider
from stockyard.resources.hosts import access, host_lifecycle, identity

# What is watched: where it is, what it is called there, and the phase that it is.
PHASES: tuple[tuple[Any, str, str], ...] = (
    (LibvirtProvider, "observe", "read the yard"),
    (LibvirtProvider, "create_host", "reserve"),
    (frozen, "verify", "check the template's files"),
    (disks, "make", "make the overlay"),
    (LibvirtProvider, "_create_paused", "create the machine"),
    (fork, "resume", "take the state in, resume"),
    (LibvirtProvider, "channel", "open the channel"),
    (SocketChannel, "request", "guest"),
    (identity, "_admission", "sign its certificate"),
    (LibvirtProvider, "set_link", "raise its link"),
    (host_lifecycle, "wait_for_docker", "TLS and Docker"),
    (LibvirtProvider, "claim", "write the record"),
    (LibvirtProvider, "destroy", "destroy"),
    (access, "publish", "pin its SSH key"),
)
Span = tuple[str, float, float]


class Spans:
    """What one thread did, in the order in which it began."""

    def __init__(self) -> None:
        self.found: list[Span] = []
        self.begin = time.monotonic()
        self._inside = threading.local()

    def end_of(self, label: str) -> float:
        """Seconds from the beginning until the last phase of this name had ended."""
        return next(end for name, _begin, end in reversed(self.found) if name == label)

    def taken(self, label: str) -> float:
        """Seconds that all phases of this name took together."""
        return sum(end - begin for name, begin, end in self.found if name == label)

    def watch(self, function: Callable[..., Any], label: str) -> Callable[..., Any]:
        """The same function, noted whenever it is called."""

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


@contextmanager
def watching() -> Iterator[Spans]:
    """Note all phases of what is done in the block."""
    spans = Spans()
    with ExitStack() as stack:
        for owner, name, label in PHASES:
            stack.enter_context(
                mock.patch.object(owner, name, spans.watch(getattr(owner, name), label))
            )
        spans.begin = time.monotonic()
        yield spans


def _named(label: str, arguments: tuple[Any, ...]) -> str:
    """A request to the guest is called after what is asked of it."""
    asked = next((a for a in arguments if isinstance(a, dict) and "op" in a), None)
    return f"{label}: {asked['op']}" if asked else label
