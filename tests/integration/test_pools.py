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
def told(controller: Controller) -> Played:
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


def test_a_pool_is_kept_as_declared(told: Played) -> None:
    assert told["dry"]["plan"] == told["pool"]["plan"] == ["create pool ci: it does not exist"]
    assert told["dry"]["diff"]["after"]["pool ci"]["hosts"] == 2
    assert told["dry"]["pool"] == {}
    assert told["pool"]["pool"]["free"]["hosts"] == 2
    assert told["pool again"]["changed"] is False
    assert told["grown"]["diff"]["before"]["pool ci"]["hosts"] == 2


def test_what_has_no_room_is_refused_with_the_numbers(told: Played) -> None:
    assert (
        told["too many"]["error"]["kind"] == told["filled"]["error"]["kind"] == "PoolQuotaExceeded"
    )
    assert "2 of 2 hosts are used, and 1 more are needed" in told["too many"]["msg"]
    assert told["none"]["fleets"] == []
    assert told["two"]["fleets"][0]["hosts"] == ["ci-1", "ci-2"]
    assert told["third"]["plan"] == ["create host ci-3: the fleet has 2 of 3 hosts"]
    assert told["smaller"]["error"]["kind"] == told["in use"]["error"]["kind"] == "OperationRefused"


def test_what_is_used_is_shown(told: Played) -> None:
    (pool,) = told["info"]["pools"]
    assert pool["used"] == {"hosts": 3, "vcpus": 3, "memory_mib": 3072, "disk_gib": 24}
    assert (pool["members"], pool["enforced"]) == (["ci-1", "ci-2", "ci-3"], "admission")
    assert told["leased"]["lease"]["fleet"] == "ci"
    assert (told["gone"]["changed"], told["gone again"]["changed"]) == (True, False)
    assert told["list"]["pools"] == []


def test_a_size_is_changed_where_the_host_is(told: Played) -> None:
    assert told["resize"]["plan"][0] == "resize host ci-1: vcpus changed; the host keeps running"
    assert told["not to be had"]["error"]["kind"] == "Unsupported"


def test_what_is_preloaded_is_named_in_one_way(told: Played) -> None:
    assert told["template"]["changed"] is True
    assert "mutually exclusive" in told["two at once"]["msg"]
    assert "by its digest" in told["by tag"]["msg"]


def test_a_whole_yard_has_pools(controller: Controller, tmp_path: Path) -> None:
    declaration = tmp_path / "yard.yml"
    declaration.write_text(json.dumps(DECLARED))
    made = controller.run("stockyard.container_hosts.site", "-e", f"yard={declaration}")
    assert made.returncode == 0, made.output
    again = controller.run("stockyard.container_hosts.site", "-e", f"yard={declaration}")
    assert "changed=0 " in again.stdout
    declaration.write_text(json.dumps({**DECLARED, "yard_pools": DECLARED["yard_pools"][:1]}))
    kept = controller.run("stockyard.container_hosts.site", "-e", f"yard={declaration}")
    assert kept.returncode == 0, kept.output
