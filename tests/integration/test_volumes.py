# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules volume and volume_info, and volumes in a declared yard, over the memory
hypervisor.
"""

from __future__ import annotations

import pytest

from .conftest import Controller, Played, checksum, task

DRY = {"check_mode": True, "diff": True}
DATA = {"name": "data", "size_gib": 5}
ATTACHED = {"name": "data", "state": "attached", "host": "web-1", "path": "/data"}
YARD = {
    "templates": [{"name": "stateful", "docker": "stopped"}],
    "volumes": [{"name": "golden", "size_gib": 3}],
    "fleets": [
        {
            "name": "web",
            "template": "stateful",
            "count": 2,
            "volumes": [{"name": "{host}-docker", "source": "golden"}],
        }
    ],
}


@pytest.fixture(scope="module")
def played(controller: Controller) -> Played:
    steps = [
        task("none", "volume_info"),
        task("dry yard", "yard", DRY, state="present", declaration=YARD),
        task("yard", "yard", state="present", declaration=YARD),
        task("yard again", "yard", state="present", declaration=YARD, prune="yes"),
        task("present", "volume", {"diff": True}, **DATA),
        task("present again", "volume", **DATA),
        checksum("before", controller.state),
        task("dry attached", "volume", DRY, **ATTACHED),
        task("dry grown", "volume", DRY, name="data", size_gib=6),
        task("dry absent", "volume", DRY, name="data", state="absent"),
        checksum("after", controller.state),
        task("attached", "volume", **ATTACHED),
        task("attached again", "volume", **ATTACHED),
        task("taken", "volume", **{**ATTACHED, "host": "web-2"}),
        task("held", "volume", name="data", state="absent"),
        task("smaller", "volume", name="data", size_gib=4),
        task("no host", "volume", name="data", state="attached"),
        task("host ignored", "volume", name="data", state="detached", host="web-1"),
        task("detached", "volume", name="data", state="detached"),
        task("detached again", "volume", name="data", state="detached"),
        task("snapshot", "volume", name="data-then", source="data", snapshot=True),
        task("info", "volume_info", name="data"),
        task("absent", "volume", name="data", state="absent"),
        task("absent again", "volume", name="data", state="absent"),
        task("torn down", "yard", state="absent", templates=True),
        task("gone", "yard", state="absent", volumes=True),
        task("none left", "volume_info"),
    ]
    return controller.play(steps)


def test_a_declared_yard_has_its_volumes(played: Played) -> None:
    assert not played["dry yard"].get("failed"), played["dry yard"]
    assert played["yard"]["plan"] == played["dry yard"]["plan"]
    assert played["yard"]["plan"][1] == "create volume golden: it does not exist"
    assert not played["yard again"]["changed"]
    (first, _second) = played["yard"]["members"]
    assert first["volumes"] == [{"name": "web-1-docker", "path": "/var/lib/docker"}]


def test_second_run_of_volumes_changes_nothing(played: Played) -> None:
    for step in ("present", "attached", "detached", "absent"):
        assert played[step]["changed"], played[step]
        assert not played[f"{step} again"]["changed"], played[f"{step} again"]


def test_check_mode_shows_and_changes_nothing(played: Played) -> None:
    assert played["dry attached"]["plan"] == [
        "attach volume data: it must be attached to host web-1"
    ]
    assert played["dry grown"]["diff"] == {
        "before": {"volume data": {"size_gib": 5}},
        "after": {"volume data": {"size_gib": 6}},
    }
    assert played["dry absent"]["plan"] == ["delete volume data: it is declared absent"]
    assert played["before"]["stat"]["checksum"] == played["after"]["stat"]["checksum"]


def test_a_second_host_is_refused_and_the_holder_is_named(played: Played) -> None:
    for step in ("taken", "held"):
        assert played[step]["failed"]
        assert "it is attached to host web-1" in played[step]["msg"]
        assert played[step]["error"]["kind"] == "OperationRefused"
    assert played["smaller"]["error"]["kind"] == "InvalidInput"
    assert "host" in played["no host"]["msg"]
    assert played["host ignored"]["error"]["kind"] == "InvalidInput"
    assert "host 'web-1' means nothing with state detached" in played["host ignored"]["msg"]


def test_volume_information_is_returned(played: Played) -> None:
    assert played["none"]["volumes"] == []
    assert played["attached"]["volume"]["host"] == "web-1"
    assert played["attached"]["progress"][-1] == "volume data: attached to host web-1 at /data"
    (volume,) = played["info"]["volumes"]
    assert (volume["size_gib"], volume["filesystem"], volume["mounted"]) == (5, "ext4", False)
    assert played["snapshot"]["volume"]["snapshot"]
    assert played["absent again"]["volume"] is None


def test_teardown_keeps_and_reports_volumes(played: Played) -> None:
    names = ["data-then", "golden", "web-1-docker", "web-2-docker"]
    assert played["torn down"]["retained"] == [f"volume {name}" for name in names]
    assert played["gone"]["plan"] == [
        f"delete volume {name}: the yard is being torn down" for name in names
    ]
    assert "kept" not in played["gone"]
    assert played["none left"]["volumes"] == []
