# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand-ins for tests: a clock that is turned by hand, a hypervisor that fails when told to, and
hostile text.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from stockyard.clock import SystemClock
from stockyard.hypervisor.provider import Channel, Provider
from stockyard.model.host import Host, HostRecord, HostSpec
from stockyard.model.template import Hardware, TemplateRecord
from stockyard.resources.hosts.reservation import address_of, mac_of

# What no name may be.
HOSTILE = [
    "",
    " ",
    ".",
    "..",
    "../../etc/x",
    "a'/><qemu:arg value='-x",
    "$(id)",
    "`id`",
    "a;b",
    "a b",
    "a\nb",
    "a\n",
    "a\0b",
    "a" * 300,
    "а",  # Cyrillic
    "ａ",  # full width
    "a\u200bb",
    "\ud800",
    "-a",
    "a-",
    "A",
    "a.b",
    "a/b",
    "{{ a }}",
    "%s",
]

# A host key as guests make it.
HOST_KEY = f"ssh-ed25519 {'A' * 68}"


class FakeClock:
    """Time that passes only by sleeping."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.time = now
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


class BriskClock(SystemClock):
    """The machine's own clock for guests that are none: they need no time to settle."""

    def sleep(self, seconds: float) -> None:
        super().sleep(min(seconds, 0.02))


class FaultyProvider:
    """A provider whose methods fail when told to. Everything else is the real one's."""

    def __init__(self, inner: Provider) -> None:
        self.inner = inner
        self.calls: Counter[str] = Counter()
        self._before: dict[tuple[str, int], BaseException] = {}
        self._after: dict[tuple[str, int], BaseException] = {}
        self._tamper: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}

    def fail(
        self, method: str, error: BaseException, *, call: int = 1, after: bool = False
    ) -> None:
        """Let the n-th call from now of a method fail: instead of its work, or after it."""
        faults = self._after if after else self._before
        faults[method, self.calls[method] + call] = error

    def tamper(self, operation: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Let guests answer an operation with something else."""
        self._tamper[operation] = change

    def as_provider(self) -> Provider:
        """This, as type checkers want it."""
        return cast("Provider", self)

    def channel(self, *arguments: Any) -> Channel:
        return _TamperedChannel(
            self._guarded("channel", self.inner.channel)(*arguments), self._tamper
        )

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        return self._guarded(name, found) if callable(found) else found

    def _guarded(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls[name] += 1
            key = (name, self.calls[name])
            if key in self._before:
                raise self._before.pop(key)
            result = method(*arguments, **options)
            if key in self._after:
                raise self._after.pop(key)
            return result

        return call


class _TamperedChannel:
    def __init__(
        self, inner: Channel, tamper: dict[str, Callable[[dict[str, Any]], dict[str, Any]]]
    ) -> None:
        self._inner = inner
        self._tamper = tamper

    def request(self, message: dict[str, Any], deadline: Any) -> dict[str, Any]:
        answer = self._inner.request(message, deadline)
        change = self._tamper.get(str(message.get("op")))
        return change(answer) if change else answer

    def close(self) -> None:
        self._inner.close()


def host_record(**changes: Any) -> HostRecord:
    """A host as it may be on record."""
    own = uuid.uuid4()
    record = HostRecord(
        owner="stockyard",
        tenant="default",
        fleet="ci",
        name="ci-1",
        uuid=str(own),
        template="base",
        generation="g1" * 32,
        spec=HostSpec(),
        ssh_user="stockyard",
        mac=mac_of(own),
        address=address_of(own),
        phase="ready",
        created=1.0,
    )
    return replace(record, **changes)


def host(state: str = "running", **changes: Any) -> Host:
    """A host as it may be observed."""
    return Host(host_record(**changes), state)


def template_record(**changes: Any) -> TemplateRecord:
    """A template as it may be on record."""
    own = uuid.uuid4()
    record = TemplateRecord(
        owner="stockyard",
        tenant="default",
        name="base",
        uuid=str(own),
        generation="g1" * 32,
        recipe="r1" * 32,
        image="i1" * 32,
        hardware=Hardware(),
        docker="running",
        ssh_user="stockyard",
        phase="frozen",
        created=1.0,
        mac=mac_of(own),
    )
    return replace(record, **changes)
