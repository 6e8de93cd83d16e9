# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets: declared sets of hosts."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import InvalidInput
from . import naming
from .host import HostSpec


@dataclass(frozen=True)
class FleetSpec:
    """A declared set of equal hosts.

    :param name: at most 40 characters; hosts are called ``name-1``, ``name-2`` and so on.
    :param template: the template that they are forked from, in the same tenant.
    :param count: how many.
    :param host: what each is like.
    :param labels: carried on each host; changed in place.
    :param min_ready: how many hosts there are to be, at least, that nobody leased.
    :param max: how many there may be in all, leased ones too; 0 for any number.
    :param ttl: seconds that a host lives, from its making on; 0 for ever. It is for hosts that are made from now on.
    """

    name: str
    template: str
    count: int = 1
    tenant: str = "default"
    host: HostSpec = field(default_factory=HostSpec)
    labels: dict[str, str] = field(default_factory=dict)
    min_ready: int = 0
    max: int = 0
    ttl: float = 0.0

    def __post_init__(self) -> None:
        naming.name("fleet", self.name, naming.FLEET_NAME_MAX)
        naming.name("template", self.template)
        naming.name("tenant", self.tenant)
        naming.whole("count", self.count, 0, 10000)
        naming.labels(self.labels)
        self._check_leases()
        if (self.least > 1 or self.min_ready) and self.host.bind and self.host.ports:
            raise InvalidInput(
                f"bind: {self.count if self.count > 1 else 'several'} hosts cannot all publish port"
                f" {self.host.ports[0]} on {self.host.bind}.",
                name=f"fleet {self.name}",
                remedy="have one host in the fleet and no min_ready, or leave bind out",
            )  # fmt: skip

    @property
    def least(self) -> int:
        """How many hosts it has when none is leased."""
        return max(self.count, self.min_ready)

    def _check_leases(self) -> None:
        naming.whole("min_ready", self.min_ready, 0, 10000)
        naming.whole("max", self.max, 0, 10000)
        time_to_live(self.ttl)
        if self.max and self.max < self.least:
            raise InvalidInput(
                f"max is {self.max}, and {self.least} hosts are declared.", name=f"fleet {self.name}",
                remedy="raise max, or lower count and min_ready",
            )  # fmt: skip


def time_to_live(seconds: float) -> float:
    """Check a time to live: none, or at least a minute, as hosts have to be made before they go."""
    if seconds and not 60 <= seconds <= 3650 * 86400:
        raise InvalidInput(f"ttl: {seconds:g} s is not between one minute and ten years.", remedy="write it as 8h")
    return seconds


HOST_STATES = ("present", "absent", "restarted", "replaced")


@dataclass(frozen=True)
class SingleSpec:
    """One host that is declared by its name.

    :param template: the template that it is forked from; may be empty where the host is there already.
    :param ttl: seconds that it lives, from its making on; 0 for ever.
    """

    name: str
    template: str = ""
    tenant: str = "default"
    host: HostSpec = field(default_factory=HostSpec)
    labels: dict[str, str] = field(default_factory=dict)
    ttl: float = 0.0

    def __post_init__(self) -> None:
        naming.name("host", self.name)
        time_to_live(self.ttl)
        naming.name("tenant", self.tenant)
        if self.template:
            naming.name("template", self.template)
        naming.labels(self.labels)
