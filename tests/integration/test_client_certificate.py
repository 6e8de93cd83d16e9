# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module client_certificate, and what the other modules show of keys that are not in order."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Controller, Played, task

DRY = {"check_mode": True, "diff": True}
WEB = {"name": "web", "template": "docker", "count": 2}
BOB = {"name": "bob"}


def moved(controller: Controller) -> dict[str, Any]:
    """A task that moves the CA away."""
    folder = controller.home / ".config" / "stockyard" / "stockyard" / "default"
    argv = ["mv", str(folder / "ca.pem"), str(folder / "ca-key.pem"), str(controller.root)]
    return {"name": "lose the CA", "ansible.builtin.command": {"argv": argv}}


@pytest.fixture(scope="module")
def played(controller: Controller) -> Played:
    return controller.play(
        [
            task("template", "template", name="docker"),
            task("fleet", "fleet", **WEB),
            task("dry issue", "client_certificate", DRY, **BOB),
            task("issued", "client_certificate", **BOB, days=7),
            task("issued again", "client_certificate", **BOB, days=7),
            task("dry revoke", "client_certificate", DRY, **BOB, state="absent"),
            task("revoked", "client_certificate", **BOB, state="absent"),
            task("revoked again", "client_certificate", **BOB, state="absent"),
            task("hosts", "host_info"),
            moved(controller),
            task("lost", "client_certificate", **BOB, state="absent"),
            task("lost hosts", "host_info"),
            task("lost fleet", "fleet_info"),
            task("dry rotation", "fleet", DRY, **WEB),
            task("rotation", "fleet", **WEB),
            task("rotation again", "fleet", **WEB),
        ]
    )


def test_a_certificate_is_issued_once(played: Played, controller: Controller) -> None:
    assert played["dry issue"]["plan"] == [
        "issue client bob: no certificate of this client is valid for long enough"
    ]
    assert played["dry issue"]["certificates"] == []
    assert played["issued"]["changed"] is True
    assert played["issued again"]["changed"] is False
    (certificate,) = played["issued again"]["certificates"]
    assert certificate == played["issued"]["certificates"][0]
    assert certificate["directory"] == str(
        controller.home / ".config/stockyard/stockyard/default/clients/bob"
    )


def test_a_revoked_certificate_is_known_to_all_hosts(played: Played) -> None:
    behind = "its list of revoked certificates is outdated"
    assert played["dry revoke"]["plan"] == played["revoked"]["plan"]
    assert played["revoked"]["plan"] == [
        "revoke client bob: it is declared absent",
        f"renew host web-1: {behind}",
        f"renew host web-2: {behind}",
    ]
    assert played["revoked"]["certificates"] == []
    assert played["revoked again"]["changed"] is False
    serial = played["issued"]["certificates"][0]["serial"]
    assert [list(h["identity"]["revoked"]) for h in played["hosts"]["hosts"]] == [
        [serial],
        [serial],
    ]
    assert f"host web-1: certificate renewed ({behind})" in played["revoked"]["progress"]


def test_lost_ca_is_reported_and_repaired(played: Played) -> None:
    lost = "its tenant has no CA on this controller: a new CA will be created"
    assert played["lost"]["error"]["kind"] == "OperationRefused"
    assert [h["drift"] for h in played["lost hosts"]["hosts"]] == [[lost], [lost]]
    assert played["lost fleet"]["fleets"][0]["drift"] == {"web-1": [lost], "web-2": [lost]}
    assert (
        played["dry rotation"]["plan"]
        == played["rotation"]["plan"]
        == [f"renew host web-{n}: {lost}" for n in (1, 2)]
    )
    before, after = (played[name]["hosts"][0] for name in ("fleet", "rotation"))
    assert after["uuid"] == before["uuid"]
    assert after["identity"]["ssh_host_key"] == before["identity"]["ssh_host_key"]
    assert after["identity"]["authority"] != before["identity"]["authority"]
    assert played["rotation again"]["changed"] is False
