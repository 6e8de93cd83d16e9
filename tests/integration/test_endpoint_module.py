# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules endpoint and endpoint_info, endpoints of a whole yard, and the role that serves
them.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
from pathlib import Path
from typing import Any

import pytest

from stockyard import Yard
from stockyard.endpoint.machines import Fork
from stockyard.endpoint.yard_machines import YardMachines

from .conftest import Controller, Played, task

SITE, TEARDOWN = "stockyard.container_hosts.site", "stockyard.container_hosts.teardown"
ROLE = "stockyard.container_hosts.endpoint"
DRY = {"check_mode": True, "diff": True}
DOORS = {"name": "doors", "template": "docker", "socket": "~/doors.sock"}
DECLARED: dict[str, Any] = {
    "yard_owner": "site",
    "yard_templates": [{"name": "docker"}],
    "yard_pools": [{"name": "containers", "hosts": 5}],
    "yard_endpoints": [
        {**DOORS, "pool": "containers"},
        {"name": "ci", "template": "docker", "image_host": "ci-images", "address": "127.0.0.9"},
    ],
}
# A systemd and a logind that note their calls, and know whether the one unit runs.
SYSTEMCTL = """\
#!/bin/sh
cd "$(dirname "$0")"
echo "systemctl $*" >> calls
case "$*" in
  *show*) echo LoadState=loaded; echo ActiveState=$(test -e active || echo in)active ;;
  *is-enabled*) test -e enabled && echo enabled || { echo disabled; exit 1; } ;;
  *disable*) rm -f enabled ;;
  *enable*) touch enabled ;;
  *stop*) rm -f active ;;
  *start*) touch active ;;
esac
"""
LOGINCTL = """\
#!/bin/sh
echo "loginctl $*" >> "$(dirname "$0")/calls"
"""


def fork(controller: Controller, container: str, owner: str = "stockyard") -> str:
    """Create a machine of the endpoint doors, as its service does; return its name."""

    async def story(yard: Yard) -> str:
        machines = YardMachines(yard.context, "default", "doors", "images")
        machine = await machines.fork(Fork(container))
        await machines.close()
        return machine.name

    with Yard(
        controller.hypervisor, owner=owner, pki_dir=str(controller.home / ".config/stockyard")
    ) as yard:
        return asyncio.run(story(yard))


def names(controller: Controller, owner: str) -> list[str]:
    with Yard(controller.hypervisor, owner=owner) as yard:
        return [host.name for host in yard.hosts.list()]


@pytest.fixture(scope="module")
def played(controller: Controller) -> Played:
    return controller.play(
        [
            task("template", "template", name="docker"),
            task("nowhere", "endpoint", name="doors", template="docker"),
            task("no host", "endpoint", name="doors", image_host="none", socket="/x"),
            task("dry", "endpoint", DRY, **DOORS),
            task("endpoint", "endpoint", **DOORS),
            task("again", "endpoint", **DOORS),
            task("moved", "endpoint", DRY | {"check_mode": False}, **DOORS, address="127.0.0.9"),
            task("list", "endpoint_info"),
            task("none", "endpoint_info", tenant="other"),
            task("exposed", "endpoint", **DOORS, egress="open"),
            task("exposed by replacement", "endpoint", **DOORS, egress="open", replace=True),
            task("dry deletion", "endpoint", DRY, name="doors", state="absent"),
            task("deleted", "endpoint", name="doors", state="absent"),
            task("deleted again", "endpoint", name="doors", state="absent"),
            task("hosts", "host_info"),
        ]
    )


def test_endpoint_is_created_with_its_image_host(played: Played, controller: Controller) -> None:
    plan = ["create host images: it does not exist", "create endpoint doors: it does not exist"]
    assert played["dry"]["plan"] == played["endpoint"]["plan"] == plan
    assert played["dry"]["diff"]["after"]["endpoint doors"]["image_host"] == "images"
    assert played["dry"]["endpoint"] == {}
    assert played["endpoint"]["progress"][-1] == "endpoint doors: created"
    endpoint = played["endpoint"]["endpoint"]
    socket = f"unix://{controller.home}/doors.sock"
    assert (endpoint["docker_hosts"], endpoint["state"]) == ([socket], "running")
    assert endpoint["export"] == f"export DOCKER_HOST={socket}"
    assert played["again"]["changed"] is False


def test_endpoint_without_a_place_or_a_host_is_refused(played: Played) -> None:
    assert played["nowhere"]["error"]["kind"] == "InvalidInput"
    assert played["nowhere"]["error"]["object"] == "endpoint doors"
    assert played["no host"]["error"]["kind"] == "NotFound"


def test_change_keeps_the_images_or_is_refused(played: Played) -> None:
    assert played["moved"]["plan"] == ["change endpoint doors: address changed"]
    assert played["list"]["endpoints"] == [played["moved"]["endpoint"]]
    assert played["none"]["endpoints"] == []
    assert played["exposed"]["error"]["kind"] == "OperationRefused"
    assert "set replace" in played["exposed"]["error"]["remedy"]
    assert played["exposed by replacement"]["plan"][0].startswith("replace host images: egress")


