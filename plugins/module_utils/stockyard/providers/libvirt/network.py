# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How guests are connected: QEMU's user network with forwards and no way out, or a network of
libvirt's.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from ...errors import AddressTaken, Conflict, Unsupported
from ...guest.security import addresses
from ...model.host import DOCKER_PORT, SSH_PORT, HostRecord, HostSpec
from ...model.network import USER_NETWORK, GuestNetwork, Published, clash
from ...model.observation import Record
from .faults import translated
from .subnet import Subnet, read
from .xml.devices import Interface
from .xml.domain import Device

# QEMU's name of the network device: libvirt wants its own prefix on a name that users choose.
NIC, LIBVIRT_NIC = "nic0", "ua-nic0"
# Slot 16 of the root bus: far from where libvirt places its own; where a template has it, a fork
# has to.
SLOT = 0x10
# Guest-side ports behind the two fixed ones.
FORWARDS = {SSH_PORT: 22, DOCKER_PORT: 2376}
# A template's network card is plugged into nothing. The state of a user network would be frozen
# with it, and a fork on another kind of network could not take that up.
NOWHERE = "hubport,id=net0,hubid=0"
WHY_NOT_OPEN = (
    "QEMU's user network leads to the hypervisor's loopback (10.0.2.2, and whatever else a guest's "
    "root writes on a "
    "packet), and so does passt of Debian 12, with --no-map-gw too"
)


def nic(record: Record) -> str:
    """The network device's name on QEMU's monitor."""
    return LIBVIRT_NIC if isinstance(record, HostRecord) and record.spec.network else NIC


def attach(record: Record) -> tuple[tuple[Device, ...], tuple[str, ...]]:
    """What connects a machine: devices of the domain, and arguments of QEMU's."""
    if isinstance(record, HostRecord) and record.spec.network:
        return (Interface(record.spec.network, record.mac, LIBVIRT_NIC, SLOT),), ()
    netdev = _user(record) if isinstance(record, HostRecord) else NOWHERE
    device = (
        f"virtio-net-pci,netdev=net0,id={NIC},mac={record.mac},romfile=,bus=pcie.0,addr={SLOT:#x}"
    )
    return (), ("-netdev", netdev, "-device", device)


def _user(host: HostRecord) -> str:
    """restrict=on: the guest reaches nothing outside, not even the hypervisor's loopback; only the
    forwards come in.
    """
    return ",".join(("user", "id=net0", "restrict=on", "ipv6=off", *forwards(host)))


def forwards(record: HostRecord) -> tuple[str, ...]:
    """QEMU's ``hostfwd`` rules: SSH and Docker on the host's own address, the published ports where
    they are bound.
    """
    rules = [(outside, record.address, inside) for outside, inside in FORWARDS.items()]
    rules += [(port, address, port) for address, port in record.published]
    return tuple(
        f"hostfwd=tcp:{address}:{outside}-:{inside}" for outside, address, inside in sorted(rules)
    )


def check_free(record: HostRecord, others: Iterable[Record]) -> None:
    """Refuse an address or a published port that a host on record has, or somebody else on this
    machine.

    :raises Conflict: when it is taken.
    """
    hosts = [other for other in others if isinstance(other, HostRecord)]
    if any(other.address == record.address for other in hosts):
        raise AddressTaken(
            f"address {record.address} is taken.", name=record.title, remedy="run again"
        )
    check_published(record.title, record.published, hosts)
    if record.spec.bind:
        probe(record.title, record.published)


def check_published(title: str, wanted: Published, others: Iterable[Record]) -> None:
    """Refuse what a host on record publishes, whoever's it is.

    :raises Conflict: when one does.
    """
    for other in others:
        found = clash(wanted, other.published) if isinstance(other, HostRecord) else None
        if found:
            raise _taken(title, found, f"{other.title} of owner {other.owner} publishes it")


def probe(title: str, wanted: Published) -> None:
    """Refuse what somebody else on this machine has: QEMU would say less, and only when the host is
    half-made.

    :raises Conflict: when somebody has.
    """
    taken = _listened_on(wanted)
    if taken:
        raise _taken(title, *taken)


