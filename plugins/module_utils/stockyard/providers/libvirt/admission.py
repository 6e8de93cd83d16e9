# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of this machine that a new host depends on: programs, ports, memory and disk space."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...errors import Conflict, MissingDependency, OutOfSpace, Unsupported
from ...model.host import HostRecord, HostSpec
from ...model.network import Published, bound
from ...model.template import TemplateRecord
from . import frozen, network
from .domains import Domains
from .images import Images
from .store import Store

FIRST_PORT = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
MEMINFO = Path("/proc/meminfo")
# A loopback address that no host gets: a port that is taken here is taken at every address.
ANYWHERE = "127.63.255.254"
# A new overlay, with the console log of the boot.
OVERLAY = 1 << 20


class Admission:
    """All checks of a new host, against one libvirt connection and the storage that
    goes with it.
    """

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
        going: Sequence[HostRecord],
        count: int,
    ) -> None:
        """Refuse hosts that cannot be made, see :meth:`...core.provider.Provider.check_host`."""
        self._networks.check(spec)
        check_programs()
        check_ports(spec, going, system=self._networks.system)
        if wanted := bound(spec.bind, spec.ports, published(going)):
            network.check_published("", wanted, (r for r, _state in self._domains.everything()[0]))
            network.probe("", wanted)
        if spec.network:
            kept = self._domains.addresses() - {record.address for record in going}
            self._networks.check_room(spec.network, count, kept)
        if template:
            frozen.verify(self._store.templates / template.uuid, template)
            check_memory(spec, template)
            check_space(spec, template, count, going, self._store, self._images)


def published(hosts: Iterable[HostRecord]) -> Published:
    """Return the addresses and ports that hosts publish."""
    return frozenset().union(*(record.published for record in hosts))


def check_programs() -> None:
    """Refuse a host if the program that makes its disk is not installed."""
    if not shutil.which("qemu-img"):
        raise MissingDependency(
            "qemu-img is not installed.", remedy="install the package qemu-utils"
        )


def check_ports(spec: HostSpec, going: Iterable[HostRecord], *, system: bool) -> None:
    """Refuse ports that QEMU cannot open on this machine, whatever address the host gets.

    :param going: hosts that are deleted first.
    :param system: whether QEMU runs as a user of libvirt's, and not as this one.
    :raises Unsupported: if a port is below the limit for ordinary users.
    :raises Conflict: if a process of this machine listens on a port at every address.
    """
    if spec.network:
        return
    first = _first_port()
    low = sorted(port for port in spec.ports if port < first)
    if low and (system or os.geteuid() != 0):
        raise Unsupported(
            f"port {low[0]} cannot be published.",
            cause=f"ordinary users may open ports from {first} on "
            f"(net.ipv4.ip_unprivileged_port_start)",
            remedy=f"declare a port from {first} on, or lower the limit: sysctl "
            f"net.ipv4.ip_unprivileged_port_start="
            f"{low[0]}",
        )
    own = () if spec.bind else spec.ports
    for wanted in bound(ANYWHERE, (*own, *network.FORWARDS), published(going)):
        try:
            network.probe("", frozenset([wanted]))
        except Conflict as error:
            raise Conflict(
                f"port {wanted[1]} cannot be published.",
                cause="a program of this machine has it at every address",
                remedy="choose another port, or let that program listen on one address",
            ) from error


def check_memory(spec: HostSpec, template: TemplateRecord, *, meminfo: Path = MEMINFO) -> None:
    """Refuse a host that is larger than this machine.

    :raises Unsupported: with both figures.
    """
    wanted, whole = spec.memory_mib or template.hardware.memory_mib, _whole_memory(meminfo)
    if whole and wanted > whole:
        raise Unsupported(
            f"a host of {wanted} MiB is larger than this machine, which has {whole} MiB with swap.",
            remedy="declare less memory_mib",
        )


def check_space(
    spec: HostSpec,
    template: TemplateRecord,
    count: int,
    going: Iterable[HostRecord],
    store: Store,
    images: Images,
) -> None:
    """Refuse hosts whose disks the storage has no space for.

    :param going: hosts that are deleted first.
    :raises OutOfSpace: with the MiB that are needed and those that are free.
    """
    each = OVERLAY
    if spec.fork_mode == "full":
        each = _size(store.templates / template.uuid / "disk.qcow2") + _size(
            images.path(template.image).disk
        )
    free = shutil.disk_usage(store.root).free + sum(
        _size(store.hosts / r.uuid / "disk.qcow2") for r in going
    )
    if count * each > free:
        raise OutOfSpace(
            f"the storage has no space for {count} disks.",
            name=f"directory {store.root}",
            cause=f"{count * each >> 20} MiB are needed, {free >> 20} MiB are free",
            remedy="free space in the storage",
        )


def _first_port() -> int:
    try:
        return int(FIRST_PORT.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 1024


def _whole_memory(meminfo: Path) -> int:
    """Return the MiB of memory and swap; 0 if that cannot be read."""
    try:
        lines = [line.partition(":") for line in meminfo.read_text(encoding="ascii").splitlines()]
        return (
            sum(
                int(amount.split()[0])
                for name, _, amount in lines
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
