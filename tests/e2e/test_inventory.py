# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory plugin on ten real forks: SSH with strict keys, the guest's agent, and Docker by
community.docker.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stockyard import HostInfo
from tests.helpers.other_collections import others

from .conftest import CHECKOUT, OWNER, WORK

pytestmark = pytest.mark.real
Run = Callable[..., "subprocess.CompletedProcess[str]"]
# Where these are set, requests takes them for the CA that it was given: docs/troubleshooting.md.
OVERRIDING = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.fixture(scope="module")
def ansible(fleet: list[HostInfo], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs one of Ansible's commands on an inventory of the yard, as a user of it would who is
    careless about keys.
    """
    root = tmp_path_factory.mktemp("inventory")
    place = root / "collections" / "ansible_collections" / "stockyard"
    place.mkdir(parents=True)
    (place / "container_hosts").symlink_to(CHECKOUT)
    common = {
        "plugin": "stockyard.container_hosts.hosts",
        "hypervisor": "qemu:///session",
        "owner": OWNER,
        "storage": str(WORK / "store"),
        "pki_dir": str(WORK / "pki"),
        "fleets": ["web"],
    }
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_") and k not in OVERRIDING
    } | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ANSIBLE_HOME": str(root / "ansible"),
        "ANSIBLE_COLLECTIONS_PATH": f"{root / 'collections'}:{others()}",
        "ANSIBLE_HOST_KEY_CHECKING": "False",
        # a socket's path is short
        "ANSIBLE_SSH_CONTROL_PATH_DIR": f"/tmp/cp-{os.getpid()}",  # noqa: S108
        "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "True",
        # Guests without KVM take their time to answer.
        "ANSIBLE_FORKS": "2",
        "ANSIBLE_TIMEOUT": "60",
    }

    def run(
        *command: str, options: dict[str, Any] | None = None, **more: str
    ) -> subprocess.CompletedProcess[str]:
        file = root / "web.stockyard.yml"
        file.write_text(json.dumps({**common, **(options or {})}))
        line = [command[0], "-i", str(file), *command[1:]]
        return subprocess.run(
            line,
            cwd=root,
            env={**environment, **more},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


def test_the_graph_has_ten_hosts(ansible: Run) -> None:
    result = ansible("ansible-inventory", "--graph", "fleet_web")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("--web-") == 10


def test_inventory_list_contains_the_connection_variables(
    ansible: Run, fleet: list[HostInfo]
) -> None:
    result = ansible("ansible-inventory", "--list")
    listing = json.loads(result.stdout)
    addresses = {
        name: facts["ansible_host"] for name, facts in listing["_meta"]["hostvars"].items()
    }
    assert addresses == {host.name: host.address for host in fleet}
    assert sorted(listing["ready_yes"]["hosts"]) == sorted(addresses)
    assert sorted(listing["label_suite_e2e"]["hosts"]) == sorted(addresses)
    assert "PRIVATE" not in result.stdout


def test_all_answer_over_ssh_with_strict_keys(ansible: Run) -> None:
    # A guest without KVM needs a second for each command over SSH: one for a module is enough.
    result = ansible("ansible", "all", "-m", "ansible.builtin.ping", ANSIBLE_PIPELINING="True")
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count('"ping": "pong"') == 10


NEEDS = [
    {
        "hosts": "web-1",
        "gather_facts": False,
        "tasks": [
            {
                "name": "Run as an unprivileged user",
                "ansible.builtin.command": "id -un",
                "become": True,
                "become_user": "nobody",
                "register": "shown",
                "changed_when": False,
            },
            {
                "name": "Show the user",
                "ansible.builtin.debug": {"msg": "runs as {{ shown.stdout }}"},
            },
            {
                "name": "Install a package that is there",
                "ansible.builtin.apt": {"name": "sudo"},
                "become": True,
            },
            {
                "name": "Plan to remove it",
                "ansible.builtin.apt": {"name": "busybox-static", "state": "absent"},
                "become": True,
                "check_mode": True,
            },
        ],
    }
]


def test_host_has_the_packages_for_become_and_apt(ansible: Run, tmp_path: Path) -> None:
    """become_user needs acl to share a file between two unprivileged users; apt needs
    python3-apt.
    """
    playbook = tmp_path / "needs.yml"
    playbook.write_text(json.dumps(NEEDS))
    result = ansible("ansible-playbook", str(playbook))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "runs as nobody" in result.stdout  # words: a user of Debian
    assert re.search(r"ok=4 +changed=1 ", result.stdout), result.stdout


def test_another_host_at_the_address_is_refused(ansible: Run, fleet: list[HostInfo]) -> None:
    """The controller's settings say not to check; the inventory's own variables win."""
    first, second = fleet[0], fleet[1]
    result = ansible(
        "ansible",
        first.name,
        "-m",
        "ansible.builtin.raw",
        "-a",
        "true",
        "-e",
        f"ansible_host={second.address}",
        "-e",
        "ansible_ssh_common_args='-o StrictHostKeyChecking=yes -o UserKnownHostsFile=/dev/null'",
        # No way that another test left open.
        ANSIBLE_SSH_RETRIES="0",
        ANSIBLE_SSH_ARGS="-o ControlMaster=no -o ControlPath=none",
    )
    assert result.returncode != 0
    assert "Host key verification failed" in result.stdout


def test_a_container_by_community_docker(
    ansible: Run, fleet: list[HostInfo], docker: Any, busybox: bytes, tmp_path: Path
) -> None:
    host = fleet[2]
    docker(host, "import", "-", "busybox:inventory", stdin=busybox)
    play = [
        {
            "hosts": host.name,
            "gather_facts": False,
            "connection": "local",
            "vars": {"ansible_python_interpreter": sys.executable},
            "module_defaults": {"group/community.docker.docker": "{{ stockyard_docker }}"},
            "tasks": [
                {
                    "name": "run",
                    "community.docker.docker_container": {
                        "name": "inv",
                        "image": "busybox:inventory",
                        "pull": "never",
                        "command": "/bin/sleep 600",
                    },
                },
                {
                    "name": "look",
                    "community.docker.docker_container_info": {"name": "inv"},
                    "register": "found",
                },
                {"ansible.builtin.assert": {"that": ["found.container.State.Running"]}},
                {
                    "name": "gone",
                    "community.docker.docker_container": {
                        "name": "inv",
                        "state": "absent",
                        "force_kill": True,
                    },
                },
            ],
        }
    ]
    path = tmp_path / "play.yml"
    path.write_text(json.dumps(play))
    result = ansible("ansible-playbook", str(path))
    assert result.returncode == 0, result.stdout + result.stderr
    assert "changed=2" in result.stdout


def test_the_guest_agent_needs_no_network(ansible: Run, fleet: list[HostInfo]) -> None:
    """By the connection that community.libvirt has: as root, without a key."""
    result = ansible(
        "ansible",
        fleet[3].name,
        "-m",
        "ansible.builtin.command",
        "-a",
        "id -un",
        options={"connection": "guest_agent"},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1] == "root"
