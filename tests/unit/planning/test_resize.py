# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes that a host can take on where it is, and what a plan says of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stockyard import (
    FleetSpec,
    HostSpec,
    HypervisorError,
    InvalidInput,
    LeaseSpec,
    PoolQuotaExceeded,
    PoolSpec,
    SingleSpec,
    TemplateSpec,
    Unsupported,
    UpdateSpec,
    Yard,
)
from stockyard.model.size import Size
from stockyard.planning import resize
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.samples import host_record

FROZEN, MOST = Size(1, 1024, 8), Size(4, 2048)


@given(st.integers(512, 8192), st.integers(0, 32768))
def test_every_step_fits_and_the_slots_are_enough(least: int, room: int) -> None:
    stride = resize.step(least, least + room)
    assert stride % resize.BLOCK_MIB == 0
    assert (stride == 0) == (room < resize.BLOCK_MIB)
    if stride:
        assert room // stride <= resize.SLOTS
        assert (
            resize.why_not(Size(1, least + stride), Size(1, least), Size(1, least + room)) == ""
            or stride > room
        )


@pytest.mark.parametrize(
    ("size", "why"),
    [
        (Size(1, 1024), ""),
        (Size(4, 2048), ""),
        (Size(2, 1152), ""),
        (Size(5, 1024), "maximum is 4 vCPUs"),
        (Size(0, 1024), "frozen with 1 vCPUs"),
        (Size(1, 1023), "frozen with 1024 MiB"),
        (Size(1, 2049), "maximum is 2048 MiB of memory"),
        (Size(1, 1100), "steps of 128 MiB"),
    ],
)
def test_impossible_resize_has_a_reason(size: Size, why: str) -> None:
    assert why in resize.why_not(size, FROZEN, MOST)
    assert bool(resize.why_not(size, FROZEN, MOST)) == bool(why)


def test_machine_without_hot_remove_is_replaced_to_shrink() -> None:
    record = replace(
        host_record(), size=Size(2, 2048, 8), template_size=FROZEN, max_size=MOST, resize_mode="up"
    )
    for less in (
        HostSpec(vcpus=1, memory_mib=2048),
        HostSpec(vcpus=4, memory_mib=1024),
        HostSpec(),
    ):
        assert "this hypervisor cannot reduce the size" in resize.in_place(record, less)
        assert not resize.in_place(replace(record, resize_mode="both"), less)
    assert not resize.in_place(record, HostSpec(vcpus=4, memory_mib=2048))
    with pytest.raises(InvalidInput):
        replace(record, resize_mode="down")


def test_sizes_that_make_no_sense() -> None:
    for bad in ({"vcpus": -1}, {"vcpus": 256}, {"memory_mib": True}, {"memory_mib": 1.5}):
        with pytest.raises(InvalidInput):
            HostSpec(**bad)
    for bad in ({"max_memory_mib": 1023}, {"max_memory_mib": -1}, {"max_memory_mib": True}):
        with pytest.raises(InvalidInput):
            TemplateSpec("base", **bad)


@pytest.fixture
def roomy(bare: Yard) -> Yard:
    """A yard with a template into whose forks memory can be plugged."""
    bare.templates.apply(TemplateSpec("base", max_memory_mib=2048))
    return bare


def fleet(count: int = 2, **size: Any) -> FleetSpec:
    return FleetSpec("ci", "base", count=count, host=HostSpec(**size), update=UpdateSpec(grace=0))


def verbs(result: Any) -> list[str]:
    return [str(a) for a in result.plan.actions]


def test_hosts_are_resized_where_they_are(roomy: Yard) -> None:
    before = roomy.fleets.apply(fleet()).objects
    actions = verbs(roomy.fleets.apply(fleet(vcpus=2, memory_mib=1280), check=True))
    assert actions == [
        f"resize host ci-{n}: memory_mib, vcpus changed; the host keeps running" for n in (1, 2)
    ]
    after = roomy.fleets.apply(fleet(vcpus=2, memory_mib=1280))
    assert verbs(after) == actions
    assert [h.uuid for h in after.objects] == [h.uuid for h in before]
    assert [h.size for h in after.objects] == [Size(2, 1280, 8)] * 2
    assert not roomy.fleets.apply(fleet(vcpus=2, memory_mib=1280)).changed
    roomy.fleets.apply(fleet())
    assert [h.size.vcpus for h in roomy.hosts.list()] == [1, 1]


