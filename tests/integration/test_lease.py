# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules lease and lease_info, and the playbook lease."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Controller, Played, task

DRY = {"check_mode": True, "diff": True}
CI = {"name": "ci", "template": "docker", "count": 1, "min_ready": 1, "max": 2, "ttl": "8h"}
MINE = {"fleet": "ci", "holder": "me"}
NEVER = "11111111-2222-4333-8444-555555555555"
PLAYBOOK = "stockyard.container_hosts.lease"


@pytest.fixture(scope="module")
def told(controller: Controller) -> Played:
    number = "{{ taken.lease.id }}"
    return controller.play(
        [
            task("template", "template", name="docker"),
            task("fleet", "fleet", **CI),
            task("dry", "lease", DRY, **MINE),
            task("taken", "lease", {"register": "taken"}, **MINE, duration="10m"),
            task("taken again", "lease", **MINE),
            task("renewed", "lease", **MINE, renew=True, duration="20m"),
            task("dry longer", "lease", DRY, id=number, duration="1h"),
            task("longer", "lease", id=number, duration="1h"),
            task("none", "lease", fleet="ci", holder="you"),
            task("refilled", "fleet", **CI),
            task("refilled again", "fleet", **CI),
            task("yours", "lease", fleet="ci", holder="you"),
            task("list", "lease_info", fleet="ci"),
            task("hosts", "host_info"),
            task("dry back", "lease", DRY, id=number, state="released"),
            task("back", "lease", id=number, state="released"),
            task("back again", "lease", id=number, state="released"),
            task("never", "lease", id=NEVER, state="released"),
            task("dry never", "lease", DRY, id=NEVER, state="released"),
            task("too late", "lease", id=number),
            task("yours back", "lease", fleet="ci", holder="you", state="released", replace=True),
            task("list again", "lease_info"),
            task("nonsense", "lease", holder="me"),
            task("nobody", "lease", fleet="ci"),
            task("bad duration", "lease", **MINE, duration="soon"),
        ]
    )


def test_a_holder_has_one_lease(told: Played) -> None:
    assert told["dry"]["plan"] == ["lease host of fleet ci: me requests a lease"]
    assert told["dry"]["lease"] == {}
    assert told["taken"]["plan"] == ["lease host ci-1: me requests a lease"]
    assert told["taken again"]["changed"] is False
    lease = told["taken"]["lease"]
    assert told["taken again"]["lease"] == lease
    assert lease["docker"]["environment"]["DOCKER_CERT_PATH"].endswith(lease["id"])
    assert told["none"]["error"]["kind"] == "Busy"
    assert "it is leased by me" in told["none"]["msg"]


def test_a_lease_is_renewed(told: Played) -> None:
    first, renewed, longer = (
        told[name]["lease"]["until"] for name in ("taken", "renewed", "longer")
    )
    assert 550 < renewed - first < 700
    assert 2300 < longer - renewed < 2500
    assert told["dry longer"]["plan"] == told["longer"]["plan"]
    assert told["dry longer"]["lease"]["until"] == renewed


def test_a_fleet_keeps_a_spare(told: Played) -> None:
    assert told["refilled"]["plan"] == ["create host ci-2: the fleet has 1 of 2 hosts"]
    assert told["refilled again"]["changed"] is False
    assert [lease["holder"] for lease in told["list"]["leases"]] == ["me", "you"]
    assert [h["lease"]["holder"] for h in told["hosts"]["hosts"]] == ["me", "you"]
    assert all(h["expires"] > 0 for h in told["hosts"]["hosts"])


def test_a_host_is_given_back_once(told: Played) -> None:
    assert (
        told["dry back"]["plan"]
        == told["back"]["plan"]
        == ["delete host ci-1: its lease was released"]
    )
    assert (told["dry back"]["lease"]["id"], told["back"]["lease"]) == (
        told["taken"]["lease"]["id"],
        {},
    )
    assert told["back again"]["changed"] is False
    assert told["too late"]["error"]["kind"] == "LeaseExpired"
    assert told["never"]["error"]["kind"] == told["dry never"]["error"]["kind"] == "NotFound"
    assert told["yours back"]["changed"] is True
    assert told["list again"]["leases"] == []


def test_nonsense_is_refused(told: Played) -> None:
    assert told["nonsense"]["error"]["kind"] == "InvalidInput"
    assert "one of the following is required" in told["nobody"]["msg"]
    assert "is not a duration" in told["bad duration"]["msg"]


def test_the_playbook_takes_and_gives_back(
    controller: Controller, told: Played, tmp_path: Path
) -> None:
    declaration = tmp_path / "yard.yml"
    declaration.write_text(json.dumps({"yard_owner": "stockyard"}))
    common = ("-e", f"yard={declaration}")
    made = controller.run(
        PLAYBOOK,
        *common,
        "-e",
        "lease_fleet=ci",
        "-e",
        "lease_holder=job",
        "-e",
        "lease_duration=5m",
    )
    assert made.returncode == 0, made.output
    lease = made["Create, renew or release the lease"]["lease"]
    assert lease["docker"]["export"] in made.stdout
    back = controller.run(
        PLAYBOOK, *common, "-e", f"lease_id={lease['id']}", "-e", "lease_state=released"
    )
    assert back.returncode == 0, back.output
    assert "changed=1 " in back.stdout
