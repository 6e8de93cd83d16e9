# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Variables and groups of a host in the inventory. Pure functions."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from typing import Any

Entry = dict[str, Any]

# Facts that become variables stockyard_NAME. Each one costs time in a large inventory.
FACTS = (
    "name",
    "tenant",
    "fleet",
    "template",
    "generation",
    "pool",
    "labels",
    "phase",
    "state",
    "ready",
    "expires",
    "published",
    "lease",
    "hypervisor",
)

# For each kind of group a function that returns the names of a host's groups without the prefix.
KINDS: dict[str, Callable[[Entry], Iterable[str]]] = {
    "fleet": lambda entry: [entry["fleet"]] if entry["fleet"] else [],
    "template": lambda entry: [entry["template"]],
    "generation": lambda entry: [f"{entry['template']}_{entry['generation']}"],
    "label": lambda entry: [
        f"{key}_{value}" if value else key for key, value in sorted(entry["labels"].items())
    ],
    "lease": lambda entry: [entry["lease"]["state"]],
    "pool": lambda entry: [entry["pool"]] if entry["pool"] else [],
    "phase": lambda entry: [entry["phase"]],
    "ready": lambda entry: ["yes" if entry["ready"] else "no"],
    "tenant": lambda entry: [entry["tenant"]],
    "hypervisor": lambda entry: [entry["hypervisor"]],
}


def groups(entry: Entry, kinds: Iterable[str]) -> list[str]:
    """Return the groups of a host.

    Names contain letters, digits and underscores only. Names of hosts contain no underscores.
    """
    return [
        re.sub(r"[^A-Za-z0-9_]", "_", f"{kind}_{name}")
        for kind in kinds
        for name in KINDS[kind](entry)
    ]


def variables(entry: Entry, connection: str) -> dict[str, Any]:
    """Return the variables of a host: paths of keys and certificates, but no secrets."""
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


def cacheable(yard_options: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the options of yards in the form in which the cache contains them: without secrets."""
    secrets = ("password", "ca_private_key", "volume_key")
    return [
        {option: value for option, value in options.items() if option not in secrets}
        for options in yard_options
    ]


def _by_ssh(entry: Entry) -> dict[str, Any]:
    ssh = entry["ssh"]
    # Ansible uses SSH by default. A variable would override `connection: local` of a play.
    connection = {
        "ansible_host": ssh["host"],
        "ansible_port": ssh["port"],
        "ansible_user": ssh["user"],
        # A variable overrides the settings of the Ansible controller.
        "ansible_host_key_checking": True,
        "ansible_ssh_common_args": ssh_arguments(
            ssh["known_hosts"], own_key=bool(ssh["private_key"])
        ),
    }
    return (
        {**connection, "ansible_ssh_private_key_file": ssh["private_key"]}
        if ssh["private_key"]
        else connection
    )


def ssh_arguments(known_hosts: str, *, own_key: bool) -> str:
    """Return the options of SSH: pinned host keys only, and no other than the own key."""
    options = {
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": _ssh_path(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        **({"IdentitiesOnly": "yes"} if own_key else {}),
    }
    return shlex.join(word for name, value in options.items() for word in ("-o", f"{name}={value}"))


def _ssh_path(path: str) -> str:
    """Quote a path for ssh_config(5): blanks inside quotes, and percent signs doubled."""
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def _by_agent(entry: Entry) -> dict[str, Any]:
    agent = entry["agent"]
    return {
        "ansible_connection": "community.libvirt.libvirt_qemu",
        "ansible_host": agent["domain"],
        "ansible_libvirt_uri": agent["uri"],
    }
