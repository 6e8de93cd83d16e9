# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy of a host, and the checks of single values that could lead out of a container."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any

from .body import Denied
from .schema import Check, shown

# Docker grants these capabilities to every container.
CAPABILITIES = frozenset(
    (
        "CHOWN",
        "DAC_OVERRIDE",
        "FSETID",
        "FOWNER",
        "MKNOD",
        "NET_RAW",
        "SETGID",
        "SETUID",
        "SETFCAP",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "SYS_CHROOT",
        "KILL",
        "AUDIT_WRITE",
    )
)
SECURITY_OPTIONS = (
    "no-new-privileges",
    "no-new-privileges:true",
    "no-new-privileges=true",
    "apparmor=docker-default",
)
LOG_OPTIONS = frozenset(
    ("max-size", "max-file", "compress", "mode", "max-buffer-size", "tag", "labels", "env")
)
# Limits that are not listed raise a process above the host's processes (rtprio, nice).
ULIMITS = frozenset(
    (
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nofile",
        "nproc",
        "rss",
        "rttime",
        "sigpending",
        "stack",
    )
)
NETWORK_OPTIONS = frozenset(
    ("com.docker.network.bridge.enable_icc", "com.docker.network.driver.mtu")
)
ENDPOINT_OPTIONS = frozenset(("com.docker.network.endpoint.ifname",))
# An id without a name can name any image that was loaded or imported; a registry's digest follows a
# name.
_DIGEST = re.compile(r".+@sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Policy:
    """The user's part of the rules: see the options of the SDK by the same names.

    :param pools: Docker's address pools; networks that a user creates must be inside them.
    """

    mounts: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    by_digest: bool = False
    build: bool = True
    pools: tuple[str, ...] = ()

    @property
    def lists_images(self) -> bool:
        """Return whether some images are refused."""
        return bool(self.images) or self.by_digest

    def allows_image(self, name: str) -> bool:
        """Return whether an image may be used."""
        if self.by_digest and not _DIGEST.fullmatch(name):
            return False
        return not self.images or any(
            name.startswith(item[:-1]) if item.endswith("*") else name == item
            for item in self.images
        )

    def owns(self, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
        """Return whether a network lies inside one of the pools."""
        pools = [ipaddress.ip_network(pool) for pool in self.pools]
        return any(pool.version == network.version and network.subnet_of(pool) for pool in pools)  # type: ignore[arg-type]


def one_of(*allowed: Any) -> Check:
    """Return a check that allows only these values and null."""

    def check(_policy: Policy, place: str, value: Any) -> None:
        if value is not None and not any(
            type(value) is type(item) and value == item for item in allowed
        ):
            raise Denied(f"{place} may not be {shown(value)}")

    return check


def keys_of(allowed: frozenset[str]) -> Check:
    """Return a check that allows only these keys of a map."""

    def check(_policy: Policy, place: str, value: dict[str, Any]) -> None:
        if unknown_keys := sorted(value.keys() - allowed):
            raise Denied(f"{place} may not set {shown(unknown_keys[0])}")

    return check


def not_the_hosts(_policy: Policy, place: str, value: str | None) -> None:
    """Refuse a name space of the host."""
    if (value or "").strip().lower().startswith("host"):
        raise Denied(f"{place} may not be {shown(value)}: the host's is not for containers")


def only_null(_policy: Policy, place: str, value: Any) -> None:
    """Refuse a list, even an empty list, which dockerd uses in place of its own, longer list."""
    if value is not None:
        raise Denied(f"{place} may not be set")


def not_negative(_policy: Policy, place: str, value: int | None) -> None:
    """Refuse a number below 0."""
    if (value or 0) < 0:
        raise Denied(
            f"{place} may not be {value}: a container may not be spared when memory runs out"
        )


def capability(_policy: Policy, place: str, value: str | None) -> None:
    """Refuse a capability that Docker does not grant to every container."""
    if (value or "").upper().removeprefix("CAP_") not in CAPABILITIES:
        raise Denied(f"{place}: the capability {shown(value)} is not for containers")


def bind(policy: Policy, place: str, value: str | None) -> None:
    """Refuse a bind of a path of the host that the policy does not list."""
    source, colon, _target = (value or "").partition(":")
    # A source without a leading slash is the name of a volume.
    if colon and source.startswith(("/", "~", ".", "\\")):
        _mounted(policy, place, source)


def mount(policy: Policy, place: str, value: dict[str, Any]) -> None:
    """Refuse a mount of a path of the host that the policy does not list."""
    kind = value.get("Type") or "volume"
    one_of("bind", "volume", "tmpfs")(policy, f"{place}.Type", kind)
    if kind == "bind":
        _mounted(policy, place, value.get("Source"))


def _mounted(policy: Policy, place: str, source: object) -> None:
    if source not in policy.mounts:
        raise Denied(f"{place}: {shown(source)} of the host is not for containers")


def path_inside(_policy: Policy, place: str, value: dict[str, Any]) -> None:
    """Refuse volumes with more than a path in the container."""
    if binds := [path for path in value if ":" in path]:
        raise Denied(f"{place}: {shown(binds[0])} is no path in a container")


def no_host_network(_policy: Policy, place: str, value: dict[str, Any]) -> None:
    """Refuse the host's network among the networks of a container."""
    if any(name.strip().lower() == "host" for name in value):
        raise Denied(f"{place}: the host's network is not for containers")


def ulimit(_policy: Policy, place: str, value: dict[str, Any]) -> None:
    """Refuse limits that raise a process above the host's processes."""
    if value.get("Name") not in ULIMITS:
        raise Denied(f"{place}: the limit {shown(value.get('Name'))} is not for containers")


def image(policy: Policy, name: object) -> None:
    """Refuse an image that the policy does not list."""
    if not isinstance(name, str) or not policy.allows_image(name):
        raise Denied(f"the image {shown(name)} is not on the list")


def container(policy: Policy, _place: str, value: dict[str, Any]) -> None:
    """Refuse a container of an image that the policy does not list."""
    image(policy, value.get("Image"))


def address(policy: Policy, place: str, value: str | None) -> None:
    """Refuse a network or an address outside Docker's address pools.

    A bridge with an address outside the pools would cut the host off from real peers with that
    address.
    """
    if not value:
        return
    try:
        network = ipaddress.ip_network(value, strict=False) if "%" not in value else None
    except ValueError:
        network = None
    if network is None:
        raise Denied(f"{place}: {shown(value)} is no network")
    if not policy.owns(network):
        raise Denied(
            f"{place}: {shown(value)} is not inside the address pools of this host "
            f"({', '.join(policy.pools)}). "
            "Choose a network inside them, or leave it out"
        )
