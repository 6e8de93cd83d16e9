# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a yard is on a vCenter: read from its URI and from the environment. Pure but for the
latter.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ...errors import InvalidInput
from ...model.login import Login
from ...model.naming import shown
from .addresses import Range, read

USAGE = "write vsphere://vcenter[:port]/datacenter/cluster[/pool]"
FOLDER = "stockyard"
PARALLEL = 8
FALSE = ("0", "false", "no", "off", "n", "f")
TRUE = ("1", "true", "yes", "on", "y", "t")


@dataclass(frozen=True)
class Place:
    """One cluster of one vCenter, and what a yard there is made with.

    :param pool: path of a resource pool under the cluster's own; empty for that.
    :param folder: path of the folder under the datacenter's machines that the yard is in.
    :param network: the port group that hosts are connected to; the template's when empty.
    :param addresses: what hosts get their addresses out of, where they have any.
    :param interface: what the guest calls its network interface.
    :param endpoints: whether hosts answer at their addresses; not so on a simulator.
    :param frozen: whether templates are frozen in the guest before they are forked.
    :param parallel: how many forks are made at once.
    :param attribute: a custom attribute that says in vCenter whose machines are; none when empty.
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
        """What tells it from other places, in whatever way the URI was written."""
        vcenter = f"{self.host.lower()}:{self.port}"
        return f"vsphere {vcenter} {self.datacenter} {self.cluster} {self.folder}"


def parse(uri: str, environment: Mapping[str, str] | None = None) -> Place:
    """Read a URI.

    :param environment: the process's own when not given.
    :raises InvalidInput: when it is none of ours.
    """
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise InvalidInput(f"{shown(uri)} is no URI.", cause=str(error), remedy=USAGE) from error
    path = [unquote(part) for part in parts.path.strip("/").split("/")]
    if parts.username is not None or parts.password is not None:
        raise InvalidInput(
            "the vSphere URI holds a user name or a password.", remedy="use username and password"
        )
    if parts.fragment or len(path) < 2 or not all(path) or any("\0" in part for part in path):
        raise InvalidInput(f"{shown(uri)} names no cluster.", remedy=USAGE)
    host, port = _server(uri, parts, os.environ if environment is None else environment)
    # A slash in a name is escaped in vSphere's paths, as it is in its names.
    datacenter, cluster, *pool = (part.replace("/", "%2f") for part in path)
    return Place(host, port, datacenter, cluster, "/".join(pool), **_options(uri, parts.query))


def login(given: Login, environment: Mapping[str, str] | None = None) -> Login:
    """What was given, completed from the environment.

    :param environment: the process's own when not given.
    :raises InvalidInput: when there is no user name.
    """
    environment = os.environ if environment is None else environment
    validate = given.validate_certs
    if validate is None:
        validate = _flag("VMWARE_VALIDATE_CERTS", environment.get("VMWARE_VALIDATE_CERTS", "true"))
    whole = Login(
        username=given.username or environment.get("VMWARE_USER", ""),
        password=given.password or environment.get("VMWARE_PASSWORD", ""),
        validate_certs=validate,
        ca_path=given.ca_path or environment.get("VMWARE_CA_PATH", ""),
    )
    if not whole.username or not whole.password:
        missing = "password" if whole.username else "username"
        remedy = "give username and password, or set VMWARE_USER and VMWARE_PASSWORD"
        raise InvalidInput(
            f"{missing} is not given: vCenter lets nobody in without.", remedy=remedy
        )
    return whole


def _server(uri: str, parts: SplitResult, environment: Mapping[str, str]) -> tuple[str, int]:
    try:
        port = parts.port or int(environment.get("VMWARE_PORT") or 443)
    except ValueError as error:
        raise InvalidInput(
            f"{shown(uri)} has no usable port.", cause=str(error), remedy=USAGE
        ) from error
    host = parts.hostname or environment.get("VMWARE_HOST", "")
    if not host or any(c.isspace() or not c.isprintable() for c in host):
        raise InvalidInput(f"{shown(uri)} names no vCenter.", remedy=f"{USAGE}, or set VMWARE_HOST")
    return host, port


def _options(uri: str, query: str) -> dict[str, Any]:
    """The part after the question mark."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise InvalidInput(
            f"{shown(uri)} cannot be read after its question mark.", cause=str(error)
        ) from error
    given = dict(pairs)
    readers: dict[str, Callable[[str, str], Any]] = {
        "folder": _text,
        "network": _text,
        "interface": _text,
        "endpoints": _flag,
        "frozen": _flag,
        "parallel": _count,
        "attribute": _text,
    }
    unknown = sorted(given.keys() - readers.keys() - {"addresses", "gateway"})
    if unknown or len(given) != len(pairs):
        what = unknown[0] if unknown else "an option that is there twice"
        known = ", ".join(sorted({*readers, "addresses", "gateway"}))
        raise InvalidInput(
            f"the vSphere URI's option {shown(what)} is not known.", remedy=f"use {known}"
        )
    options: dict[str, Any] = {
        name: readers[name](name, value) for name, value in given.items() if name in readers
    }
    if "addresses" in given or "gateway" in given:
        options["addresses"] = read(given.get("addresses", ""), given.get("gateway", ""))
    return options


def _text(name: str, value: str) -> str:
    if not value or not value.isprintable() or len(value) > 255 or value != value.strip("/ "):
        raise InvalidInput(
            f"{name}: {shown(value)} is not a name.", remedy="write it as vSphere shows it"
        )
    return value


def _flag(name: str, value: str) -> bool:
    if value.lower() not in (*TRUE, *FALSE):
        raise InvalidInput(
            f"{name}: {shown(value)} is neither true nor false.", remedy="write true or false"
        )
    return value.lower() in TRUE


def _count(name: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= 64:
        raise InvalidInput(f"{name}: {shown(value)} is not a whole number from 1 to 64.")
    return int(value)
