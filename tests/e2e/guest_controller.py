# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Ansible gets to a host of a yard, and to the hypervisor that has it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from stockyard import HostInfo
from tests.integration.conftest import Controller, task

# Where libvirt's session is, for a controller whose home is another.
SESSION = {
    "XDG_CONFIG_HOME": str(Path.home() / ".config"),
    "XDG_CACHE_HOME": str(Path.home() / ".cache"),
}
SESSION |= {name: value for name, value in os.environ.items() if name.startswith("XDG_")}


class OnGuests(Controller):
    """A user's machine with this user's hypervisor. Its work in guests takes long."""

    patience = 1200

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | SESSION


def connection(host: HostInfo) -> dict[str, str]:
    """A host's variables, by what the modules return of it."""
    way = host.ssh
    flags = f"-F /dev/null -o UserKnownHostsFile={way.known_hosts} -o StrictHostKeyChecking=yes"
    return {
        "ansible_host": way.host,
        "ansible_port": str(way.port),
        "ansible_user": way.user,
        "ansible_ssh_private_key_file": way.private_key,
        "ansible_ssh_common_args": flags,
        "ansible_timeout": "60",
        "ansible_python_interpreter": "/usr/bin/python3",
    }


def audit(host: HostInfo, folder: Path, **options: Any) -> dict[str, Any]:
    """Return the result of the module audit in a host.

    :param folder: a directory with a short name: ssh puts a socket beneath it, whose path has at
        most 107 bytes.
    :param options: those of the module.
    """
    inventory = {"all": {"hosts": {host.name: connection(host)}}}
    (folder / "hosts.json").write_text(json.dumps(inventory))
    look = task("look", "audit", {"become": True}, **options)
    played = OnGuests(folder / "controller").play(
        [look], "-i", str(folder / "hosts.json"), hosts=host.name
    )
    report: dict[str, Any] = played["look"]
    assert "compliant" in report, report
    return report
