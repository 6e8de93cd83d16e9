# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pools: declaration and record. The quota is checked in :mod:`..planning.quota`."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InvalidInput
from . import naming

ON_FULL = ("refuse", "fill")
# The limits of a pool, by name, each with its unit.
LIMITS = {
    "hosts": "hosts",
    "vcpus": "vCPUs",
    "memory_mib": "MiB of memory",
    "disk_gib": "GiB of disk",
}
_MOST = {"hosts": 100000, "vcpus": 1 << 20, "memory_mib": 1 << 30, "disk_gib": 1 << 30}
LARGEST_OVERCOMMIT = 64.0
LARGEST_SHARES = 1000000


@dataclass(frozen=True)
class PoolSpec:
    """A declared pool: a limit for many hosts together. A limit of 0 is none.

    :param parent: the pool that contains it, of the same tenant; its hosts count there too.
    :param hosts: the largest number of hosts.
    :param vcpus: the largest number of virtual CPUs in all.
    :param memory_mib: the memory of all hosts, in MiB.
    :param memory_overcommit: the factor by which nominal sizes together can exceed that memory.
    :param disk_gib: the largest size of all disks, in GiB, by virtual size.
    :param cpu_shares: its weight against sibling pools if processor time is short; 0 for the
        default.
    :param memory_shares: the same for memory, if the hypervisor distributes it.
    :param cpu_reservation_mhz: guaranteed processor time, if the hypervisor can guarantee it.
    :param memory_reservation_mib: the same for memory.
    :param expandable: whether it can borrow from the reservation of its parent.
    """

    name: str
    tenant: str = "default"
    parent: str = ""
    hosts: int = 0
    vcpus: int = 0
    memory_mib: int = 0
    memory_overcommit: float = 1.0
    disk_gib: int = 0
    cpu_shares: int = 0
    memory_shares: int = 0
    cpu_reservation_mhz: int = 0
    memory_reservation_mib: int = 0
    expandable: bool = True

    def __post_init__(self) -> None:
        naming.name("pool", self.name)
        naming.name("tenant", self.tenant)
        if self.parent:
            naming.name("pool", self.parent)
        if self.parent == self.name:
            raise InvalidInput(
                "a pool cannot be its own parent.",
                name=f"pool {self.name}",
                remedy="name another parent",
            )
        for limit, maximum in _MOST.items():
            naming.whole(limit, getattr(self, limit), 0, maximum)
        for weight in ("cpu_shares", "memory_shares"):
            naming.whole(weight, getattr(self, weight), 0, LARGEST_SHARES)
        for reservation in ("cpu_reservation_mhz", "memory_reservation_mib"):
            naming.whole(reservation, getattr(self, reservation), 0, 1 << 30)
        self._check_memory()

    def _check_memory(self) -> None:
        times = self.memory_overcommit
        # Not "times < 1": nan would pass.
        if isinstance(times, bool) or not 1 <= times <= LARGEST_OVERCOMMIT:
            raise InvalidInput(
                f"memory_overcommit: {naming.shown(times)} is not a number from 1 to "
                f"{LARGEST_OVERCOMMIT:g}.",
                name=f"pool {self.name}",
                remedy="set 1 for no overcommit, 2 for twice the memory",
            )
        if self.memory_mib and self.memory_reservation_mib > self.memory_mib:
            raise InvalidInput(
                f"memory_reservation_mib is {self.memory_reservation_mib}, over memory_mib "
                f"{self.memory_mib}.",
                name=f"pool {self.name}",
                remedy="lower the reservation",
            )

    def limit(self, name: str) -> int:
        """Return the largest amount of a resource, overcommit included; 0 for any amount."""
        value = int(getattr(self, name))
        return int(value * self.memory_overcommit) if name == "memory_mib" else value


@dataclass(frozen=True)
class PoolRecord:
    """The record of one pool.

    :param created: seconds since the epoch.
    :param version: counts every change, for compare and set; 0 for a pool that is not on record
        yet.
    """

    owner: str
    uuid: str
    spec: PoolSpec
    created: float
    version: int = 0

    kind = "pool"

    def __post_init__(self) -> None:
        naming.name("owner", self.owner)
        naming.identifier(self.uuid)
        naming.moment("created", self.created)
        naming.whole("version", self.version, 0, naming.VERSION_MAX)

    @property
    def name(self) -> str:
        """Return its name in its tenant."""
        return self.spec.name

    @property
    def tenant(self) -> str:
        """Return the trust domain of its hosts."""
        return self.spec.tenant

    @property
    def domain(self) -> str:
        """Return its name on the hypervisor. It has one dot more than a host's name, and another
        word than a template's.
        """
        return pool_domain(self.owner, self.tenant, self.name)

    @property
    def title(self) -> str:
        """Return its name in messages."""
        return f"pool {self.name}"


def pool_domain(owner: str, tenant: str, name: str) -> str:
    """Return the name of a pool on the hypervisor."""
    return f"{owner}.{tenant}.pool.{name}"
