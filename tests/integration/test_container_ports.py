# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option ``container_ports`` by the modules, the playbook site and the command line."""

from __future__ import annotations

import json
import subprocess

import pytest

from .conftest import Controller, Played, checksum, task

DRY = {"check_mode": True, "diff": True}
WEB = {"name": "web", "template": "docker", "count": 1}
PORTS = {"container_ports": True}
TIGHT = {"name": "tight", "security": {"profile": "shared"}}
DECLARATION = {
    "yard_templates": [{"name": "docker"}, TIGHT],
    "yard_fleets": [{**WEB, **PORTS}],
}


@pytest.fixture(scope="module")
def played(controller: Controller) -> Played:
    return controller.play(
        [
            task("template", "template", name="docker"),
            task("tight template", "template", **TIGHT),
            task("closed", "fleet", **WEB),
            checksum("state before", controller.state),
            task("dry", "fleet", DRY, **WEB, **PORTS),
            task("network", "host", name="n", template="docker", network="default", **PORTS),
            task(
                "publish",
                "host",
                name="p",
                template="docker",
                publish={"address": "192.0.2.10"},
                **PORTS,
            ),
            task("shared", "host", name="s", template="tight", **PORTS),
            checksum("state after", controller.state),
            task("open", "fleet", **WEB, **PORTS),
            task("again", "fleet", **WEB, **PORTS),
        ]
    )


def test_check_mode_shows_that_the_host_is_replaced(played: Played) -> None:
    dry = played["dry"]
    assert dry["plan"] == played["open"]["plan"]
    assert dry["plan"][0].endswith("it replaces web-1: container_ports changed")
    after = [facts for facts in dry["diff"]["after"].values() if "container_ports" in facts]
    assert [facts["container_ports"] for facts in after] == [True]
    assert not played["again"]["changed"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("network", "all ports of a host in a network are reachable"),
        ("publish", "the ports are forwarded from the host's own address"),
        ("shared", "not possible with the security of the template"),
    ],
)
def test_other_ways_in_are_refused_before_any_change(played: Played, name: str, why: str) -> None:
    assert played[name]["failed"]
    assert why in played[name]["msg"]
    assert played["state before"]["stat"]["checksum"] == played["state after"]["stat"]["checksum"]


def test_declared_yard_is_as_the_module_made_it(played: Played, controller: Controller) -> None:
    path = controller.home / "yard.yml"
    path.write_text(json.dumps(DECLARATION))
    site = controller.run("stockyard.container_hosts.site", "-e", f"yard={path}", "--check")
    assert site.returncode == 0, site.output
    assert "changed=0 " in site.stdout, site.output


def test_command_line_declares_the_option(played: Played, controller: Controller) -> None:
    words = "stockyard host create cli --template tight --container-ports --json"
    result = subprocess.run(
        words.split(),
        cwd=controller.home.parent,
        env=controller.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode
    assert "container_ports is not possible with the security of the template" in result.stderr
