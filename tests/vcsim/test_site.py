# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The site playbook on a simulated vCenter, from an empty folder to an empty folder."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Controller, Played
from tests.vcsim.simulator import SOURCE, Simulator

SITE, TEARDOWN = "stockyard.container_hosts.site", "stockyard.container_hosts.teardown"
PREFLIGHT = "stockyard.container_hosts.vsphere_preflight"
YARD = "stockyard.container_hosts.yard : Converge the yard"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA new"


class VsphereController(Controller):
    """A user's machine whose hypervisor is a vCenter."""

    def __init__(self, root: Path, vcenter: Simulator) -> None:
        super().__init__(root)
        self.vcenter = vcenter

    @property
    def hypervisor(self) -> str:
        return self.vcenter.uri + "?endpoints=false"

    def declare(self, count: int, **fleet: Any) -> Path:
        """A declaration of one template and one fleet, as a file."""
        path = self.home / "mine.yml"
        fleets = [{"name": "web", "template": "docker", "count": count, **fleet}]
        path.write_text(
            json.dumps(
                {"yard_templates": [{"name": "docker", "source": SOURCE}], "yard_fleets": fleets}
            )
        )
        return path


@pytest.fixture
def user(own_vcenter: Simulator, tmp_path: Path) -> VsphereController:
    """A user with an empty home, and a vCenter without a yard."""
    return VsphereController(tmp_path / "user", own_vcenter)


def changed(played: Played, count: int) -> bool:
    """Whether it ended well and changed so many things."""
    return played.returncode == 0 and f"changed={count} " in played.stdout


def test_a_yard_of_fifty_from_nothing_to_nothing(user: VsphereController) -> None:
    vcenter = user.vcenter
    yard = f"yard={user.declare(50)}"
    before = set(vcenter.machines())

    def dry(playbook: str, count: int) -> None:
        vcenter.reset()
        would = user.run(playbook, "-e", yard, "--check", "--diff")
        assert changed(would, count), would.output
        assert vcenter.calls()["Login"] > 0
        assert vcenter.changes() == {}

    dry(SITE, 1)
    first_run = user.run(SITE, "-e", yard)
    assert changed(first_run, 1), first_run.output
    hosts = first_run[YARD]["members"]
    assert len(hosts) == 50
    assert {h["mode"] for h in hosts} == {"instant"}
    assert (
        len({h["mac"] for h in hosts}) == len({h["identity"]["ssh_host_key"] for h in hosts}) == 50
    )
    first = {h["name"]: h["uuid"] for h in hosts}

    second_run = user.run(SITE, "-e", yard)
    assert changed(second_run, 0), second_run.output

    user.declare(53)
    more = user.run(SITE, "-e", yard)
    assert changed(more, 1), more.output
    assert {h["name"]: h["uuid"] for h in more[YARD]["members"]}.items() > first.items()

    user.declare(48, authorized_keys=[KEY])
    dry(SITE, 1)
    replaced = user.run(SITE, "-e", yard)
    assert changed(replaced, 1), replaced.output
    now = {h["name"]: h["uuid"] for h in replaced[YARD]["members"]}
    assert len(now) == 48
    assert not set(now.values()) & set(first.values())

    teardown_run = user.run(TEARDOWN, "-e", yard, "-e", "teardown_templates=true")
    assert changed(teardown_run, 1), teardown_run.output
    assert set(vcenter.machines()) == before


def test_the_password_is_nowhere(user: VsphereController, monkeypatch: pytest.MonkeyPatch) -> None:
    vcenter = user.vcenter
    monkeypatch.delenv("VMWARE_PASSWORD")
    declaration = user.declare(1)
    (user.home / "secret.yml").write_text(json.dumps({"yard_password": vcenter.password}))
    # The part of it that no quoting changes.
    plain = vcenter.password.partition("'")[0]
    with command_lines() as lines:
        played = [
            user.run(
                playbook,
                "-e",
                f"yard={declaration}",
                "-e",
                f"@{user.home}/secret.yml",
                "-vvvv",
                "--diff",
            )
            for playbook in (SITE, TEARDOWN)
        ]
        vcenter.password = f"{plain}-wrong"
        (user.home / "secret.yml").write_text(json.dumps({"yard_password": vcenter.password}))
        played.append(
            user.run(
                SITE,
                "-e",
                f"yard={declaration}",
                "-e",
                f"@{user.home}/secret.yml",
                "-vvvv",
                "--diff",
            )
        )
    assert [play.returncode for play in played] == [0, 0, 2], played[0].output
    assert not any(plain in play.output or plain in json.dumps(play.results) for play in played)
    assert len(lines) > 3
    assert not any(plain in line for line in lines)
    (user.home / "secret.yml").unlink()
    for path in (*user.root.rglob("*"), *vcenter.directory.rglob("*")):
        if path.is_file() and "/collections/" not in str(path):
            assert plain.encode() not in path.read_bytes(), path


@contextmanager
def command_lines() -> Iterator[set[str]]:
    """Collect each command line of this user's processes during a block."""
    names: set[str] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.02):
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    if entry.stat().st_uid == os.getuid():
                        names.add(entry.read_text(errors="replace"))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield names
    finally:
        ended.set()
        watcher.join()


def test_preflight_creates_and_deletes_a_test_machine(user: VsphereController) -> None:
    before = set(user.vcenter.machines())
    good = user.run(
        PREFLIGHT, "-e", f"yard_hypervisor={user.hypervisor}", "-e", f"preflight_source={SOURCE}"
    )
    assert good.returncode == 0, good.output
    assert "No problems" in good.stdout
    assert set(user.vcenter.machines()) == before


def test_preflight_names_missing_privileges(user: VsphereController) -> None:
    """A yard that is declared without pools and volumes needs no privilege for them."""
    missing = ("VirtualMachine.Provisioning.Clone", "VirtualMachine.Config.AdvancedConfig")
    optional = (
        "Resource.CreatePool",
        "Datastore.FileManagement",
        "VirtualMachine.Interact.Suspend",
    )
    user.vcenter.reset()
    user.vcenter.deny(*missing, *optional)
    run = (PREFLIGHT, "-e", f"yard_hypervisor={user.hypervisor}")
    bad = user.run(*run, "-e", f"preflight_source={SOURCE}")
    assert bad.returncode == 2
    assert all(privilege in bad.stdout for privilege in missing)
    assert "privilege Resource.CreatePool is missing on the pool, only for pools" in bad.stdout
    assert (
        "privilege Datastore.FileManagement is missing on the datastore, only for volumes"
        in bad.stdout
    )
    assert "Traceback" not in bad.output
    assert user.vcenter.changes() == {}
    user.vcenter.reset()
    user.vcenter.deny(*optional)
    half = user.run(*run, "-e", "preflight_pools=false")
    assert half.returncode == 2
    assert "Resource.CreatePool" not in half.stdout
    assert "Datastore.FileManagement" in half.stdout
    unused = [
        word
        for purpose in ("pools", "volumes", "suspension")
        for word in ("-e", f"preflight_{purpose}=false")
    ]
    assert user.run(*run, *unused).returncode == 0
    assert user.vcenter.changes() == {}
