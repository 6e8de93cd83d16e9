# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of this machine before hosts are created: programs, ports, memory and disk space."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...errors import Conflict, MissingDependency, OutOfSpace, Unsupported
from ...model.host import GUEST_PORTS, HostRecord, HostSpec
from ...model.network import UPLINKED, Published, bound
from ...model.template import TemplateRecord
from . import frozen, machine, network
from .domains import Domains
from .images import Images
from .store import Store

FIRST_PORT = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
MEMINFO = Path("/proc/meminfo")
# A loopback address that no host gets: a port in use at this address is in use at every address.
ANYWHERE = "127.63.255.254"
# Bytes of a new overlay and the console log of the boot.
OVERLAY = 1 << 20


class Admission:
    """Checks before hosts are created, for one libvirt connection and its storage."""

    def __init__(
        self, networks: network.Networks, domains: Domains, store: Store, images: Images
    ) -> None:
        self._networks = networks
        self._domains = domains
        self._store = store
        self._images = images

    def check(
        self,
        spec: HostSpec,
        template: TemplateRecord | None,
        deleted_hosts: Sequence[HostRecord],
        count: int,
    ) -> None:
        """Refuse hosts that cannot be created, see
        :meth:`...hypervisor.provider.Provider.check_host`.
        """
        self._networks.check(spec)
        check_programs()
        check_ports(spec, deleted_hosts, system=self._networks.system)
        if spec.publish:
            network.check_address(spec.publish.address)
        if published_ports := bound(spec.bind, spec.ports, published(deleted_hosts)):
            network.check_published(
                "",
                published_ports,
                (machine_record for machine_record, _state in self._domains.read_all()[0]),
            )
            network.probe("", published_ports)
        if spec.network:
            used_addresses = self._domains.addresses() - {
                record.address for record in deleted_hosts
            }
            self._networks.check_room(spec.network, count, used_addresses)
        if template:
            self._check_card(spec, template)
            frozen.verify(self._store.templates / template.uuid, template)
            check_memory(spec, template)
            check_space(spec, template, count, deleted_hosts, self._store, self._images)

    def _check_card(self, spec: HostSpec, template: TemplateRecord) -> None:
        """Refuse an uplink for forks of a template that was frozen without a second card."""
        if spec.egress not in UPLINKED or spec.network:
            return
        definition = self._domains.find(template).XMLDesc(0)
        if not machine.frozen(definition).has_uplink:
            raise Unsupported(
                f"egress {spec.egress} needs a second network card, which the template does not "
                "have.",
                name=template.title,
                cause="an earlier version of stockyard froze the template",
                remedy="build the template again",
            )


def published(hosts: Iterable[HostRecord]) -> Published:
    """Return the addresses and ports that hosts publish."""
    return frozenset().union(*(record.published for record in hosts))


def check_programs() -> None:
    """Refuse a host if the program that creates its disk is not installed."""
    if not shutil.which("qemu-img"):
        raise MissingDependency(
            "qemu-img is not installed.", remedy="install the package qemu-utils"
        )


def check_ports(spec: HostSpec, deleted_hosts: Iterable[HostRecord], *, system: bool) -> None:
    """Refuse ports that QEMU cannot open on this machine, regardless of the host's address.

    :param deleted_hosts: hosts that are deleted first.
    :param system: whether QEMU runs as a user of libvirt's instead of the current user.
    :raises Unsupported: if a port is below the limit for ordinary users.
    :raises Conflict: if a process of this machine listens on a port at every address.
    """
    if spec.network:
        return
    first_port = _first_port()
    lowest_ports = (spec.publish.range[0],) if spec.publish else ()
    privileged_ports = sorted(port for port in (*spec.ports, *lowest_ports) if port < first_port)
    if privileged_ports and (system or os.geteuid() != 0):
        raise Unsupported(
            f"port {privileged_ports[0]} cannot be published.",
            cause=f"ordinary users can open only ports from {first_port} "
            "(net.ipv4.ip_unprivileged_port_start)",
            remedy=f"declare a port of at least {first_port}, or lower the limit: sysctl "
            f"net.ipv4.ip_unprivileged_port_start={privileged_ports[0]}",
        )
    host_ports = () if spec.bind else spec.ports
    for binding in bound(ANYWHERE, (*host_ports, *GUEST_PORTS), published(deleted_hosts)):
        try:
            network.probe("", frozenset([binding]))
        except Conflict as error:
            raise Conflict(
                f"port {binding[1]} cannot be published.",
                cause="a program on this machine listens on the port at every address",
                remedy="choose another port, or bind that program to one address",
            ) from error


def check_memory(spec: HostSpec, template: TemplateRecord, *, meminfo: Path = MEMINFO) -> None:
    """Refuse a host that is larger than this machine.

    :raises Unsupported: with both sizes.
    """
    memory_mib, total_mib = spec.memory_mib or template.hardware.memory_mib, _whole_memory(meminfo)
    if total_mib and memory_mib > total_mib:
        raise Unsupported(
            f"a host of {memory_mib} MiB is larger than this machine, which has {total_mib} "
            f"MiB with swap.",
            remedy="declare less memory_mib",
        )


def check_space(
    spec: HostSpec,
    template: TemplateRecord,
    count: int,
    deleted_hosts: Iterable[HostRecord],
    store: Store,
    images: Images,
) -> None:
    """Refuse hosts if the storage has no space for their disks.

    :param deleted_hosts: hosts that are deleted first.
    :raises OutOfSpace: with the MiB that are needed and those that are free.
    """
    disk_bytes = OVERLAY
    if spec.fork_mode == "full":
        disk_bytes = _size(store.templates / template.uuid / "disk.qcow2") + _size(
            images.path(template.image).disk
        )
    free_bytes = shutil.disk_usage(store.root).free + sum(
        _size(store.hosts / record.uuid / "disk.qcow2") for record in deleted_hosts
    )
    if count * disk_bytes > free_bytes:
        raise OutOfSpace(
            f"the storage has insufficient space for {count} disks.",
            name=f"directory {store.root}",
            cause=f"{count * disk_bytes >> 20} MiB are needed, and {free_bytes >> 20} MiB are free",
            remedy="free space in the storage",
        )


def _first_port() -> int:
    try:
        return int(FIRST_PORT.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 1024


def _whole_memory(meminfo: Path) -> int:
    """Return the MiB of memory and swap; 0 if the kernel's figures cannot be read."""
    try:
        lines = [line.partition(":") for line in meminfo.read_text(encoding="ascii").splitlines()]
        return (
            sum(
                int(amount.split()[0])
                for name, _colon, amount in lines
                if name in ("MemTotal", "SwapTotal")
            )
            >> 10
        )
    except (OSError, ValueError, IndexError):
        return 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_blocks * 512
    except FileNotFoundError:
        return 0
