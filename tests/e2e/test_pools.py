# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools of real guests: who is let in, what they hold, and growing around them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from stockyard import (
    FleetSpec,
    HostSpec,
    OperationRefused,
    PoolQuotaExceeded,
    PoolSpec,
    TemplateInfo,
    Yard,
)
from tests.helpers.values import present

from .conftest import OWNER, WORK, Docker, ssh

pytestmark = pytest.mark.real
POOL = PoolSpec("fenced", hosts=2, memory_mib=1536, memory_overcommit=2.0)
FLEET = FleetSpec("fenced", "docker", count=4, host=HostSpec(pool="fenced"))


@pytest.fixture
def pool(yard: Yard, template: TemplateInfo) -> Iterator[Yard]:
    """A pool with room for two hosts."""
    yard.pools.apply(POOL)
    yield yard
    yard.fleets.delete("fenced")
    yard.pools.delete("fenced")


def uuids(yard: Yard) -> dict[str, str]:
    return {h.name: h.uuid for h in yard.hosts.list(fleet="fenced")}


def test_pool_admits_hosts_up_to_its_limit_and_grows(pool: Yard) -> None:
    with pytest.raises(
        PoolQuotaExceeded, match=r"insufficient quota for 2 hosts \(host fenced-3, host fenced-4\)"
    ) as refused:
        pool.fleets.apply(FLEET)
    assert "2 of 2 hosts are used" in refused.value.cause
    assert uuids(pool) == {}
    with pytest.raises(PoolQuotaExceeded):
        pool.fleets.apply(replace(FLEET, on_full="fill"))
    first = uuids(pool)
    assert sorted(first) == ["fenced-1", "fenced-2"]
    (known,) = pool.pools.list(name="fenced")
    print(
        "a pool of two forks:",
        known.used,
        known.held,
        known.first_to_go,
        known.warnings,
    )
    assert known.used.memory_mib == 2048
    assert 0 < present(known.held).private_mib < 600
    assert known.first_to_go in first
    assert all(h.oom_score > 0 for h in present(known.held).hosts)
    assert (known.enforced, bool(known.enforced_reason)) == ("admission", True)
    with pytest.raises(OperationRefused, match="smaller"):
        pool.pools.apply(replace(POOL, hosts=1))
    pool.pools.apply(replace(POOL, hosts=3))
    pool.fleets.apply(replace(FLEET, count=3))
    assert uuids(pool).items() > first.items()
    # 3 x 1024 MiB are all that 1536 MiB twice over hold, however many hosts there may be.
    pool.pools.apply(replace(POOL, hosts=9))
    with pytest.raises(PoolQuotaExceeded, match="3072 of 3072 MiB"):
        pool.fleets.apply(FLEET)


@pytest.mark.full
def test_twenty_in_a_pool_of_ten(pool: Yard) -> None:
    pool.pools.apply(PoolSpec("fenced", hosts=10))
    with pytest.raises(PoolQuotaExceeded, match="no room for 10 hosts"):
        pool.fleets.apply(replace(FLEET, count=20))
    assert uuids(pool) == {}
    with pytest.raises(PoolQuotaExceeded, match="no room for 10 hosts"):
        pool.fleets.apply(replace(FLEET, count=20, on_full="fill"), timeout=900)
    first = uuids(pool)
    assert len(first) == 10
    pool.pools.apply(PoolSpec("fenced", hosts=12))
    pool.fleets.apply(replace(FLEET, count=12), timeout=900)
    assert uuids(pool).items() > first.items()


def test_two_controllers_share_a_pool(pool: Yard) -> None:
    pool.pools.apply(PoolSpec("fenced", hosts=1))
    errors: list[Exception] = []

    def ask(name: str) -> None:
        with Yard(
            "qemu:///session", owner=OWNER, storage=str(WORK / "store"), pki_dir=str(WORK / "pki")
        ) as own:
            try:
                own.fleets.apply(FleetSpec(name, "docker", count=1, host=HostSpec(pool="fenced")))
            except Exception as error:  # noqa: BLE001  # looked at below
                errors.append(error)

    rivals = [threading.Thread(target=ask, args=(name,)) for name in ("fenced", "rival")]
    for rival in rivals:
        rival.start()
    for rival in rivals:
        rival.join()
    try:
        assert [type(error) for error in errors] == [PoolQuotaExceeded]
        assert pool.pools.list(name="fenced")[0].used.hosts == 1
    finally:
        pool.fleets.delete("rival")


@pytest.mark.full
def test_sixteen_hosts_with_half_their_memory_written(
    pool: Yard, docker: Docker, busybox: bytes
) -> None:
    """An overcommitted pool as in docs/pools.md: private memory grows, and a warning names it."""
    free = available_mib()
    if free < 16 * 700:
        pytest.skip(f"16 forks that write half their memory need 11 GiB, and {free} MiB are free")
    pool.pools.apply(PoolSpec("fenced", hosts=16, memory_mib=8192, memory_overcommit=2.0))
    hosts = pool.fleets.apply(replace(FLEET, count=16), timeout=1500).objects
    before = present(pool.pools.list(name="fenced")[0].held).private_mib
    for host in hosts:
        result = ssh(
            host,
            "sudo mount -t tmpfs -o size=90% none /mnt && sudo dd if=/dev/urandom of=/mnt/x bs=1M "
            "count=512",
        )
        assert result.returncode == 0, result.stderr
    (known,) = pool.pools.list(name="fenced")
    print(
        "16 forks, half their memory written:",
        before,
        "->",
        present(known.held).private_mib,
        known.warnings,
    )
    assert present(known.held).private_mib > before + 16 * 500
    assert known.first_to_go
    assert any("of their own, and the pool has 8192 MiB" in line for line in known.warnings)
    assert all(h.ready for h in pool.hosts.list(fleet="fenced"))


def available_mib() -> int:
    with open("/proc/meminfo", encoding="ascii") as handle:
        return next(
            int(line.split()[1]) // 1024 for line in handle if line.startswith("MemAvailable")
        )
