# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible is told of a host: the variables that reach it, and the groups that it is in. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from typing import Any

Entry = dict[str, Any]

# What is on a host's variables as it is, each as stockyard_NAME. Every one costs time where there are many hosts.
FACTS = (
    "name", "tenant", "fleet", "template", "generation", "pool", "labels", "phase", "state", "ready", "expires",
    "published", "lease", "hypervisor",
)  # fmt: skip

# A kind of group, and the names of a host's groups of that kind, without their prefix. A new kind is a line here.
KINDS: dict[str, Callable[[Entry], Iterable[str]]] = {
    "fleet": lambda e: [e["fleet"]] if e["fleet"] else [],
    "template": lambda e: [e["template"]],
    "generation": lambda e: [f"{e['template']}_{e['generation']}"],
    "label": lambda e: [f"{key}_{value}" if value else key for key, value in sorted(e["labels"].items())],
    "lease": lambda e: [e["lease"]["state"]],
    "pool": lambda e: [e["pool"]] if e["pool"] else [],
    "phase": lambda e: [e["phase"]],
    "ready": lambda e: ["yes" if e["ready"] else "no"],
    "tenant": lambda e: [e["tenant"]],
    "hypervisor": lambda e: [e["hypervisor"]],
}


def groups(entry: Entry, kinds: Iterable[str]) -> list[str]:
    """The groups of a host: letters, digits and underscores, whatever its labels hold. No host's name has the last."""
    return [re.sub(r"[^A-Za-z0-9_]", "_", f"{kind}_{name}") for kind in kinds for name in KINDS[kind](entry)]


def variables(entry: Entry, connection: str) -> dict[str, Any]:
    """A host's variables. Keys and certificates are named by their paths; nothing secret is in here."""
    reach = _by_agent if connection == "guest_agent" else _by_ssh
    docker = entry["docker"]
    return {
        **reach(entry),
        **{f"stockyard_{name}": entry[name] for name in FACTS},
        "stockyard_docker": {
            "docker_host": docker["endpoint"],
            "tls": True,
            "validate_certs": True,
            "ca_path": docker["ca"],
            "client_cert": docker["cert"],
            "client_key": docker["key"],
        },
    }


def _by_ssh(entry: Entry) -> dict[str, Any]:
    ssh = entry["ssh"]
    # SSH is what Ansible takes anyway. Said here, it would win over a play's own `connection: local`.
    found = {
        "ansible_host": ssh["host"],
        "ansible_port": ssh["port"],
        "ansible_user": ssh["user"],
        # A variable, so that no setting of the controller's turns it off.
        "ansible_host_key_checking": True,
        "ansible_ssh_common_args": ssh_arguments(ssh["known_hosts"], own_key=bool(ssh["private_key"])),
    }
    return {**found, "ansible_ssh_private_key_file": ssh["private_key"]} if ssh["private_key"] else found


def ssh_arguments(known_hosts: str, *, own_key: bool) -> str:
    """SSH's options: the pinned keys count and no others, and with a key of ours no other is offered."""
    options = {
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": _ssh_path(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        **({"IdentitiesOnly": "yes"} if own_key else {}),
    }
    return shlex.join(word for name, value in options.items() for word in ("-o", f"{name}={value}"))


def _ssh_path(path: str) -> str:
    """A path as ssh_config(5) wants it: blanks inside quotes, and a percent sign doubled."""
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def _by_agent(entry: Entry) -> dict[str, Any]:
    agent = entry["agent"]
    return {
        "ansible_connection": "community.libvirt.libvirt_qemu",
        "ansible_host": agent["domain"],
        "ansible_libvirt_uri": agent["uri"],
    }
