# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of secret options stay secret: they are not in output at -vvvv, a log, a file, or a list
of processes.
"""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from stockyard.clock import SystemClock
from stockyard.pki.authority import Authority
from tests.helpers.canary import Watch, holders, secret_options
from tests.jenkins.controller import TOKEN, USER, serving

from .conftest import Controller, Played, task

WRONG = "canary-of-a-token-that-is-wrong"
PASSWORD = "canary-of-a-password"
VOLUMES = "canary-of-volumes-0123456789abcdef"
WEAK = "canary-too-short"
NO_CA = "canary-of-a-ca-that-is-none"
AGENT = "canary-of-an-inbound-agent"
# Every secret option, by what is given in it below.
GIVEN = {
    "password": PASSWORD,
    "ca_private_key": NO_CA,
    "volume_key": VOLUMES,
    "controller_token": WRONG,
    "yard_password": PASSWORD,
    "yard_ca_private_key": NO_CA,
    "yard_volume_key": VOLUMES,
    "jenkins_agent_secret": AGENT,
}
CANARIES = [WRONG, PASSWORD, VOLUMES, WEAK, NO_CA, AGENT, TOKEN]
SEALED = {"docker": "stopped", "security": {"encrypted_data": True}}
VOLUME = [{"name": "{host}-docker"}]


class Careless(Controller):
    """One that pipelines nothing, keeps a log, and takes all of the yard's secrets from
    variables.
    """

    @property
    def log(self) -> Path:
        return self.root / "ansible.log"

    @property
    def environment(self) -> dict[str, str]:
        return {
            **super().environment,
            "ANSIBLE_PIPELINING": "False",
            "ANSIBLE_LOG_PATH": str(self.log),
        }


@pytest.fixture(scope="module")
def careless(tmp_path_factory: pytest.TempPathFactory) -> Careless:
    return Careless(tmp_path_factory.mktemp("canary"))


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create("theirs", datetime.fromtimestamp(SystemClock().now(), UTC))


@pytest.fixture(scope="module")
def canaries(authority: Authority) -> list[str]:
    """With the lines of a key that is one."""
    return [*CANARIES, *authority.key_pem().splitlines()[1:-1]]


@pytest.fixture(scope="module")
def watched(careless: Careless, authority: Authority, canaries: list[str]) -> tuple[Played, Watch]:
    """Modules and roles that do as they are told, and some that fail, each with secrets."""
    ca = {"ca_certificate": authority.pem(), "ca_private_key": authority.key_pem()}
    options: dict[str, Any] = {"password": PASSWORD, "username": "me", "volume_key": VOLUMES, **ca}
    with serving() as jenkins:
        at = {"controller_url": jenkins.url, "controller_user": USER, "fleet": "web"}
        role = {"ansible.builtin.include_role": {"name": "stockyard.container_hosts.yard"}}
        agent = {
            "ansible.builtin.include_role": {"name": "stockyard.container_hosts.jenkins_agent"}
        }
        yard = {f"yard_{name}": value for name, value in options.items()}
        fleets = [{"name": "role", "template": "sealed", "volumes": VOLUME}]
        steps = [
            task("template", "template", name="sealed", **SEALED, **options),
            task(
                "fleet",
                "fleet",
                {"diff": True},
                name="web",
                template="sealed",
                count=1,
                volumes=VOLUME,
                **options,
            ),
            task("restart", "host", name="web-1", state="restarted", **options),
            task("info", "host_info", **options),
            task("bad ca", "host_info", ca_certificate="x", ca_private_key=NO_CA),
            task("half a ca", "host_info", ca_private_key=NO_CA),
            task("weak", "host_info", volume_key=WEAK),
            task("unknown", "fleet", name="web", template="sealed", colour="blue", **options),
            task("no template", "fleet", name="other", template="nothing", **options),
            task("nodes", "jenkins_nodes_info", **at, controller_token=TOKEN, **options),
            task("bad token", "jenkins_nodes_info", **at, controller_token=WRONG, **options),
            {
                "name": "role",
                **role,
                "vars": {
                    "yard_templates": [{"name": "sealed", **SEALED}],
                    "yard_fleets": fleets,
                    "yard_prune": "no",
                    **yard,
                },
            },
            {"name": "wrong role", **role, "vars": {"yard_prune": "perhaps", **yard}},
            {
                "name": "wrong agent",
                **agent,
                "vars": {
                    "jenkins_agent_secret": AGENT,
                    "jenkins_agent_launcher": "none such",
                },
            },
        ]
        with Watch(canaries) as watch:
            played = careless.play(steps, "-vvvv")
    return played, watch


def test_every_secret_option_has_a_canary() -> None:
    assert secret_options() == set(GIVEN)


def test_playbook_with_canaries_succeeds(watched: tuple[Played, Watch]) -> None:
    """Else nothing would be proven."""
    played, watch = watched
    for name in ("template", "fleet", "restart", "info", "nodes"):
        assert not played[name].get("failed"), played[name]
    for name in ("bad ca", "half a ca", "weak", "unknown", "no template", "bad token"):
        assert played[name]["failed"], played[name]
    assert "volume role-1-docker" in played.output
    assert "value of yard_prune must be one of" in played.output
    assert "value of jenkins_agent_launcher must be one of" in played.output
    assert watch.looks > 20


def test_no_canary_is_in_the_output_or_the_log(
    watched: tuple[Played, Watch], careless: Careless, canaries: list[str]
) -> None:
    played, _watch = watched
    log = careless.log.read_text()
    assert "fleet" in log
    for text in (played.output, log):
        assert [canary for canary in canaries if canary in text] == []


def test_no_canary_is_in_a_list_of_processes(watched: tuple[Played, Watch]) -> None:
    assert watched[1].seen == set()


def test_no_canary_is_left_in_a_file(
    watched: tuple[Played, Watch], careless: Careless, canaries: list[str]
) -> None:
    assert watched
    files = holders(careless.root, canaries, "playbook.yml")
    assert files == []
    assert holders(careless.root, canaries) == [careless.root / "playbook.yml"]
    assert [p.name for p in (careless.home / ".ansible" / "tmp").glob("*")] == []


def test_watch_detects_a_leaked_canary() -> None:
    with Watch(["canary-on-a-line"]) as watch:
        subprocess.run(
            ["sleep", "1"], env={"SECRET": "canary-on-a-line", "PATH": "/usr/bin:/bin"}, check=True
        )
    assert watch.seen
