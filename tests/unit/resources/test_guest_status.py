# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clocks of guests over the memory hypervisor: reported, corrected, and right before a certificate
is given out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stockyard import Busy, FleetSpec, GuestError, LeaseSpec, SingleSpec, StockyardError, Yard
from stockyard.clock import Deadline
from stockyard.errors import HypervisorError
from stockyard.model.host import HostRecord
from stockyard.providers.memory.guest import AHEAD
from stockyard.resources import guest_status
from stockyard.resources.leases import lease_lifecycle
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.simulated_machines import disk_of

FLEET = FleetSpec("ci", "base", count=2)
LEASE = LeaseSpec(holder="job", fleet="ci", duration=600)
REASON = "its clock is 400.0 s behind"


def hold_back(yard: Yard, name: str, ahead: float = -400.0) -> HostRecord:
    """Let the clock of a guest differ, as after a suspension."""
    (host,) = yard.hosts.list(name=name)
    (disk_of(host) / "run").mkdir(exist_ok=True)
    (disk_of(host) / AHEAD).write_text(str(ahead))
    observation = yard.context.provider.observe(yard.context.owner)
    return next(h.record for h in observation.hosts if h.record.name == name)


def clock_of(yard: Yard, record: HostRecord) -> str:
    with yard.context.guest(record, Deadline(5)) as guest:
        return guest_status.read_status(yard.context, guest).clock


def verbs(result: Any) -> list[str]:
    return [str(a) for a in result.plan.actions]


def test_host_with_clock_skew_is_not_ready_and_drifts(yard: Yard) -> None:
    yard.fleets.apply(FLEET)
    hold_back(yard, "ci-2")
    first, second = yard.hosts.list()
    assert (first.ready, first.drift) == (True, ())
    assert (second.ready, second.drift) == (False, (REASON,))
    (fleet,) = yard.fleets.list()
    assert (fleet.ready, fleet.drift) == (1, {"ci-2": (REASON,)})


def test_converge_sets_the_clock_once_and_check_mode_does_not(yard: Yard) -> None:
    before = yard.fleets.apply(FLEET).objects
    record = hold_back(yard, "ci-2")
    for check in (True, True, False):
        assert verbs(yard.fleets.apply(FLEET, check=check)) == [f"synchronize host ci-2: {REASON}"]
    assert clock_of(yard, record) == ""
    assert not yard.fleets.apply(FLEET).changed
    assert yard.hosts.list() == before


def test_single_host_gets_its_clock_set(yard: Yard) -> None:
    alone = SingleSpec("alone", "base")
    yard.hosts.apply(alone)
    hold_back(yard, "alone", 30.0)
    assert verbs(yard.hosts.apply(alone)) == ["synchronize host alone: its clock is 30.0 s ahead"]
    assert yard.hosts.list()[0].ready


def test_clock_of_a_paused_host_is_set_when_it_continues(
    yard: Yard, hypervisor: FaultyProvider
) -> None:
    yard.fleets.apply(FLEET)
    record = hold_back(yard, "ci-2")
    hypervisor.inner._set(record, state="paused")  # type: ignore[attr-defined]
    assert verbs(yard.fleets.apply(FLEET)) == ["start host ci-2: it is paused"]
    assert clock_of(yard, record) == ""


def test_lease_sets_the_clock_before_its_certificate_is_issued(yard: Yard) -> None:
    yard.fleets.apply(replace(FLEET, count=1))
    record = hold_back(yard, "ci-1")
    lease = lease_lifecycle.acquire(yard.context, LEASE, 0).lease
    assert clock_of(yard, record) == ""
    hold_back(yard, "ci-1")
    assert lease
    lease_lifecycle.renew(yard.context, lease.id, 900)
    assert clock_of(yard, record) == ""