def test_endpoint_is_deleted_with_its_image_host(played: Played) -> None:
    plan = ["delete endpoint doors: it is declared absent"]
    plan += ["delete host images: it is declared absent"]
    assert played["dry deletion"]["plan"] == played["deleted"]["plan"] == plan
    assert played["deleted"]["endpoint"] == {}
    assert played["deleted again"]["changed"] is False
    assert played["hosts"]["hosts"] == []


def test_a_whole_yard_has_endpoints(controller: Controller, tmp_path: Path) -> None:
    path = tmp_path / "yard.yml"

    def site(endpoints: list[dict[str, Any]], *arguments: str) -> Played:
        path.write_text(json.dumps({**DECLARED, "yard_endpoints": endpoints}))
        return controller.run(SITE, "-e", f"yard={path}", *arguments)

    doors, ci = DECLARED["yard_endpoints"]
    check = site([doors, ci], "--check", "--diff")
    assert (check.returncode, '"endpoint doors"' in check.stdout) == (0, True), check.output
    first_run = site([doors, ci])
    assert first_run.returncode == 0, first_run.output
    second_run = site([doors, ci])
    assert "changed=0 " in second_run.stdout
    assert f"export DOCKER_HOST=unix://{controller.home}/doors.sock" in second_run.stdout
    machine = fork(controller, "web", "site")
    assert names(controller, "site") == sorted(["ci-images", machine, "images"])
    refused = site([ci])
    assert refused.returncode != 0
    assert "endpoint doors of tenant default" in refused.output
    assert machine in names(controller, "site")
    pruned = site([ci], "-e", "yard_prune=force")
    assert pruned.returncode == 0, pruned.output
    assert names(controller, "site") == ["ci-images"]
    unknown = site([{**ci, "adress": "127.0.0.9"}])
    assert (unknown.returncode != 0, "adress" in unknown.output) == (True, True)
    path.write_text(json.dumps(DECLARED))
    assert controller.run(TEARDOWN, "-e", f"yard={path}").returncode == 0
    assert names(controller, "site") == []


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the calls of a systemd that does nothing."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("systemctl", SYSTEMCTL), ("loginctl", LOGINCTL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "calls"


def run_role(controller: Controller, *arguments: str, **variables: Any) -> Played:
    role = {"role": ROLE, "endpoint_name": "doors", **variables}
    return controller.play([], *arguments, roles=[role], ignore_errors=False)


def test_role_writes_and_starts_the_service(controller: Controller, services: Path) -> None:
    unit = controller.home / ".config/systemd/user/stockyard-endpoint-default-doors.service"
    check = run_role(controller, "--check", endpoint_owner="me", endpoint_storage="/a b")
    assert (check.returncode, unit.exists()) == (0, False), check.output
    services.unlink(missing_ok=True)
    first_run = run_role(controller, endpoint_owner="me", endpoint_storage="/a b")
    assert first_run.returncode == 0, first_run.output
    (command,) = [line for line in unit.read_text().splitlines() if line.startswith("ExecStart=")]
    assert command == (
        "ExecStart=%h/.local/bin/stockyard endpoint serve --name doors --tenant default "
        '--owner "me" --storage "/a b"'
    )
    calls = services.read_text().splitlines()
    # A user whose services run at any time needs no change.
    lingers = Path("/var/lib/systemd/linger", getpass.getuser()).exists()
    assert ("loginctl enable-linger" in calls) is not lingers
    assert f"systemctl --user enable {unit.name}" in calls
    assert f"systemctl --user start {unit.name}" in calls

    def calls_of(**variables: Any) -> tuple[int, bool, bool]:
        """The exit code of a run, whether it changed nothing, and whether it restarted."""
        services.unlink()
        run = run_role(controller, endpoint_owner="me", **variables)
        restarted = f"systemctl --user restart {unit.name}" in services.read_text().splitlines()
        return run.returncode, "changed=0 " in run.stdout, restarted

    assert calls_of(endpoint_storage="/a b", endpoint_linger=False) == (0, True, False)
    assert calls_of(endpoint_storage="/c", endpoint_linger=False) == (0, False, True)
    assert calls_of(endpoint_storage="/c", endpoint_restart=True) == (0, False, True)

    last_run = run_role(controller, endpoint_state="absent")
    assert (last_run.returncode, unit.exists()) == (0, False), last_run.output
    assert f"systemctl --user stop {unit.name}" in services.read_text().splitlines()
    assert "changed=0 " in run_role(controller, endpoint_state="absent").stdout


def test_role_only_writes_the_unit_on_request(controller: Controller, services: Path) -> None:
    folder = controller.home / "units"
    variables = {"endpoint_state": "written", "endpoint_unit_directory": str(folder)}
    first_run = run_role(controller, **variables)
    assert first_run.returncode == 0, first_run.output
    assert [path.name for path in folder.iterdir()] == ["stockyard-endpoint-default-doors.service"]
    assert "changed=0 " in run_role(controller, **variables).stdout
    assert not services.exists()
