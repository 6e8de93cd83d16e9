# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A provider that counts its calls from outside."""

from __future__ import annotations

from collections import Counter
from typing import Any, cast

from stockyard.hypervisor.provider import Provider

STORES = ("volumes", "pools")


class CountingProvider:
    """A provider, or one of its stores, that counts the calls of its methods.

    :param calls: the number of calls by name; methods of a store are named like ``volumes.claim``.
    """

    def __init__(self, inner: Any, calls: Counter[str] | None = None, prefix: str = "") -> None:
        self.calls = Counter[str]() if calls is None else calls
        self._inner = inner
        self._prefix = prefix

    def as_provider(self) -> Provider:
        """Return this object with the type of a provider."""
        return cast("Provider", self)

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._inner, name)
        if name in STORES:
            return CountingProvider(member, self.calls, f"{name}.")
        if not callable(member):
            return member

        def count(*arguments: Any, **options: Any) -> Any:
            self.calls[self._prefix + name] += 1
            return member(*arguments, **options)

        return count
