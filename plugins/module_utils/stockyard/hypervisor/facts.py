# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts that a hypervisor reports of its objects, beyond their records."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..model.host_info import MemoryUse, RefusedDestination
from ..model.template_info import TemplateSizes


@dataclass(frozen=True)
class MachineFacts:
    """Facts of the machine of a host or template. A fact is ``None`` if the hypervisor has no such
    fact.

    :param storage: the directory or datastore of the machine.
    :param console_log: the file with the output of the console.
    :param reports_memory: whether the hypervisor reports the memory of running hosts.
    :param memory: the memory that a host uses now; ``None`` if it is off or cannot be read.
    :param disk_layers: the number of layers that branches put under the disk of a host.
    :param refused: the refused attempts of a host whose egress records these.
    :param uplink_ended: whether the process of a running host's uplink has ended.
    :param container_ports: the ports of containers that are forwarded from the address of a host.
    :param ports_problem: why the ports of containers are not forwarded on a running host; empty if
        they are.
    :param sizes: the disk space of a template.
    :param esxi_host: the ESXi host that the machine runs on; empty before it exists.
    :param cluster: the cluster of the machine.
    :param folder: the folder of the machine.
    :param resource_pool: the resource pool of the hypervisor's URI.
    """

    storage: str
    console_log: str | None = None
    reports_memory: bool = False
    memory: MemoryUse | None = None
    disk_layers: int | None = None
    sizes: TemplateSizes | None = None
    esxi_host: str | None = None
    cluster: str | None = None
    folder: str | None = None
    resource_pool: str | None = None
    refused: tuple[RefusedDestination, ...] | None = None
    uplink_ended: bool = False
    container_ports: tuple[int, ...] | None = None
    ports_problem: str = ""

    @property
    def absent(self) -> frozenset[str]:
        """Return the names of the facts that the hypervisor does not report."""
        names = {field.name for field in fields(self) if getattr(self, field.name) is None}
        return frozenset(names - {"memory"} if self.reports_memory else names)


@dataclass(frozen=True)
class VolumeFacts:
    """Facts of a volume's disk.

    :param disk: its path; empty for a snapshot, or if it is not known.
    :param allocated: the storage that it uses itself, in bytes.
    :param shared: the storage that it shares with its copies or its source, in bytes.
    """

    disk: str = ""
    allocated: int = 0
    shared: int = 0


@dataclass(frozen=True)
class PoolFacts:
    """Facts of a pool.

    :param enforced: ``admission`` if a pool only limits the creation of hosts, ``resource pool`` if
        the hypervisor also limits the running hosts to their share.
    :param enforced_reason: why it enforces no more than admission.
    :param available_mib: the memory that the hypervisor can still provide, in MiB; ``None`` if
        unknown.
    """

    enforced: str
    enforced_reason: str
    available_mib: int | None
