# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The size that containers need of their machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stockyard.endpoint.sizes import Demand, demand_of, total
from stockyard.errors import PoolQuotaExceeded, Unsupported
from stockyard.model.size import Size
from tests.helpers.endpoint_bench import BUSYBOX, Bench, play

MIB = 1 << 20


@pytest.mark.parametrize(
    ("host", "vcpus", "memory_mib"),
    [
        ({}, 0, 0),
        ({"Memory": 512 * MIB, "NanoCpus": 1_500_000_000}, 2, 512),
        ({"Memory": 512 * MIB + 1}, 0, 513),
        ({"CpuQuota": 250000}, 3, 0),
        ({"CpuQuota": 50000, "CpuPeriod": 10000}, 5, 0),
        ({"CpuQuota": -1, "Memory": -1}, 0, 0),
        ({"CpusetCpus": "0,2-3"}, 4, 0),
        ({"CpusetCpus": "9" * 99}, 0, 0),
        ({"Memory": "much", "NanoCpus": True}, 0, 0),
    ],
)
def test_limits_of_a_container_are_a_demand(
    host: dict[str, Any], vcpus: int, memory_mib: int
) -> None:
    demand = demand_of(host)
    assert (demand.vcpus, demand.memory_mib) == (vcpus, memory_mib)


def test_the_limits_of_containers_in_one_machine_add_up() -> None:
    demand = total([Demand(0.5, 2, 100), Demand(2.0, 0, 50), Demand()])
    assert (demand.vcpus, demand.memory_mib) == (3, 150)


def limits(memory_mib: int, cpus: int = 0) -> dict[str, Any]:
    return {"Memory": memory_mib * MIB, "NanoCpus": cpus * 10**9}


def test_limits_size_the_machine(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("web", BUSYBOX | {"HostConfig": limits(2048, 2)})
        assert bench.machines.forks[0].demand == Demand(2.0, 0, 2048)
        # The next container in the machine needs memory too.
        host = limits(512) | {"NetworkMode": "container:web"}
        await bench.create("db", BUSYBOX | {"HostConfig": host})
        assert bench.machines.demands["machine-1"] == Demand(2.0, 0, 2560)
        bench.machines.failures.append(PoolQuotaExceeded("the pool is full."))
        refused = await bench.create("more", BUSYBOX | {"HostConfig": host})
        assert (refused.status, refused.message) == (409, "the pool is full.")

    play(tmp_path, story)


def test_an_update_resizes_the_machine(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("web", BUSYBOX | {"HostConfig": limits(1024)})
        path = "/containers/web/update"
        assert (await bench.call("POST", path, limits(2048, 3))).status == 200
        assert bench.machines.demands["machine-1"] == Demand(3.0, 0, 2048)
        assert (await bench.call("POST", path, {"Memory": 256 * MIB})).status == 200
        assert bench.machines.demands["machine-1"] == Demand(3.0, 0, 256)
        bench.machines.failures.append(Unsupported("its maximum is 4096 MiB of memory."))
        refused = await bench.call("POST", path, limits(9999))
        assert (refused.status, "4096 MiB" in refused.message) == (400, True)
        inspected = (await bench.call("GET", "/containers/web/json")).json
        assert inspected["HostConfig"]["Memory"] == 256 * MIB

    play(tmp_path, story)


def test_info_shows_the_pool(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        assert "NCPU" not in (await bench.call("GET", "/info")).json
        bench.machines.size = Size(16, 65536)
        info = (await bench.call("GET", "/info")).json
        assert (info["NCPU"], info["MemTotal"]) == (16, 64 << 30)

    play(tmp_path, story)
