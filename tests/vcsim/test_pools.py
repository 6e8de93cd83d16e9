# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools on a simulated vCenter: real resource pools, nested, with hosts in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from stockyard import (
    FleetSpec,
    HostSpec,
    ImageSpec,
    OperationRefused,
    PoolQuotaExceeded,
    PoolSpec,
    TemplateSpec,
    Yard,
)
from tests.vcsim.simulator import SOURCE, Simulator

OUTER = PoolSpec("all", memory_mib=8192, memory_reservation_mib=1024, cpu_shares=2000)
INNER = PoolSpec("ci", parent="all", hosts=2, expandable=False)


@pytest.fixture(scope="module")
def yard(vcenter: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    vcenter.prepare(SOURCE)
    pki = str(tmp_path_factory.mktemp("pki"))
    with Yard(vcenter.uri + "?endpoints=false", owner="pools", pki_dir=pki) as opened:
        opened.templates.apply(TemplateSpec("base", image=ImageSpec(source=SOURCE)))
        yield opened
        opened.teardown(templates=True)


def found(vcenter: Simulator, path: str) -> Any:
    return vcenter.connect().content.searchIndex.FindByInventoryPath(
        f"DC0/host/DC0_C0/Resources/{path}"
    )


def test_pools_are_resource_pools_and_hosts_are_in_them(yard: Yard, vcenter: Simulator) -> None:
    yard.pools.apply(OUTER)
    yard.pools.apply(INNER)
    outer, path = (
        found(vcenter, "pools.default.pool.all"),
        "pools.default.pool.all/pools.default.pool.ci",
    )
    assert outer.config.memoryAllocation.limit == 8192
    assert outer.config.memoryAllocation.reservation == 1024
    assert (outer.config.cpuAllocation.shares.level, outer.config.cpuAllocation.shares.shares) == (
        "custom",
        2000,
    )
    assert found(vcenter, path).config.memoryAllocation.expandableReservation is False
    assert found(vcenter, path).config.memoryAllocation.limit == -1
    fleet = FleetSpec("ci", "base", count=3, host=HostSpec(pool="ci"))
    with pytest.raises(PoolQuotaExceeded, match="2 of 2 hosts"):
        yard.fleets.apply(fleet)
    hosts = yard.fleets.apply(replace(fleet, count=2)).objects
    assert [host.pool for host in hosts] == ["ci", "ci"]
    assert sorted(vm.name for vm in found(vcenter, path).vm) == [
        "pools.default.ci-1",
        "pools.default.ci-2",
    ]
    (known,) = yard.pools.list(name="ci")
    assert (known.enforced, known.used.hosts) == ("resource pool", 2)
    with pytest.raises(OperationRefused):
        yard.pools.delete("all")
    yard.pools.apply(replace(INNER, hosts=3))
    yard.pools.apply(replace(OUTER, memory_mib=16384))
    assert found(vcenter, "pools.default.pool.all").config.memoryAllocation.limit == 16384
    yard.fleets.apply(fleet)
    assert len(found(vcenter, path).vm) == 3
    yard.fleets.delete("ci")
    yard.pools.delete("ci")
    yard.pools.delete("all")
    assert found(vcenter, "pools.default.pool.all") is None
    assert yard.pools.list() == ()


def test_nothing_is_left_of_a_yard_with_pools(yard: Yard, vcenter: Simulator) -> None:
    yard.pools.apply(OUTER)
    yard.pools.apply(INNER)
    yard.teardown(templates=True)
    assert found(vcenter, "pools.default.pool.all") is None
    assert vcenter.find("stockyard/stockyard-register") is None
