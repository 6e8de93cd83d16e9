# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The processors of a running machine: a stand-in for libvirt's domain and its guest."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest

from stockyard.clock import Deadline
from stockyard.errors import HypervisorError
from stockyard.model.size import Size
from stockyard.providers.libvirt import grow
from tests.helpers.clocks import FakeClock
from tests.helpers.samples import host_record

RECORD = host_record(template_size=Size(1, 1024), max_size=Size(4, 1024), size=Size(1, 1024))
LIVE, CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG
GUEST = libvirt.VIR_DOMAIN_VCPU_GUEST


class Domain:
    """A machine with a number of processors for each of libvirt's flags.

    :param silences: how many questions pass before the guest's agent answers.
    """

    def __init__(self, plugged_in: int, used: int, silences: int = 0) -> None:
        self.counts = {LIVE: plugged_in, GUEST: used, CONFIG: plugged_in}
        self.silences = silences
        self.changes: list[tuple[int, int]] = []

    def vcpusFlags(self, flags: int) -> int:  # noqa: N802  # libvirt's name
        if flags == GUEST and self.silences:
            self.silences -= 1
            raise Unresponsive
        return self.counts[flags]

    def setVcpusFlags(self, count: int, flags: int) -> None:  # noqa: N802  # libvirt's name
        self.changes.append((count, flags))
        self.counts[flags] = count


class Unresponsive(libvirt.libvirtError):  # type: ignore[misc]  # libvirt ships no types
    """The error about an agent that is not connected."""

    def __init__(self) -> None:
        super().__init__("Guest agent is not responding: QEMU guest agent is not connected")

    def get_error_code(self) -> int:
        return int(libvirt.VIR_ERR_AGENT_UNRESPONSIVE)


def resize(monkeypatch: pytest.MonkeyPatch, domain: Domain, count: int, *, kvm: bool) -> None:
    class Monitor:
        def __init__(self, domain: Any, name: str) -> None:
            pass

        def command(self, execute: str) -> dict[str, bool]:
            return {"query-kvm": {"enabled": kvm}}[execute]

    monkeypatch.setattr(grow, "Monitor", Monitor)
    grow.resize(domain, RECORD, Size(count, 1024), Deadline(100, FakeClock()))


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
def test_emulated_machine_changes_the_processors_in_use(
    monkeypatch: pytest.MonkeyPatch, before: int, after: int
) -> None:
    domain = Domain(plugged_in=4, used=before)
    resize(monkeypatch, domain, after, kvm=False)
    assert domain.changes == [(after, GUEST)]


def test_an_emulated_machine_waits_for_the_agent_of_a_guest_that_boots(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    domain = Domain(plugged_in=4, used=1, silences=400)
    resize(monkeypatch, domain, 2, kvm=False)
    assert domain.counts[GUEST] == 2


def test_an_agent_that_never_answers_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HypervisorError, match="not connected"):
        resize(monkeypatch, Domain(plugged_in=4, used=1, silences=10000), 2, kvm=False)


def test_an_emulated_machine_of_an_earlier_template_gets_processors_plugged_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    domain = Domain(plugged_in=1, used=1)
    resize(monkeypatch, domain, 2, kvm=False)
    assert domain.changes == [(2, LIVE), (2, GUEST)]


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
def test_with_kvm_processors_are_plugged_in_and_unplugged(
    monkeypatch: pytest.MonkeyPatch, before: int, after: int
) -> None:
    domain = Domain(plugged_in=before, used=before)
    resize(monkeypatch, domain, after, kvm=True)
    assert domain.changes == [(after, LIVE), (after, CONFIG)]
