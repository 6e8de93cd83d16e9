# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client of a lease service, without a service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stockyard import ConnectionFailed
from stockyard.service.client import LeaseService
from tests.helpers.clocks import FakeClock

NUMBER = "00000000-0000-4000-8000-000000000000"


class Daemon:
    """The answers of a daemon that is away for the first requests."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.calls: list[str] = []

    def call(self, method: str, path: str) -> dict[str, Any]:
        """Answer a request."""
        self.calls.append(f"{method} {path}")
        if self.failures:
            self.failures -= 1
            raise ConnectionFailed("the lease service cannot be reached.")
        return {}


def service(daemon: Daemon, monkeypatch: pytest.MonkeyPatch, directory: Path) -> LeaseService:
    client = LeaseService("http://127.0.0.1", "token", directory=directory, clock=FakeClock())
    monkeypatch.setattr(client, "_call", daemon.call)
    return client


def test_release_is_repeated_while_the_daemon_restarts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    daemon = Daemon(failures=12)
    service(daemon, monkeypatch, tmp_path).release(NUMBER)
    assert daemon.calls == [f"DELETE /v1/leases/{NUMBER}"] * 13


def test_release_without_a_daemon_fails_in_a_bounded_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    daemon = Daemon(failures=1000)
    with pytest.raises(ConnectionFailed):
        service(daemon, monkeypatch, tmp_path).release(NUMBER)
    assert len(daemon.calls) == 31