def check_own_ports(record: HostRecord) -> None:
    """Refuse to start a host while another program listens on one of its ports.

    :raises Conflict: naming the port.
    """
    fixed = () if record.spec.network else FORWARDS
    taken = _listened_on(frozenset((record.address, port) for port in fixed) | record.published)
    if taken:
        (address, port), cause = taken
        raise Conflict(
            f"port {port} of {address} is in use, and the host needs it.",
            name=record.title,
            cause=cause,
            remedy=f"find the program (ss -ltnp 'sport = :{port}'), end it, and run again",
        )


def _listened_on(wanted: Published) -> tuple[tuple[str, int], str] | None:
    """Return the first address and port that cannot be bound, and why."""
    for where in sorted(wanted):
        with socket.socket() as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind(where)
            except OSError as error:
                return where, str(error)
    return None


def _taken(title: str, where: tuple[str, int], cause: str) -> Conflict:
    return Conflict(
        f"port {where[1]} cannot be published on {where[0]}.",
        name=title,
        cause=cause,
        remedy="choose another port, or bind it elsewhere",
    )


class Networks:
    """The networks of one libvirt connection.

    :param connection: a ``libvirt.virConnect``.
    :param system: whether it is the machine's libvirt: an ordinary user's has no networks.
    """

    def __init__(self, connection: Any, system: bool) -> None:
        self.connection = connection
        self.system = system

    def check(self, spec: HostSpec) -> None:
        """Refuse what cannot be kept here.

        :raises Unsupported: with the reason, and what to do instead.
        """
        if not spec.network:
            if spec.egress == "open":
                remedy = "use egress proxy, or qemu:///system with a network"
                raise Unsupported(
                    "egress open cannot be had safely here.", cause=WHY_NOT_OPEN, remedy=remedy
                )
            return
        subnet = self._subnet(spec.network)
        if pool := addresses.meeting(ipaddress.IPv4Network(subnet.network)):
            raise Unsupported(
                f"network {spec.network} has addresses that Docker takes for containers.",
                cause=f"its {subnet.network} meets Docker's pool {pool}",
                remedy="use a network with other addresses",
            )
        forward = subnet.forward
        if bool(forward) != (spec.egress == "open"):
            is_ = f"it forwards ({forward})" if forward else "it is isolated"
            raise Unsupported(
                f"egress {spec.egress} cannot be had in network {spec.network}.",
                cause=is_,
                remedy="egress open goes with a network that forwards, none and proxy with one "
                "that does not",
            )

    def address(self, spec: HostSpec, uuid: str, taken: Iterable[str]) -> str:
        """A free address in the network that is named; empty where there is none to choose from."""
        if not spec.network:
            return ""
        leased = [str(lease.get("ipaddr")) for lease in self._leases(spec.network)]
        return self._subnet(spec.network).free(UUID(uuid).int, taken, leased)

    def check_room(self, name: str, count: int, taken: Iterable[str]) -> None:
        """Refuse more hosts than a network has addresses for.

        :raises Conflict: with the number of free addresses.
        """
        leased = [str(lease.get("ipaddr")) for lease in self._leases(name)]
        room = len(self._subnet(name).unused(0, taken, leased))
        if room < count:
            raise Conflict(
                f"{count} hosts need an address, and {room} are free.",
                name=f"network {name}",
                remedy="use a larger network, or delete hosts in it",
            )

    def guest(self, record: HostRecord) -> GuestNetwork:
        """What the guest is told."""
        if not record.spec.network:
            return USER_NETWORK
        subnet = self._subnet(record.spec.network)
        gateway = subnet.gateway if subnet.forward else ""
        mask = ipaddress.IPv4Network(subnet.network).netmask
        # libvirt's dnsmasq answers names at its own address in the network.
        return GuestNetwork(
            record.address, str(mask), gateway, nameserver=gateway or record.address
        )

    def _subnet(self, name: str) -> Subnet:
        if not self.system:
            remedy = "use qemu:///system, or leave network out"
            raise Unsupported(
                "a session of an ordinary user has no networks.",
                name=f"network {name}",
                remedy=remedy,
            )
        with translated("read the network", f"network {name}"):
            found = self.connection.networkLookupByName(name)
            active, text = found.isActive(), found.XMLDesc(0)
        if not active:
            raise Unsupported(
                "it is not active.", name=f"network {name}", remedy=f"virsh net-start {name}"
            )
        return read(text, name)

    def _leases(self, name: str) -> list[dict[str, Any]]:
        with translated("read the network's leases", f"network {name}"):
            return list(self.connection.networkLookupByName(name).DHCPLeases())
