# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules pool and pool_info, pools of fleets and of a whole yard, and what templates and hosts
are given.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Controller, Played, task

DRY = {"check_mode": True, "diff": True}
FLEET = {"name": "ci", "template": "docker", "pool": "ci"}
DECLARED = {
    "yard_owner": "site",
    "yard_templates": [{"name": "docker", "max_memory_mib": 2048, "commands": ["true"]}],
    "yard_pools": [
        {"name": "all", "memory_mib": 4096},
        {"name": "ci", "parent": "all", "hosts": 2},
    ],
    "yard_fleets": [{**FLEET, "count": 2, "vcpus": 2, "on_full": "fill"}],
}


@pytest.fixture(scope="module")
def played(controller: Controller) -> Played:
    archive = controller.root / "app.tar"
    archive.write_bytes(b"an archive")
    return controller.play(
        [
            task(
                "template",
                "template",
                name="docker",
                preload=[{"archive": str(archive)}],
                max_memory_mib=2048,
            ),
            task(
                "two at once",
                "template",
                name="docker",
                preload=[{"archive": "/a", "rootfs": "/b", "name": "c"}],
            ),
            task(
                "by tag",
                "template",
                name="docker",
                preload=[{"image": "registry.example/app:1", "name": "app"}],
            ),
            task("dry", "pool", DRY, name="ci", hosts=2),
            task("pool", "pool", name="ci", hosts=2),
            task("pool again", "pool", name="ci", hosts=2),
            task("too many", "fleet", **FLEET, count=4),
            task("none", "fleet_info"),
            task("filled", "fleet", **FLEET, count=4, on_full="fill"),
            task("two", "fleet_info", name="ci"),
            task("smaller", "pool", name="ci", hosts=1),
            task("grown", "pool", DRY | {"check_mode": False}, name="ci", hosts=3, memory_mib=4096),
            task("third", "fleet", **FLEET, count=3),
            task("resize", "fleet", DRY, **FLEET, count=3, vcpus=2),
            task("not to be had", "fleet", **FLEET, count=3, vcpus=9),
            task("info", "pool_info", name="ci"),
            task("leased", "lease", pool="ci", holder="me"),
            task("in use", "pool", name="ci", state="absent"),
            task("fleet gone", "fleet", name="ci", state="absent"),
            task("gone", "pool", name="ci", state="absent"),
            task("gone again", "pool", name="ci", state="absent"),
            task("list", "pool_info"),
        ]
    )


def test_a_pool_is_kept_as_declared(played: Played) -> None:
    assert played["dry"]["plan"] == played["pool"]["plan"] == ["create pool ci: it does not exist"]
    assert played["dry"]["diff"]["after"]["pool ci"]["hosts"] == 2
    assert played["dry"]["pool"] == {}
    assert played["pool"]["pool"]["free"]["hosts"] == 2
    assert played["pool again"]["changed"] is False
    assert played["grown"]["diff"]["before"]["pool ci"]["hosts"] == 2


def test_hosts_beyond_the_pool_are_refused_with_the_numbers(played: Played) -> None:
    assert (
        played["too many"]["error"]["kind"]
        == played["filled"]["error"]["kind"]
        == "PoolQuotaExceeded"
    )
    assert "2 of 2 hosts are used, and 1 more are needed" in played["too many"]["msg"]
    assert played["none"]["fleets"] == []
    assert played["two"]["fleets"][0]["hosts"] == ["ci-1", "ci-2"]
    assert played["third"]["plan"] == ["create host ci-3: the fleet has 2 of 3 hosts"]
    assert (
        played["smaller"]["error"]["kind"]
        == played["in use"]["error"]["kind"]
        == "OperationRefused"
    )


def test_use_of_a_pool_is_returned(played: Played) -> None:
    (pool,) = played["info"]["pools"]
    assert pool["used"] == {"hosts": 3, "vcpus": 3, "memory_mib": 3072, "disk_gib": 24}
    assert (pool["members"], pool["enforced"]) == (["ci-1", "ci-2", "ci-3"], "admission")
    assert played["leased"]["lease"]["fleet"] == "ci"
    assert (played["gone"]["changed"], played["gone again"]["changed"]) == (True, False)
    assert played["list"]["pools"] == []


def test_a_size_is_changed_where_the_host_is(played: Played) -> None:
    assert played["resize"]["plan"][0] == "resize host ci-1: vcpus changed; the host keeps running"
    assert played["not to be had"]["error"]["kind"] == "Unsupported"


def test_preload_with_two_sources_is_refused(played: Played) -> None:
    assert played["template"]["changed"] is True
    assert "mutually exclusive" in played["two at once"]["msg"]
    assert "by its digest" in played["by tag"]["msg"]


def test_a_whole_yard_has_pools(controller: Controller, tmp_path: Path) -> None:
    declaration = tmp_path / "yard.yml"
    declaration.write_text(json.dumps(DECLARED))
    first_run = controller.run("stockyard.container_hosts.site", "-e", f"yard={declaration}")
    assert first_run.returncode == 0, first_run.output
    second_run = controller.run("stockyard.container_hosts.site", "-e", f"yard={declaration}")
    assert "changed=0 " in second_run.stdout
    declaration.write_text(json.dumps({**DECLARED, "yard_pools": DECLARED["yard_pools"][:1]}))
    third_run = controller.run("stockyard.container_hosts.site", "-e", f"yard={declaration}")
    assert third_run.returncode == 0, third_run.output
