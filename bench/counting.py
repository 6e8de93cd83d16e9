# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hypervisor that counts calls of the port and requests to guests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from stockyard.hypervisor.provider import Channel, Provider


class CountingProvider:
    """Proxy of a provider that counts calls."""

    def __init__(self, inner: Provider) -> None:
        self.inner = inner
        self.calls: Counter[str] = Counter()

    def as_provider(self) -> Provider:
        """Return this object with the type of a provider."""
        return cast("Provider", self)

    def taken(self) -> Counter[str]:
        """Return the counts since the last call."""
        counts, self.calls = self.calls, Counter()
        return counts

    def channel(self, *arguments: Any) -> Channel:
        """Return the channel to a guest, whose requests count too."""
        self.calls["channel"] += 1
        return CountingChannel(self.inner.channel(*arguments), self.calls)

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.inner, name)
        return self._counted(name, attribute) if callable(attribute) else attribute

    def _counted(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls[name] += 1
            return method(*arguments, **options)

        return call


class CountingChannel:
    """Proxy of a channel that counts requests by their operation."""

    def __init__(self, inner: Channel, calls: Counter[str]) -> None:
        self._inner = inner
        self._calls = calls

    def request(self, message: dict[str, Any], deadline: Any) -> dict[str, Any]:
        """Send a message and return the reply."""
        self._calls[f"guest {message.get('op')}"] += 1
        return self._inner.request(message, deadline)

    def close(self) -> None:
        """Close the channel."""
        self._inner.close()
