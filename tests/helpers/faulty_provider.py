# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A provider that fails when a test says so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from stockyard.hypervisor.provider import Channel, Provider


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
        member = getattr(self.inner, name)
        return self._guarded(name, member) if callable(member) else member

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
