# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The location of a yard on a vCenter, from its URI and the environment.

Pure except for the environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ...errors import InvalidInput
from ...model.login import Login
from ...model.naming import boolean_of, shown
from .addresses import Range, read

USAGE = "write vsphere://vcenter[:port]/datacenter/cluster[/pool]"
FOLDER = "stockyard"
PARALLEL = 8


@dataclass(frozen=True)
class Place:
    """One cluster of one vCenter, and the settings of a yard there.

    :param pool: path of a resource pool under the cluster's own; empty for the cluster's own.
    :param folder: path of the yard's folder under the datacenter's folder of machines.
    :param network: the port group of hosts; the template's if empty.
    :param addresses: the range of hosts' addresses, if hosts have addresses.
    :param interface: the name of the network interface in the guest.
    :param endpoints: whether hosts answer at their addresses; false on a simulator.
    :param frozen: whether templates are frozen in the guest before they are forked.
    :param parallel: number of forks that are created at once.
    :param attribute: a custom attribute that shows the owner of machines in vCenter; none if empty.
    """

    host: str
    port: int
    datacenter: str
    cluster: str
    pool: str = ""
    folder: str = FOLDER
    network: str = ""
    addresses: Range | None = None
    interface: str = "ens192"
    endpoints: bool = True
    frozen: bool = True
    parallel: int = PARALLEL
    attribute: str = ""

    @property
    def site(self) -> str:
        """Return the key that identifies this place, whichever form of its URI was used."""
        vcenter = f"{self.host.lower()}:{self.port}"
        return f"vsphere {vcenter} {self.datacenter} {self.cluster} {self.folder}"


def parse(uri: str, environment: Mapping[str, str] | None = None) -> Place:
    """Parse a URI.

    :param environment: the process's own environment if omitted.
    :raises InvalidInput: if the URI is not a vSphere URI.
    """
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise InvalidInput(f"{shown(uri)} is not a URI.", cause=str(error), remedy=USAGE) from error
    path = [unquote(part) for part in parts.path.strip("/").split("/")]
    if parts.username is not None or parts.password is not None:
        raise InvalidInput(
            "the vSphere URI contains a user name or a password.",
            remedy="use username and password",
        )
    if parts.fragment or len(path) < 2 or not all(path) or any("\0" in part for part in path):
        raise InvalidInput(f"{shown(uri)} does not name a cluster.", remedy=USAGE)
    host, port = _server(uri, parts, os.environ if environment is None else environment)
    # A slash in a name is escaped in vSphere's paths, as it is in its names.
    datacenter, cluster, *pool = (part.replace("/", "%2f") for part in path)
    return Place(host, port, datacenter, cluster, "/".join(pool), **_options(uri, parts.query))


def login(partial_login: Login, environment: Mapping[str, str] | None = None) -> Login:
    """Return a login, completed from the environment.

    :param environment: the process's own environment if omitted.
    :raises InvalidInput: if the user name or password is missing.
    """
    environment = os.environ if environment is None else environment
    validate_certs = partial_login.validate_certs
    if validate_certs is None:
        validate_certs = _flag(
            "VMWARE_VALIDATE_CERTS", environment.get("VMWARE_VALIDATE_CERTS", "true")
        )
    complete_login = Login(
        username=partial_login.username or environment.get("VMWARE_USER", ""),
        password=partial_login.password or environment.get("VMWARE_PASSWORD", ""),
        validate_certs=validate_certs,
        ca_path=partial_login.ca_path or environment.get("VMWARE_CA_PATH", ""),
    )
    if not complete_login.username or not complete_login.password:
        missing_field = "password" if complete_login.username else "username"
        remedy = "set username and password, or VMWARE_USER and VMWARE_PASSWORD"
        raise InvalidInput(f"{missing_field} is not set, and vCenter requires it.", remedy=remedy)
    return complete_login


def _server(uri: str, parts: SplitResult, environment: Mapping[str, str]) -> tuple[str, int]:
    try:
        port = parts.port or int(environment.get("VMWARE_PORT") or 443)
    except ValueError as error:
        raise InvalidInput(
            f"{shown(uri)} has no valid port.", cause=str(error), remedy=USAGE
        ) from error
    host = parts.hostname or environment.get("VMWARE_HOST", "")
    if not host or any(character.isspace() or not character.isprintable() for character in host):
        raise InvalidInput(
            f"{shown(uri)} does not name a vCenter.", remedy=f"{USAGE}, or set VMWARE_HOST"
        )
    return host, port


def _options(uri: str, query: str) -> dict[str, Any]:
    """Return the options in the URI's query."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise InvalidInput(
            f"{shown(uri)} is not valid after its question mark.",
            cause=str(error),
            remedy="write ?name=value&name=value",
        ) from error
    values = dict(pairs)
    readers: dict[str, Callable[[str, str], Any]] = {
        "folder": _text,
        "network": _text,
        "interface": _text,
        "endpoints": _flag,
        "frozen": _flag,
        "parallel": _count,
        "attribute": _text,
    }
    unknown_options = sorted(values.keys() - readers.keys() - {"addresses", "gateway"})
    if unknown_options:
        option_names = ", ".join(sorted({*readers, "addresses", "gateway"}))
        raise InvalidInput(
            f"the vSphere URI's option {shown(unknown_options[0])} is not known.",
            remedy=f"use {option_names}",
        )
    if len(values) != len(pairs):
        raise InvalidInput(
            f"the vSphere URI {shown(uri)} sets an option twice.", remedy="set each option once"
        )
    options: dict[str, Any] = {
        name: readers[name](name, value) for name, value in values.items() if name in readers
    }
    if "addresses" in values or "gateway" in values:
        options["addresses"] = read(values.get("addresses", ""), values.get("gateway", ""))
    return options


def _text(name: str, value: str) -> str:
    if not value or not value.isprintable() or len(value) > 255 or value != value.strip("/ "):
        raise InvalidInput(
            f"{name}: {shown(value)} is not a name.", remedy="write the name as vSphere shows it"
        )
    return value


def _flag(name: str, value: str) -> bool:
    truth = boolean_of(value)
    if truth is None:
        raise InvalidInput(
            f"{name}: {shown(value)} is neither true nor false.", remedy="write true or false"
        )
    return truth


def _count(name: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= 64:
        raise InvalidInput(
            f"{name}: {shown(value)} is not a whole number from 1 to 64.",
            remedy="set such a number",
        )
    return int(value)