def test_host_whose_agent_is_silent_is_not_leased_if_another_is_free(
    yard: Yard, hypervisor: FaultyProvider
) -> None:
    yard.fleets.apply(FLEET)
    hypervisor.fail("channel", GuestError("the channel is closed."))
    assert lease_lifecycle.acquire(yard.context, LEASE, 0).lease
    hypervisor.fail("channel", GuestError("the channel is closed."))
    with pytest.raises(Busy, match=r"none of the 2 matching hosts is free.*the channel is closed"):
        lease_lifecycle.acquire(yard.context, replace(LEASE, holder="other"), 0)


def test_failed_clock_setting_fails_the_run(yard: Yard, hypervisor: FaultyProvider) -> None:
    yard.fleets.apply(FLEET)
    hypervisor.tamper("hello", lambda answer: {**answer, "ahead": -400.0})
    with pytest.raises(StockyardError, match="the guest's clock cannot be set"):
        yard.fleets.apply(FLEET)


def test_transfer_time_is_no_clock_skew() -> None:
    assert guest_status.beyond(3.0, 5.0) == 0.0
    assert guest_status.beyond(8.0, 5.0) == 3.0
    assert guest_status.beyond(-4.0, 5.0) == -4.0


@pytest.mark.parametrize("ahead", ["400", None, [], True, float("nan"), float("-inf")])
def test_answer_without_a_number_is_no_clock(
    yard: Yard, hypervisor: FaultyProvider, ahead: Any
) -> None:
    yard.fleets.apply(FLEET)
    hypervisor.tamper("hello", lambda answer: {**answer, "ahead": ahead})
    assert [h.drift for h in yard.hosts.list()] == [(), ()]


class QemuAgent:
    """The other way to a guest's clock."""

    def __init__(self) -> None:
        self.difference: float | None = -400.0

    def ahead(self, record: HostRecord, now: float) -> float:
        if self.difference is None:
            raise HypervisorError("the agent is not connected.", name=record.title)
        return self.difference

    def set(self, _record: HostRecord, _now: float) -> None:
        self.difference = 0.0


def test_older_agent_gets_its_clock_set_by_the_hypervisor(
    yard: Yard, hypervisor: FaultyProvider
) -> None:
    yard.fleets.apply(FLEET)
    hypervisor.tamper("hello", lambda answer: {"agent": 4, "uuid": answer["uuid"], "missing": []})
    assert [h.drift for h in yard.hosts.list()] == [(), ()]
    hypervisor.inner.guest_clock = clock = QemuAgent()
    assert [h.drift for h in yard.hosts.list()] == [(REASON,), (REASON,)]
    yard.fleets.apply(FLEET)
    assert clock.difference == 0.0
    clock.difference = None
    assert not yard.fleets.apply(FLEET).changed


def test_clock_that_was_set_before_the_older_agent_failed_is_right(
    yard: Yard, hypervisor: FaultyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As qemu-guest-agent does in a guest without hwclock."""
    yard.fleets.apply(FLEET)
    hypervisor.tamper("hello", lambda answer: {"agent": 4, "uuid": answer["uuid"], "missing": []})
    hypervisor.inner.guest_clock = clock = QemuAgent()

    def set_and_fail(record: HostRecord, _now: float) -> None:
        clock.difference = 0.0
        raise HypervisorError("failed to exec /sbin/hwclock.", name=record.title)

    monkeypatch.setattr(clock, "set", set_and_fail)
    lines: list[str] = []
    guest_status.synchronize(
        replace(yard.context, progress=lines.append), hold_back(yard, "ci-1"), Deadline(5)
    )
    assert lines == [f"host ci-1: clock set ({REASON})"]


def test_hypervisor_that_sets_clocks_itself_is_not_asked(
    yard: Yard, hypervisor: FaultyProvider, clock: FakeClock
) -> None:
    yard.fleets.apply(FLEET)
    hold_back(yard, "ci-2")
    hypervisor.inner.capabilities = replace(hypervisor.inner.capabilities, sets_clocks=True)
    hypervisor.calls.clear()
    assert {h.ready for h in yard.hosts.list()} == {True}
    assert hypervisor.calls["channel"] == 0
