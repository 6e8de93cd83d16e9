# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of secret options stay secret: they are not in output at -vvvv, a log, a file, or a list
of processes.
"""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from stockyard.clock import SystemClock
from stockyard.pki.authority import Authority
from tests.helpers.canary import Watch, holders, secret_options
from tests.jenkins.controller import TOKEN, USER, serving

from .conftest import CHECKOUT, Controller, Played, task

WRONG = "canary-of-a-token-that-is-wrong"
PASSWORD = "canary-of-a-password"
VOLUMES = "canary-of-volumes-0123456789abcdef"
WEAK = "canary-too-short"
NO_CA = "canary-of-a-ca-that-is-none"
AGENT = "canary-of-an-inbound-agent"
TRANSFER = "canary-of-a-transfer"
# Passwords in URLs, in options that are no secrets as a whole.
IN_URLS = ["canary-of-a-proxy", "canary-of-a-mirror", "canary-of-a-repository", "canary-of-%C3%A4"]
REGISTRY = {
    "registry_mirror_of": "https://registry.example",
    "registry_mirror_username": "me",
    "registry_mirror_password": "canary-of-a-registry",
    "registry_egress_proxy": "me:canary-of-a-registry@127.0.0.1:3128",
}
KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEZ\n-----END PGP PUBLIC KEY BLOCK-----"
SOURCES = {
    "proxy": f"http://me:{IN_URLS[0]}@127.0.0.1:3128",
    "mirror": f"http://me:{IN_URLS[1]}@127.0.0.1/debian",
    "repositories": [
        {
            "url": f"http://me:{IN_URLS[2]}@127.0.0.1/ours",
            "signed_by": KEY,
            "components": ["main"],
        }
    ],
}
# Every secret option, by what is given in it below.
GIVEN = {
    "password": PASSWORD,
    "ca_private_key": NO_CA,
    "volume_key": VOLUMES,
    "controller_token": WRONG,
    "registry_password": TRANSFER,
    "yard_password": PASSWORD,
    "yard_ca_private_key": NO_CA,
    "yard_volume_key": VOLUMES,
    "yard_registry_password": TRANSFER,
    "jenkins_agent_secret": AGENT,
}
CANARIES = [
    WRONG,
    PASSWORD,
    VOLUMES,
    WEAK,
    NO_CA,
    AGENT,
    TOKEN,
    TRANSFER,
    *IN_URLS,
    unquote(IN_URLS[3]),
]
BAD_URL = f"http://me:{IN_URLS[3]}@127.0.0.1:1"
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
        yard["yard_registry_password"] = TRANSFER
        fleets = [{"name": "role", "template": "sealed", "volumes": VOLUME}]
        steps = [
            task("template", "template", name="sealed", **SEALED, **SOURCES, **options),
            task("bad mirror", "template", name="b", mirror=f"ftp://me:{IN_URLS[1]}@x", **options),
            task("bad url", "jenkins_nodes_info", **{**at, "controller_url": BAD_URL}, **options),
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
            task(
                "no registry",
                "template_transfer",
                operation="push",
                name="sealed",
                reference="http://127.0.0.1:1/team/sealed:1",
                registry_username="me",
                registry_password=TRANSFER,
                timeout=20,
                **options,
            ),
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
    wrong_options = ("bad mirror", "bad url", "bad ca", "half a ca", "weak", "unknown")
    assert "127.0.0.1:1" in played["no registry"]["msg"]
    for name in (*wrong_options, "no template", "no registry", "bad token"):
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


def rehearsal(playbook: str) -> list[dict[str, Any]]:
    """The first play of a playbook with all its loops, whose tasks change nothing."""
    (play,) = yaml.safe_load((CHECKOUT / "playbooks" / playbook).read_text())
    kept_keys = ("name", "loop", "loop_control", "no_log", "register")
    tasks = [
        {key: entry[key] for key in kept_keys if key in entry}
        | {"ansible.builtin.set_fact": {"rehearsed": True}}
        for entry in play["tasks"]
    ]
    return [{"hosts": "localhost", "gather_facts": False, "vars": play["vars"], "tasks": tasks}]


def test_no_password_of_a_registry_is_in_an_item_of_a_loop(careless: Careless) -> None:
    path = careless.root / "rehearsal.yml"
    path.write_text(yaml.safe_dump(rehearsal("registry.yml")))
    variables = careless.root / "registry.json"
    variables.write_text(json.dumps(REGISTRY))
    played = careless.run(path, "-v", "-e", f"@{variables}")
    variables.unlink()
    assert played.returncode == 0, played.output
    # Items are shown.
    assert '"listen": "127.0.0.1:5001"' in played.stdout
    assert "canary" not in played.output


def test_watch_detects_a_leaked_canary() -> None:
    with Watch(["canary-on-a-line"]) as watch:
        subprocess.run(
            ["sleep", "1"], env={"SECRET": "canary-on-a-line", "PATH": "/usr/bin:/bin"}, check=True
        )
    assert watch.seen
