# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clock of a guest through qemu-guest-agent: every call has a time limit."""

from __future__ import annotations

from typing import Any, cast

import libvirt
import pytest

from stockyard.errors import HypervisorError
from stockyard.providers.libvirt.domains import Domains
from stockyard.providers.libvirt.guest_clock import PATIENCE, QemuGuestClock
from tests.helpers.samples import host_record

RECORD = host_record()


class Domain:
    """A domain whose agent answers, if the time limit was set before."""

    def __init__(self) -> None:
        self.limit = 0
        self.time = {"seconds": 600, "nseconds": 500_000_000}

    def agentSetResponseTimeout(self, timeout: int) -> None:  # noqa: N802  # libvirt's name
        self.limit = timeout

    def getTime(self) -> dict[str, int]:  # noqa: N802  # libvirt's name
        self._answer()
        return self.time

    def setTime(self, time: dict[str, int]) -> None:  # noqa: N802  # libvirt's name
        self._answer()
        self.time = time

    def _answer(self) -> None:
        if self.limit != PATIENCE:
            raise libvirt.libvirtError("it waits for ever")


class Found:
    """The domains of a connection."""

    def __init__(self, domain: Any) -> None:
        self.domain = domain

    def find(self, _record: Any) -> Any:
        return self.domain


def clock(domain: Any) -> QemuGuestClock:
    return QemuGuestClock(cast(Domains, Found(domain)))


def test_clock_is_read_and_set_within_a_time_limit() -> None:
    domain = Domain()
    assert clock(domain).ahead(RECORD, 1000.5) == -400.0
    domain.limit = 0
    clock(domain).set(RECORD, 1000.5)
    assert clock(domain).ahead(RECORD, 1000.5) == 0.0


def test_agent_that_does_not_answer_is_an_error_of_the_hypervisor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    domain = Domain()
    monkeypatch.setattr(domain, "agentSetResponseTimeout", lambda _timeout: None)
    with pytest.raises(HypervisorError, match="read the guest's clock"):
        clock(domain).ahead(RECORD, 0.0)
