# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How Ansible gets to a host of a yard."""

from __future__ import annotations

from typing import Any


def connection(host: dict[str, Any]) -> dict[str, str]:
    """A host's variables, by what the modules return of it."""
    way = host["ssh"]
    flags = f"-F /dev/null -o UserKnownHostsFile={way['known_hosts']} -o StrictHostKeyChecking=yes"
    return {
        "ansible_host": way["host"],
        "ansible_port": str(way["port"]),
        "ansible_user": way["user"],
        "ansible_ssh_private_key_file": way["private_key"],
        "ansible_ssh_common_args": flags,
        "ansible_python_interpreter": "/usr/bin/python3",
    }
