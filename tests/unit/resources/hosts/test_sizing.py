# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that grew is told so, if its agent understands it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stockyard import FleetSpec, GuestError, HostSpec, TemplateSpec, Yard
from stockyard.clock import Deadline
from stockyard.model.size import Size
from stockyard.resources.hosts.sizing import refresh_limits


class Guest:
    """A channel to an agent of some age."""

    def __init__(self, agent: int, uuid: str) -> None:
        self.hello = {"agent": agent, "uuid": uuid}
        self.asked: list[dict[str, Any]] = []
        self.open = True

    def request(self, message: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        self.asked.append(message)
        return self.hello

    def close(self) -> None:
        self.open = False


class Hypervisor:
    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    def channel(self, record: Any, deadline: Deadline) -> Guest:
        return self.guest


@pytest.fixture
def record(yard: Yard) -> Any:
    yard.fleets.apply(FleetSpec("web", "base", count=1))
    return yard.context.provider.observe(yard.context.owner).hosts[0].record


@pytest.mark.parametrize("agent", [3, 4, 5, 6])
def test_only_an_agent_that_understands_is_asked(yard: Yard, record: Any, agent: int) -> None:
    guest = Guest(agent, record.uuid)
    ctx = replace(yard.context, provider=Hypervisor(guest))  # type: ignore[arg-type]
    refresh_limits(ctx, record, Size(2, 1280, 8), Deadline(5))
    expected: list[dict[str, Any]] = [{"op": "hello", "time": ctx.clock.now()}]
    if agent >= 4:
        name = "refresh-limits" if agent >= 6 else "recount"
        expected.append({"op": name, "memory_mib": 1280})
    assert (guest.asked, guest.open) == (expected, False)


def test_another_guest_is_not_asked(yard: Yard, record: Any) -> None:
    guest = Guest(6, "another")
    ctx = replace(yard.context, provider=Hypervisor(guest))  # type: ignore[arg-type]
    with pytest.raises(GuestError, match="the host's disk has a different identity, or none"):
        refresh_limits(ctx, record, Size(2, 1280, 8), Deadline(5))
    assert not guest.open


def test_a_host_of_the_memory_hypervisor_grows(bare: Yard) -> None:
    bare.templates.apply(TemplateSpec("base", max_memory_mib=2048))
    bare.fleets.apply(FleetSpec("web", "base", count=1))
    grown = bare.fleets.apply(FleetSpec("web", "base", count=1, host=HostSpec(memory_mib=1280)))
    assert [a.verb for a in grown.plan.actions] == ["resize"]
    assert grown.objects[0].size.memory_mib == 1280
