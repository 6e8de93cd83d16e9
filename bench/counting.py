# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hypervisor that counts what is asked of it: calls of the port, and requests to guests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from stockyard.hypervisor.provider import Channel, Provider


class CountingProvider:
    """Passes everything on, and counts it."""

    def __init__(self, inner: Provider) -> None:
        self.inner = inner
        self.calls: Counter[str] = Counter()

    def as_provider(self) -> Provider:
        """This, as type checkers want it."""
        return cast("Provider", self)

    def taken(self) -> Counter[str]:
        """What was counted since the last call."""
        found, self.calls = self.calls, Counter()
        return found

    def channel(self, *arguments: Any) -> Channel:
        """The line to a guest, whose requests count too."""
        self.calls["channel"] += 1
        return CountingChannel(self.inner.channel(*arguments), self.calls)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        return self._counted(name, found) if callable(found) else found

    def _counted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls[name] += 1
            return method(*arguments, **options)

        return call


class CountingChannel:
    """Passes requests on, and counts each by what it asks for."""

    def __init__(self, inner: Channel, calls: Counter[str]) -> None:
        self._inner = inner
        self._calls = calls

    def request(self, message: dict[str, Any], deadline: Any) -> dict[str, Any]:
        """Send one message, wait for its answer."""
        self._calls[f"guest {message.get('op')}"] += 1
        return self._inner.request(message, deadline)

    def close(self) -> None:
        """Hang up."""
        self._inner.close()
