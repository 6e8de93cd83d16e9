# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules over the memory hypervisor: one play tells the whole life of a yard, each test looks
at a part of it.
"""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Controller, Played, checksum, task

DRY = {"check_mode": True, "diff": True}
WEB = {"name": "web", "template": "docker", "ports": [8080]}
CHANGES = [
    task("template", "template", name="docker"),
    task("fleet", "fleet", **WEB, count=2),
    task("labels", "fleet", **WEB, count=2, labels={"stage": "test"}),
    task("host", "host", name="builder", template="docker", wait=False),
    task("restarted", "host", name="builder", state="restarted"),
    task("replaced", "host", name="builder", state="replaced"),
    task("member replaced", "host", name="web-2", state="replaced"),
    task("fewer", "fleet", **WEB, count=1, labels={"stage": "test"}),
    task("host absent", "host", name="builder", state="absent"),
    task("fleet absent", "fleet", name="web", state="absent"),
    task("template absent", "template", name="docker", state="absent"),
]
IDEMPOTENT = (
    "template",
    "fleet",
    "labels",
    "host",
    "host absent",
    "fleet absent",
    "template absent",
)


def again(first: dict[str, Any]) -> list[dict[str, Any]]:
    """A change, and where it should change nothing a second time, that too."""
    return (
        [first, {**first, "name": f"{first['name']} again"}]
        if first["name"] in IDEMPOTENT
        else [first]
    )


@pytest.fixture(scope="module")
def played(controller: Controller) -> Played:
    infos = [task(f"no {kind}", f"{kind}_info") for kind in ("template", "fleet", "host")]
    dry = [
        task("dry template", "template", DRY, name="docker"),
        task("dry fleet", "fleet", DRY, **WEB, count=2),
        task("dry host", "host", DRY, name="builder", template="docker"),
        checksum("empty state", controller.state),
    ]
    changes = [step for change in CHANGES for step in again(change)]
    middle = 1 + next(i for i, step in enumerate(changes) if step["name"] == "replaced")
    look = [task(f"{kind}s", f"{kind}_info") for kind in ("template", "fleet", "host")]
    look += [
        checksum("state before", controller.state),
        task("dry more", "fleet", DRY, **WEB, count=3, labels={"stage": "test"}),
        task("dry fewer", "fleet", DRY, **WEB, count=1, labels={"stage": "prod"}),
        task("dry restart", "host", DRY, name="builder", state="restarted"),
        task("dry rebuild", "template", DRY, name="docker", packages=["git"]),
        task("dry yard", "yard", DRY, state="absent", templates=True),
        checksum("state after", controller.state),
    ]
    return controller.play([*infos, *dry, *changes[:middle], *look, *changes[middle:]])


def test_playbook_of_all_modules_succeeds(played: Played) -> None:
    assert played.returncode == 0
    assert "failed=0" in played.stdout
    assert "ignored=0" in played.stdout


def test_an_empty_yard_has_empty_lists(played: Played) -> None:
    assert played["no template"]["templates"] == []
    assert played["no fleet"]["fleets"] == []
    assert played["no host"]["hosts"] == []


def test_check_mode_works_without_a_template(played: Played) -> None:
    assert played["dry fleet"]["plan"] == [
        "create host web-1: the fleet has 0 of 2 hosts",
        "create host web-2: the fleet has 0 of 2 hosts",
    ]
    assert sorted(played["dry fleet"]["diff"]["after"]) == ["host web-1", "host web-2"]
    assert played["dry fleet"]["diff"]["before"] == {}
    assert played["dry template"]["changed"]
    assert played["dry host"]["changed"]
    assert played["empty state"]["stat"]["exists"] is False


@pytest.mark.parametrize("name", ["template", "fleet", "host"])
def test_check_mode_returns_the_keys_of_a_change(played: Played, name: str) -> None:
    assert played[f"dry {name}"].keys() - {"diff"} == played[name].keys()


@pytest.mark.parametrize("name", [change["name"] for change in CHANGES])
def test_change_is_reported(played: Played, name: str) -> None:
    assert played[name]["changed"] is True
    assert played[name]["plan"]
    assert "diff" not in played[name]


@pytest.mark.parametrize("name", IDEMPOTENT)
def test_a_second_run_changes_nothing(played: Played, name: str) -> None:
    assert played[f"{name} again"]["changed"] is False
    assert played[f"{name} again"]["plan"] == []
    assert played[f"{name} again"]["progress"] == []


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("dry more", ["create host web-3: the fleet has 2 of 3 hosts"]),
        (
            "dry fewer",
            ["relabel host web-1: labels changed", "delete host web-2: the fleet must have 1"],
        ),
        ("dry restart", ["restart host builder: the task requests it"]),
        ("dry rebuild", ["build template docker: its declaration changed"]),
    ],
)
def test_check_mode_returns_the_plan(played: Played, name: str, plan: list[str]) -> None:
    assert played[name]["plan"] == plan
    assert played[name]["changed"] is True
    # A restarted host is as before.
    differs = played[name]["diff"]["before"] != played[name]["diff"]["after"]
    assert differs is (name != "dry restart")


def test_check_mode_writes_nothing(played: Played) -> None:
    assert played["state before"]["stat"]["checksum"] == played["state after"]["stat"]["checksum"]
    assert len(played["dry yard"]["hosts"]) == 3
    assert len(played["dry yard"]["plan"]) == 4


def test_fleet_returns_the_access_to_its_hosts(played: Played) -> None:
    first, second = played["fleet"]["hosts"]
    assert (first["name"], second["name"]) == ("web-1", "web-2")
    assert first["ready"] is True
    assert first["ports"] == [8080]
    assert first["docker"]["endpoint"] == f"tcp://{first['address']}:2376"
    assert first["docker"]["export"].startswith(
        f"export DOCKER_HOST=tcp://{first['address']}:2376 DOCKER_CERT_PATH=/"
    )
    assert "StrictHostKeyChecking=yes" in first["ssh"]["command"]
    assert first["identity"]["ssh_host_key"] != second["identity"]["ssh_host_key"]


def test_labels_change_in_place(played: Played) -> None:
    assert [h["uuid"] for h in played["labels"]["hosts"]] == [
        h["uuid"] for h in played["fleet"]["hosts"]
    ]
    assert played["labels"]["hosts"][0]["labels"] == {"stage": "test"}


def test_a_restarted_host_keeps_its_identity_and_a_replaced_one_does_not(played: Played) -> None:
    created, restarted, replaced = (
        played[name]["host"] for name in ("host", "restarted", "replaced")
    )
    assert (restarted["uuid"], restarted["identity"]) == (created["uuid"], created["identity"])
    assert replaced["uuid"] != created["uuid"]
    assert replaced["identity"]["machine_id"] != created["identity"]["machine_id"]


def test_a_replaced_member_stays_in_its_fleet(played: Played) -> None:
    host = played["member replaced"]["host"]
    assert (host["fleet"], host["ports"], host["labels"]) == ("web", [8080], {"stage": "test"})


def test_info_modules_list_existing_objects(played: Played) -> None:
    (template,) = played["templates"]["templates"]
    assert (template["name"], template["usable"]) == ("docker", True)
    (fleet,) = played["fleets"]["fleets"]
    generation = template["generation"]
    assert fleet == {
        "name": "web",
        "tenant": "default",
        "template": "docker",
        "generations": [generation],
        "hosts": ["web-1", "web-2"],
        "ready": 2,
        "total": 2,
        "leased": 0,
        "outdated": [],
        "drift": {},
    }
    assert [h["name"] for h in played["hosts"]["hosts"]] == ["builder", "web-1", "web-2"]
    assert played["hosts"]["changed"] is False


def test_absent_objects_are_deleted(played: Played) -> None:
    assert played["host absent"]["host"] is None
    assert played["fleet absent"]["hosts"] == []
    assert played["template absent"]["template"] is None
    assert played["template absent"]["templates"] == []


def test_progress_is_in_the_result_and_was_shown(played: Played) -> None:
    assert any("template docker: frozen" in line for line in played["template"]["progress"])
    for line in played["fleet"]["progress"]:
        assert f"[localhost] {line}\n" in played.stderr
