# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Selection of one host by its name, and the access to it by SSH."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InvalidInput, NotFound, OperationRefused
from ..model.access_info import ssh_options
from .command import Options

if TYPE_CHECKING:
    from ..yard import Yard


def select_entry(yard: Yard, name: str, tenant: str) -> dict[str, Any]:
    """Return the entry of a host in the listing of the yard; its SSH host key is pinned.

    :param tenant: the tenant of the host; empty if its name is unique in the yard.
    :raises NotFound: if the host does not exist.
    :raises InvalidInput: if several tenants have such a host.
    """
    hosts = yard.listing().hosts
    chosen = [host for host in hosts if host["name"] == name and tenant in ("", host["tenant"])]
    if not chosen:
        names = ", ".join(host["name"] for host in hosts[:10])
        raise NotFound(
            "the host does not exist.",
            name=f"host {name}",
            cause=f"owner {yard.context.owner} has {names or 'no hosts'}",
            remedy="list the hosts with stockyard ls",
        )
    if len(chosen) > 1:
        tenants = ", ".join(host["tenant"] for host in chosen)
        raise InvalidInput(
            f"the tenants {tenants} have a host with this name.",
            name=f"host {name}",
            remedy="set --tenant",
        )
    return chosen[0]


def select_host(yard: Yard, options: Options) -> tuple[str, str]:
    """Return the name and the tenant of the host that a command names."""
    entry = select_entry(yard, options.host, options.tenant)
    return entry["name"], entry["tenant"]


def select_running(yard: Yard, name: str, tenant: str) -> dict[str, Any]:
    """Return the entry of a running host in the listing of the yard.

    :raises OperationRefused: if the host does not run.
    """
    entry = select_entry(yard, name, tenant)
    if entry["state"] != "running":
        raise OperationRefused(
            f"the host does not run: it is {entry['state']}.",
            name=f"host {name}",
            remedy=f"resume it with stockyard host resume {name}",
        )
    return entry


def ssh_words(entry: dict[str, Any], *options: str) -> tuple[str, ...]:
    """Return the arguments that log in to a host and check its pinned key.

    :param options: more options of ssh(1).
    """
    ssh = entry["ssh"]
    pinned = ssh_options(ssh["known_hosts"], ssh["private_key"])
    address = f"{ssh['user']}@{ssh['host']}"
    return ("ssh", "-p", str(ssh["port"]), *pinned, *options, "--", address)
