# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parallel jobs on hosts: as many as the hypervisor serves well, and slow ones delay no others."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stockyard import FleetSpec, HypervisorError, TemplateSpec, Yard
from stockyard.hypervisor.provider import Provider
from stockyard.model.host import HostRecord
from stockyard.providers.open import open_provider
from stockyard.resources.fleets import rollout
from tests.helpers.clocks import BriskClock

# Seconds within which work that waits for nothing ends.
SOON = 30.0


class SlowGuests:
    """Proxy of a provider that creates hosts with some names only after others were created."""

    def __init__(self, inner: Provider, slow: set[str]) -> None:
        self.inner = inner
        self.slow = slow
        self.others_created = threading.Event()
        self.created: list[str] = []
        self._lock = threading.Lock()

    def create_host(self, *arguments: Any, **options: Any) -> HostRecord:
        name = arguments[0].name
        if name in self.slow and not self.others_created.wait(SOON):
            raise HypervisorError("the other hosts were not created in the meantime.")
        record = self.inner.create_host(*arguments, **options)
        with self._lock:
            self.created.append(name)
            if len(set(self.created) - self.slow) == len(NAMES) - len(self.slow):
                self.others_created.set()
        return record

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


NAMES = {f"web-{number}" for number in range(1, 7)}


@pytest.fixture
def slow(tmp_path: Path) -> SlowGuests:
    return SlowGuests(open_provider(f"memory://{tmp_path}/hypervisor"), {"web-1", "web-2"})


def test_slow_guests_delay_no_other_host(
    slow: SlowGuests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollout, "SLOW", 0.2)
    assert len(slow.slow) == slow.capabilities.parallel
    provider = cast("Provider", slow)
    with Yard(provider=provider, pki_dir=str(tmp_path / "pki"), clock=BriskClock()) as yard:
        yard.templates.apply(TemplateSpec("base"))
        yard.fleets.apply(FleetSpec("web", "base", count=len(NAMES)))
        assert {host.name for host in yard.hosts.list()} == NAMES
    assert set(slow.created[-2:]) == slow.slow


def test_no_more_jobs_than_slots_run_even_after_slow_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    width, running, most = 2, 0, 0
    lock, quick_jobs_ended = threading.Lock(), threading.Event()
    monkeypatch.setattr(rollout, "SLOW", 0.05)

    def quick_job() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1

    slow_jobs: list[rollout.Work] = [lambda: quick_jobs_ended.wait(SOON)] * 3
    work = [*slow_jobs, *[quick_job] * 30, quick_jobs_ended.set]
    provider = SimpleNamespace(capabilities=SimpleNamespace(parallel=width))
    rollout.run_all(cast("Any", SimpleNamespace(provider=provider)), work)
    assert most == width
