# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that have volumes, are in a pool and have a size of their own, all at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    Declaration,
    FleetSpec,
    FleetTerm,
    HostSpec,
    HypervisorError,
    MountedVolume,
    OperationRefused,
    PoolQuotaExceeded,
    PoolSpec,
    PoolTerm,
    SingleSpec,
    TemplateSpec,
    TemplateTerm,
    UpdateSpec,
    VolumeSpec,
    VolumeTerm,
    VolumeUse,
    Yard,
)
from tests.helpers.faulty_provider import FaultyProvider

ALL = HostSpec(pool="ci", vcpus=2, volumes=(VolumeUse("{host}-data", "/data", 1),))


def fleet(count: int = 2, **options: Any) -> FleetSpec:
    return FleetSpec(
        "web", "base", count=count, **{"host": ALL, "update": UpdateSpec(grace=0), **options}
    )


def declared(hosts: int) -> Declaration:
    return Declaration(
        (TemplateTerm(TemplateSpec("base")),),
        (FleetTerm(fleet()),),
        pools=(PoolTerm(PoolSpec("ci", hosts=hosts)),),
        volumes=(VolumeTerm(VolumeSpec("gold")),),
    )


def test_yard_of_all_kinds_is_created_in_order_and_deleted(bare: Yard) -> None:
    planned = bare.apply(declared(2), check=True).plan.actions
    assert [a.kind for a in planned] == ["pool", "template", "volume", "host", "host"]
    assert [str(a) for a in bare.apply(declared(2)).plan.actions] == [str(a) for a in planned]
    assert not bare.apply(declared(2)).changed
    checked = bare.teardown(templates=True, volumes=True, check=True)
    assert bare.teardown(templates=True, volumes=True).plan == checked.plan
    assert {a.kind for a in checked.plan.actions} == {"host", "template", "pool", "volume"}
    assert [bare.hosts.list(), bare.templates.list(), bare.pools.list(), bare.volumes.list()] == [
        ()
    ] * 4


def test_a_saved_plan_does_not_survive_a_change_of_a_pool(bare: Yard, tmp_path: Path) -> None:
    bare.apply(declared(2))
    bare.apply(declared(4), check=True, save_plan=tmp_path / "plan.json")
    for hosts in (3, 2):
        bare.pools.apply(PoolSpec("ci", hosts=hosts))
    with pytest.raises(OperationRefused, match="no longer matches the yard"):
        bare.apply(declared(4), apply_plan=tmp_path / "plan.json")


def test_refused_host_gets_no_volume(yard: Yard) -> None:
    yard.pools.apply(PoolSpec("ci", hosts=1))
    with pytest.raises(PoolQuotaExceeded):
        yard.fleets.apply(fleet())
    assert (yard.hosts.list(), yard.volumes.list()) == ((), ())
    with pytest.raises(PoolQuotaExceeded):
        yard.fleets.apply(fleet(on_full="fill"))
    assert [v.name for v in yard.volumes.list()] == ["web-1-data"]
    yard.volumes.attach("mine", host="web-1", path="/mine")
    with pytest.raises(PoolQuotaExceeded):
        yard.hosts.apply(
            SingleSpec("one", "base", host=replace(ALL, volumes=(VolumeUse("other", "/data"),)))
        )
    assert sorted(v.name for v in yard.volumes.list()) == ["mine", "web-1-data"]


def test_a_host_that_boots_has_its_size_and_its_volumes(
    yard: Yard, hypervisor: FaultyProvider
) -> None:
    yard.pools.apply(PoolSpec("ci"))
    yard.fleets.apply(fleet(1))
    yard.hosts.restart("web-1")
    assert hypervisor.calls["resize"] == 2
    (host,) = yard.hosts.list()
    assert (host.size.vcpus, host.volumes) == (
        2,
        (MountedVolume("web-1-data", "/data"),),
    )
    assert yard.volumes.list()[0].host == "web-1"


def test_a_host_grows_with_its_volumes_and_keeps_them(yard: Yard) -> None:
    yard.pools.apply(PoolSpec("ci", vcpus=3))
    before = yard.fleets.apply(fleet(1)).objects[0]
    grown = yard.fleets.apply(fleet(1, host=replace(ALL, vcpus=3)))
    assert [a.verb for a in grown.plan.actions] == ["resize"]
    assert (grown.objects[0].uuid, grown.objects[0].volumes) == (
        before.uuid,
        before.volumes,
    )
    with pytest.raises(PoolQuotaExceeded):
        yard.fleets.apply(fleet(1, host=replace(ALL, vcpus=4)))


def test_failed_resize_at_creation_releases_quota_and_volume(
    yard: Yard, hypervisor: FaultyProvider
) -> None:
    yard.pools.apply(PoolSpec("ci", hosts=1))
    hypervisor.fail("resize", HypervisorError("no."))
    with pytest.raises(HypervisorError):
        yard.fleets.apply(fleet(1))
    assert (yard.hosts.list(), yard.pools.list()[0].used.hosts) == ((), 0)
    assert yard.volumes.list()[0].host == ""
    yard.fleets.apply(fleet(1))
    assert yard.volumes.list()[0].host == "web-1"
