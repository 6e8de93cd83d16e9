# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The access to a host: by SSH, and by Docker's API."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from .info import Info


@dataclass(frozen=True)
class SshAccess:
    """The connection parameters for SSH.

    :param host: the address at which the host answers.
    :param port: the port at that address.
    :param user: the user for the login.
    :param known_hosts: the file that contains the host's pinned key.
    :param private_key: the file of the operator's private key. Empty if others are declared.
    :param command: a command line for a POSIX shell that logs in and checks the pinned key.
    :param config: a configuration file for C(ssh -F) and C(Include), in which the tenant's hosts
        have their names.
    """

    host: str
    port: int
    user: str
    known_hosts: str
    private_key: str
    command: str
    config: str


@dataclass(frozen=True, kw_only=True)
class SshConfigInfo(Info):
    """The configuration of OpenSSH for the hosts of a tenant.

    :param path: the file for ``ssh -F``. It contains the hosts on all hypervisors.
    :param include: the lines for the end of ``~/.ssh/config`` that include this file.
    :param content: the entries of the hosts on the yard's hypervisor.
    """

    path: str
    include: str
    content: str


@dataclass(frozen=True)
class DockerAccess:
    """The connection parameters for a Docker client, over mutual TLS.

    :param endpoint: the URL of the Docker API.
    :param environment: the environment variables that a Docker client needs.
    :param export: a line for a POSIX shell that sets these variables.
    :param context: a command line that creates a context for Docker's own client.
    """

    endpoint: str
    environment: dict[str, str]
    export: str
    context: str


def export_line(environment: Mapping[str, str]) -> str:
    """Return a line with which a POSIX shell sets environment variables."""
    assignments = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    return " ".join(["export", *assignments])


def ssh_options(known_hosts: str, private_key: str) -> list[str]:
    """Return the options of ssh(1) that accept the pinned key only.

    :param private_key: the file of the only key to log in with; empty for the user's own keys.
    """
    pinned = [
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        f"UserKnownHostsFile={ssh_path(known_hosts)}",
    ]
    return [*pinned, "-o", "IdentitiesOnly=yes", "-i", private_key] if private_key else pinned


def ssh_config_entry(
    name: str, address: str, port: int, user: str, known_hosts: str, private_key: str
) -> str:
    """Return the entry of a host for ssh_config(5), which accepts the pinned key only.

    :param private_key: the file of the only key to log in with; empty for the user's own keys.
    """
    settings = [
        f"HostName {address}",
        f"Port {port}",
        f"User {user}",
        "StrictHostKeyChecking yes",
        f"UserKnownHostsFile {ssh_path(known_hosts)}",
        "GlobalKnownHostsFile /dev/null",
    ]
    if private_key:
        settings += ["IdentitiesOnly yes", f"IdentityFile {ssh_path(private_key)}"]
    return "".join([f"Host {name}\n", *(f"    {setting}\n" for setting in settings)])


def ssh_path(path: str) -> str:
    """Return a path as an option of ssh_config(5): quoted if it contains blanks, with doubled
    percent signs.
    """
    escaped_path = path.replace("%", "%%")
    if not any(char.isspace() or char in "\"\\'#" for char in escaped_path):
        return escaped_path
    return '"' + escaped_path.replace("\\", "\\\\").replace('"', '\\"') + '"'
