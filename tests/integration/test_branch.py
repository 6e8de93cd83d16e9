# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module branch."""

from __future__ import annotations

import pytest

from .conftest import Controller, Played, task

DRY = {"check_mode": True, "diff": True}
TWIGS = {"host": "trunk", "names": ["twig-1", "twig-2"], "labels": {"run": "1"}, "ttl": "2h"}


@pytest.fixture(scope="module")
def played(controller: Controller) -> Played:
    return controller.play(
        [
            task("template", "template", name="docker"),
            task("trunk", "host", name="trunk", template="docker", labels={"of": "trunk"}),
            task("dry", "branch", DRY, **TWIGS),
            task("branched", "branch", **TWIGS),
            task("again", "branch", **TWIGS),
            task("dry again", "branch", DRY, **TWIGS),
            task("fleet", "branch", host="trunk", fleet="tries", count=2, containers="pause"),
            task("lease", "lease", {"register": "leased"}, fleet="tries", holder="me"),
            task("of another", "branch", host="{{ leased.lease.host }}", names=["copy"]),
            task(
                "of the holder",
                "branch",
                host="{{ leased.lease.host }}",
                names=["copy"],
                lease="{{ leased.lease.id }}",
            ),
            task("no trunk", "host", name="trunk", state="absent"),
            task("without trunk", "branch", **TWIGS),
            task("no parent", "branch", host="trunk", names=["twig-3"]),
            task("nonsense", "branch", host="twig-1", names=["twig-1"]),
            task("hosts", "host_info"),
        ]
    )


def test_children_are_created_once(played: Played) -> None:
    plan = [f"create host twig-{number}: branched from host trunk" for number in (1, 2)]
    assert played["dry"]["plan"] == played["branched"]["plan"] == plan
    assert played["dry"]["hosts"] == []
    assert "twig-2" in str(played["dry"]["diff"])
    children = played["branched"]["hosts"]
    assert [child["name"] for child in children] == ["twig-1", "twig-2"]
    assert all(child["ready"] and child["labels"] == {"run": "1"} for child in children)
    assert all(child["expires"] > child["created"] for child in children)
    for name in ("again", "dry again"):
        assert (played[name]["changed"], played[name]["hosts"]) == (False, children)


def test_progress_names_the_pause_of_the_parent(played: Played) -> None:
    assert any("host trunk: branched" in line for line in played["branched"]["progress"])


def test_children_of_a_leased_host_belong_to_its_holder(played: Played) -> None:
    assert played["fleet"]["changed"]
    (copy,) = played["of the holder"]["hosts"]
    assert copy["lease"]["holder"] == "me"
    error = played["of another"]["error"]
    assert (error["kind"], error["cause"]) == ("OperationRefused", "it is leased by me")


def test_children_outlive_their_parent(played: Played) -> None:
    assert played["without trunk"]["changed"] is False
    assert played["no parent"]["error"]["kind"] == "NotFound"
    names = [host["name"] for host in played["hosts"]["hosts"]]
    assert names == ["copy", "tries-1", "tries-2", "twig-1", "twig-2"]


def test_nonsense_is_refused(played: Played) -> None:
    assert played["nonsense"]["error"]["kind"] == "InvalidInput"
