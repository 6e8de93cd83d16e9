# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook that makes a machine a source on vSphere: on a real Debian, over SSH. Its packages
are there already.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from stockyard import HostInfo, SingleSpec, TemplateInfo, Yard

from .conftest import ssh
from .guest_controller import OnGuests

pytestmark = [pytest.mark.real, pytest.mark.full]

PLAYBOOK = "stockyard.container_hosts.vsphere_template"
PATIENCE = 120


@pytest.fixture
def machine(yard: Yard, template: TemplateInfo) -> HostInfo:
    """Any Debian that SSH reaches; a host is one."""
    (host,) = yard.hosts.apply(SingleSpec("golden", template="docker")).objects
    return host


def inventory(machine: HostInfo) -> dict[str, Any]:
    """How Ansible reaches it."""
    way = machine.ssh
    known = f"-o StrictHostKeyChecking=yes -o UserKnownHostsFile={way.known_hosts}"
    reached = {
        "ansible_host": way.host,
        "ansible_port": way.port,
        "ansible_user": way.user,
        "ansible_ssh_private_key_file": way.private_key,
        "ansible_ssh_common_args": known,
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    return {"template": {"hosts": {"golden": reached}}}


def test_prepared_vsphere_machine_becomes_a_source_and_ends(
    yard: Yard, machine: HostInfo, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # A short name: ssh puts a socket beneath it, whose path has at most 107 bytes.
    tmp_path = tmp_path_factory.mktemp("v")
    controller = OnGuests(tmp_path / "user")
    hosts = tmp_path / "inventory.json"
    hosts.write_text(json.dumps(inventory(machine)))
    variables = {"template_packages": [], "template_seal": False}
    first = controller.run(PLAYBOOK, "-i", hosts, "-e", json.dumps(variables))
    assert first.returncode == 0, first.output
    agent = ssh(machine, "cat /usr/lib/stockyard/stockyard_agent/guestinfo.py")
    shipped = Path(__file__).parents[2] / "plugins/module_utils/stockyard/guest/agent/guestinfo.py"
    assert agent.stdout == shipped.read_text()

    ended = controller.run(
        PLAYBOOK, "-i", hosts, "-e", json.dumps({**variables, "template_seal": True})
    )
    assert ended.returncode == 0, ended.output
    assert not ended["Extract the archive on the machine"]["changed"]
    end = time.monotonic() + PATIENCE
    while yard.hosts.list(name="golden")[0].state != "off":
        assert time.monotonic() < end
        time.sleep(1)
