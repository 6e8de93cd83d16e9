# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Published hosts by the modules, the playbook site and the command line."""

from __future__ import annotations

import json
import subprocess

import pytest

from .conftest import Controller, Played, checksum, task

DRY = {"check_mode": True, "diff": True}
PUBLISH = {"address": "192.0.2.10", "ports": "20000-20009"}
WEB = {"name": "web", "template": "docker", "ports": [8080]}
DECLARATION = {
    "yard_templates": [{"name": "docker"}],
    "yard_fleets": [{**WEB, "count": 2, "publish": PUBLISH}],
}


@pytest.fixture(scope="module")
def played(controller: Controller) -> Played:
    return controller.play(
        [
            task("template", "template", name="docker"),
            task("private", "fleet", **WEB, count=2),
            checksum("state before", controller.state),
            task("dry", "fleet", DRY, **WEB, count=2, publish=PUBLISH),
            task("many", "fleet", **WEB, count=4, publish=PUBLISH),
            task("low", "host", name="low", template="docker", publish={**PUBLISH, "ports": "1-9"}),
            task("bound", "host", name="b", template="docker", bind="192.0.2.1", publish=PUBLISH),
            checksum("state after", controller.state),
            task("publish", "fleet", **WEB, count=2, publish=PUBLISH),
            task("publish again", "fleet", **WEB, count=2, publish=PUBLISH),
            task(
                "third", "host", name="third", template="docker", publish={"address": "192.0.2.10"}
            ),
        ]
    )


def test_check_mode_shows_that_hosts_are_replaced(played: Played) -> None:
    dry = played["dry"]
    assert dry["changed"]
    assert any("publish changed" in action for action in dry["plan"])
    after = [facts for facts in dry["diff"]["after"].values() if "publish" in facts]
    assert [facts["publish"] for facts in after] == [PUBLISH, PUBLISH]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("many", "large enough for 3 hosts, and the fleet has 4"),
        ("low", "not a range of ports from 1024"),
        ("bound", "the ports of a host have one address"),
    ],
)
def test_invalid_publication_is_refused_before_any_change(
    played: Played, name: str, why: str
) -> None:
    assert played[name]["failed"]
    assert why in played[name]["msg"]
    assert played["state before"]["stat"]["checksum"] == played["state after"]["stat"]["checksum"]


def test_results_name_the_published_address(played: Played) -> None:
    assert not played["publish again"]["changed"]
    hosts = played["publish again"]["hosts"]
    ports: list[str] = []
    for host in [*hosts, played["third"]["host"]]:
        assert host["ssh"]["host"] == "192.0.2.10"
        endpoints = [host["docker"]["endpoint"].removeprefix("tcp://"), *host["published"]]
        assert all(endpoint.startswith("192.0.2.10:") for endpoint in endpoints)
        ports += [str(host["ssh"]["port"]), *(text.rpartition(":")[2] for text in endpoints)]
    assert len(set(ports)) == len(ports) == 8


def test_inventory_names_the_published_address(played: Played, controller: Controller) -> None:
    source = controller.home / "web.stockyard.yml"
    source.write_text("plugin: stockyard.container_hosts.hosts\n")
    result = subprocess.run(
        ["ansible-inventory", "-i", source, "--list"],
        env=controller.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    variables = json.loads(result.stdout)["_meta"]["hostvars"]["web-1"]
    assert variables["ansible_host"] == "192.0.2.10"
    assert variables["ansible_port"] in range(20000, 20010)
    assert variables["stockyard_docker"]["docker_host"].startswith("tcp://192.0.2.10:20")


def test_declared_yard_is_as_the_module_published_it(
    played: Played, controller: Controller
) -> None:
    path = controller.home / "yard.yml"
    path.write_text(json.dumps(DECLARATION))
    site = controller.run("stockyard.container_hosts.site", "-e", f"yard={path}", "--check")
    assert site.returncode == 0, site.output
    assert "changed=0 " in site.stdout, site.output


def test_command_line_publishes_a_host(played: Played, controller: Controller) -> None:
    words = "stockyard host create cli --template docker --publish 192.0.2.10:21000-21009 --json"
    result = subprocess.run(
        words.split(),
        cwd=controller.home.parent,
        env=controller.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    (host,) = json.loads(result.stdout)["hosts"]
    assert host["docker"]["endpoint"] == "tcp://192.0.2.10:21001"
