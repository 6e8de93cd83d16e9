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
def played(controller: Controller) -> Played:
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
            task("created", "lease", fleet="ci", holder="you", wait=True),
            task("full", "lease", fleet="ci", holder="they", wait=True, timeout=2),
            task("created back", "lease", fleet="ci", holder="you", state="released"),
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


def test_waiting_lease_creates_a_host(played: Played) -> None:
    assert "none of the 1 matching hosts is free" in played["none"]["msg"]
    created = played["created"]
    assert created["plan"] == ["lease host ci-2: you requests a lease"]
    assert "fleet ci: waiting for a host; no request is ahead" in created["progress"]
    assert any("creating 1 hosts for 1 leases that wait" in line for line in created["progress"])
    assert "fleet ci has 2 of at most 2 hosts" in played["full"]["error"]["cause"]


def test_a_holder_has_one_lease(played: Played) -> None:
    assert played["dry"]["plan"] == ["lease host of fleet ci: me requests a lease"]
    assert played["dry"]["lease"] == {}
    assert played["taken"]["plan"] == ["lease host ci-1: me requests a lease"]
    assert played["taken again"]["changed"] is False
    lease = played["taken"]["lease"]
    assert played["taken again"]["lease"] == lease
    assert lease["docker"]["environment"]["DOCKER_CERT_PATH"].endswith(lease["id"])
    assert played["none"]["error"]["kind"] == "Busy"
    assert "it is leased by me" in played["none"]["msg"]


def test_a_lease_is_renewed(played: Played) -> None:
    first, renewed, longer = (
        played[name]["lease"]["until"] for name in ("taken", "renewed", "longer")
    )
    assert 550 < renewed - first < 700
    assert 2300 < longer - renewed < 2500
    assert played["dry longer"]["plan"] == played["longer"]["plan"]
    assert played["dry longer"]["lease"]["until"] == renewed


def test_a_fleet_keeps_a_spare(played: Played) -> None:
    assert played["refilled"]["plan"] == ["create host ci-2: the fleet has 1 of 2 hosts"]
    assert played["refilled again"]["changed"] is False
    assert [lease["holder"] for lease in played["list"]["leases"]] == ["me", "you"]
    assert [h["lease"]["holder"] for h in played["hosts"]["hosts"]] == ["me", "you"]
    assert all(h["expires"] > 0 for h in played["hosts"]["hosts"])


def test_lease_is_released_once(played: Played) -> None:
    assert (
        played["dry back"]["plan"]
        == played["back"]["plan"]
        == ["delete host ci-1: its lease was released"]
    )
    assert (played["dry back"]["lease"]["id"], played["back"]["lease"]) == (
        played["taken"]["lease"]["id"],
        {},
    )
    assert played["back again"]["changed"] is False
    assert played["too late"]["error"]["kind"] == "LeaseExpired"
    assert played["never"]["error"]["kind"] == played["dry never"]["error"]["kind"] == "NotFound"
    assert played["yours back"]["changed"] is True
    assert played["list again"]["leases"] == []


def test_nonsense_is_refused(played: Played) -> None:
    assert played["nonsense"]["error"]["kind"] == "InvalidInput"
    assert "one of the following is required" in played["nobody"]["msg"]
    assert "is not a duration" in played["bad duration"]["msg"]


def test_playbook_acquires_and_releases_a_lease(
    controller: Controller, played: Played, tmp_path: Path
) -> None:
    declaration = tmp_path / "yard.yml"
    declaration.write_text(json.dumps({"yard_owner": "stockyard"}))
    common = ("-e", f"yard={declaration}")
    site_run = controller.run(
        PLAYBOOK,
        *common,
        "-e",
        "lease_fleet=ci",
        "-e",
        "lease_holder=job",
        "-e",
        "lease_duration=5m",
    )
    assert site_run.returncode == 0, site_run.output
    lease = site_run["Create, renew or release the lease"]["lease"]
    assert lease["docker"]["export"] in site_run.stdout
    back = controller.run(
        PLAYBOOK, *common, "-e", f"lease_id={lease['id']}", "-e", "lease_state=released"
    )
    assert back.returncode == 0, back.output
    assert "changed=1 " in back.stdout