def test_resize_with_another_change_replaces_the_host(roomy: Yard) -> None:
    roomy.fleets.apply(fleet(1))
    plan = roomy.fleets.apply(fleet(1, vcpus=2, ports=(80,)), check=True).plan
    assert "ports, vcpus changed" in str(plan.actions[0])
    assert "resize" not in {a.verb for a in plan.actions}


def test_a_size_that_no_host_can_have_is_refused_before_anything_is_done(roomy: Yard) -> None:
    before = roomy.fleets.apply(fleet()).objects
    for size in ({"vcpus": 5}, {"memory_mib": 4096}, {"memory_mib": 1100}, {"memory_mib": 512}):
        with pytest.raises(Unsupported):
            roomy.fleets.apply(fleet(**size))
    assert roomy.hosts.list() == before


def test_new_hosts_have_the_size_from_the_beginning(
    roomy: Yard, hypervisor: FaultyProvider
) -> None:
    (resized,) = roomy.fleets.apply(fleet(1, vcpus=2)).objects
    assert resized.size.vcpus == 2
    assert hypervisor.calls["resize"] == 1
    roomy.hosts.restart("ci-1")
    assert hypervisor.calls["resize"] == 2


def test_a_host_that_is_leased_keeps_its_size(roomy: Yard) -> None:
    roomy.fleets.apply(fleet(1))
    roomy.leases.ensure(LeaseSpec("me", "ci"))
    assert not roomy.fleets.apply(fleet(1, vcpus=2)).changed


def test_growing_needs_room_in_the_pool(roomy: Yard) -> None:
    roomy.pools.apply(PoolSpec("ci", memory_mib=2304))
    roomy.fleets.apply(fleet(2, pool="ci"))
    with pytest.raises(PoolQuotaExceeded, match="insufficient quota for 1 host "):
        roomy.fleets.apply(fleet(2, pool="ci", memory_mib=1280))
    assert roomy.pools.list()[0].used.memory_mib == 2048
    roomy.fleets.apply(fleet(2, pool="ci", memory_mib=1152))
    assert roomy.pools.list()[0].used.memory_mib == 2304
    roomy.fleets.apply(fleet(2, pool="ci"))
    assert roomy.pools.list()[0].used.memory_mib == 2048


def test_memory_that_a_guest_keeps_counts_in_the_pool(
    roomy: Yard, hypervisor: FaultyProvider
) -> None:
    roomy.pools.apply(PoolSpec("ci", memory_mib=1280))
    roomy.fleets.apply(fleet(1, pool="ci", memory_mib=1280))
    hypervisor.fail("resize", HypervisorError("it is kept"))
    with pytest.raises(HypervisorError):
        roomy.fleets.apply(fleet(1, pool="ci"))
    assert roomy.pools.list()[0].used.memory_mib == 1280
    assert verbs(roomy.fleets.apply(fleet(1, pool="ci"))) == [
        "resize host ci-1: memory_mib changed; the host keeps running"
    ]
    assert roomy.pools.list()[0].used.memory_mib == 1024


def test_one_host_is_resized_too(roomy: Yard) -> None:
    before = roomy.hosts.apply(SingleSpec("one", "base")).objects[0]
    spec = SingleSpec("one", "base", host=HostSpec(vcpus=3))
    assert verbs(roomy.hosts.apply(spec, check=True)) == [
        "resize host one: vcpus changed; the host keeps running"
    ]
    after = roomy.hosts.apply(spec).objects[0]
    assert (after.uuid, after.size.vcpus) == (before.uuid, 3)
