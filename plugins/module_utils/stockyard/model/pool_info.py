# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Public facts of a pool."""

from __future__ import annotations

from dataclasses import dataclass

from .info import Info


@dataclass(frozen=True)
class PoolAmounts:
    """An amount for each limit of a pool.

    :param hosts: the number of hosts.
    :param vcpus: the number of virtual CPUs.
    :param memory_mib: the memory, in MiB.
    :param disk_gib: the virtual size of all disks, in GiB.
    """

    hosts: int
    vcpus: int
    memory_mib: int
    disk_gib: int


@dataclass(frozen=True)
class FreeAmounts:
    """The free part of each limit of a pool.

    :param hosts: the number of hosts. ``None`` if there is no limit.
    :param vcpus: the number of virtual CPUs. ``None`` if there is no limit.
    :param memory_mib: the memory, in MiB. ``None`` if there is no limit.
    :param disk_gib: the virtual size of all disks, in GiB. ``None`` if there is no limit.
    """

    hosts: int | None
    vcpus: int | None
    memory_mib: int | None
    disk_gib: int | None


@dataclass(frozen=True)
class HostMemory:
    """The memory that one running host uses.

    :param name: the name of the host.
    :param nominal_mib: the nominal memory of the host, in MiB.
    :param private_mib: the part of the memory that belongs to this host alone, in MiB.
    :param shared_mib: the part that belongs to the template, in MiB. The remainder was never used.
    :param oom_score: the score of the machine in the hypervisor's kernel. When memory runs out, the
        kernel ends the machine with the highest score first.
    """

    name: str
    nominal_mib: int
    private_mib: float
    shared_mib: float
    oom_score: int


@dataclass(frozen=True)
class PoolMemory:
    """The memory that the running hosts of a pool use on the hypervisor.

    :param private_mib: the memory that belongs to the hosts alone, in MiB.
    :param hosts: the memory of each running host.
    """

    private_mib: float
    hosts: tuple[HostMemory, ...]


@dataclass(frozen=True, kw_only=True)
class PoolInfo(Info):
    """A pool.

    :param name: the pool's name.
    :param tenant: the tenant that the pool belongs to.
    :param owner: the owner of the yard.
    :param uuid: the UUID of the pool.
    :param parent: the parent pool. Empty if there is none.
    :param hosts: the limit of hosts. 0 for no limit.
    :param vcpus: the limit of virtual CPUs. 0 for no limit.
    :param memory_mib: the memory of all hosts, in MiB. 0 for no limit.
    :param memory_overcommit: the factor by which nominal sizes together can exceed that memory.
    :param disk_gib: the limit of the virtual size of all disks, in GiB. 0 for no limit.
    :param cpu_shares: the weight of the pool against its siblings if processor time is short. 0 for
        the hypervisor's default.
    :param memory_shares: the weight of the pool against its siblings if memory is short. 0 for the
        hypervisor's default.
    :param cpu_reservation_mhz: the guaranteed processor time, in MHz.
    :param memory_reservation_mib: the guaranteed memory, in MiB.
    :param expandable: whether the pool can borrow from the reservation of its parent.
    :param created: the time of creation, in seconds since the epoch.
    :param used: the used part of each limit, by the nominal sizes of the hosts in this pool and in
        its subordinate pools.
    :param free: the free part of each limit.
    :param members: the names of the hosts in this pool and in its subordinate pools.
    :param pools: the names of the direct subordinate pools.
    :param held: the memory that the running hosts actually use on the hypervisor. ``None`` if the
        hypervisor does not provide the figures.
    :param first_to_go: the host whose machine the kernel would end first if memory ran out. Empty
        if it is not known.
    :param warnings: the risks that the current use of memory causes. Empty if there are none.
    :param enforced: ``admission`` if the pool only decides whether hosts are created,
        ``resource pool`` if the hypervisor also enforces the limits and shares for running hosts.
    :param enforced_reason: the reason why the hypervisor enforces no more than admission. Empty if
        it does.
    :param available_mib: the memory that the hypervisor can still provide, in MiB. ``None`` if it
        is not known.
    """

    name: str
    tenant: str
    owner: str
    uuid: str
    parent: str
    hosts: int
    vcpus: int
    memory_mib: int
    memory_overcommit: float
    disk_gib: int
    cpu_shares: int
    memory_shares: int
    cpu_reservation_mhz: int
    memory_reservation_mib: int
    expandable: bool
    created: float
    used: PoolAmounts
    free: FreeAmounts
    members: tuple[str, ...]
    pools: tuple[str, ...]
    held: PoolMemory | None
    first_to_go: str
    warnings: tuple[str, ...]
    enforced: str
    enforced_reason: str
    available_mib: int | None
