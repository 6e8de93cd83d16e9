# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections of guests: QEMU's user network with forwards and no egress, or a libvirt network."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from ...errors import AddressTaken, Conflict, Unsupported
from ...guest.security import addresses
from ...model.host import GUEST_PORTS, HostRecord, HostSpec
from ...model.network import (
    UPLINKED,
    USER_NETWORK,
    GuestNetwork,
    Published,
    PublishSpec,
    clash,
)
from ...model.observation import Record
from . import uplink_tools
from .faults import translated
from .monitor import Monitor
from .subnet import Subnet, read
from .uplink_rules import GATEWAY, UPLINK
from .xml.devices import Interface
from .xml.domain import Device

# QEMU's name of the network device: libvirt requires its own prefix on a name that users choose.
NIC, LIBVIRT_NIC = "nic0", "ua-nic0"
# Slot 16 of the root bus: far from the slots that libvirt assigns itself; a fork must use the same
# slot as its template.
SLOT = 0x10
# A template's network card is plugged into nothing. The state of a user network would be frozen
# with it, and a fork on another kind of network could not load that state.
NOWHERE = "hubport,id=net0,hubid=0"
# A twin receives the state of its parent's user network, which is part of the stream. It has no
# forwards: the parent uses the ports.
NETDEV = "net0"
# The name server is behind the second card.
OPEN_NETWORK = replace(USER_NETWORK, nameserver=GATEWAY, uplink=UPLINK)
# The guest sees the addresses of other machines, and needs a route for its answers. The user
# network drops all other packets.
ANSWERING_NETWORK = replace(USER_NETWORK, gateway="10.0.2.2")
TWIN = _BEGIN = f"user,id={NETDEV},restrict=on,ipv6=off"
# The second card of each machine ends at a hub without a back end, so a running host can get any,
# and a frozen state contains none. The hub's other port discards packets: without it the hub would
# not accept any, and the card would send nothing after the first packet, with a back end too.
UPLINK_HUB, UPLINK_SLOT = 1, 0x11
UPLINK_CARD = (
    "-netdev",
    f"hubport,id=net1,hubid={UPLINK_HUB}",
    "-netdev",
    f"hubport,id=net1-sink,hubid={UPLINK_HUB}",
    "-device",
    f"virtio-net-pci,netdev=net1,id=nic1,mac={UPLINK.mac},romfile=,bus=pcie.0,addr={UPLINK_SLOT:#x}",
)
# QEMU of the system's libvirt runs as another user.
WHY_NOT_OPEN = (
    "a process of the user who runs stockyard cannot guard a machine of the system's libvirt"
)


def has_uplink(record: Record) -> bool:
    """Return whether a machine gets a back end for its second card."""
    return (
        isinstance(record, HostRecord)
        and record.spec.egress in UPLINKED
        and not record.spec.network
    )


def nic(record: Record) -> str:
    """Return the network device's name on QEMU's monitor."""
    return LIBVIRT_NIC if isinstance(record, HostRecord) and record.spec.network else NIC


def attach(record: Record) -> tuple[tuple[Device, ...], tuple[str, ...]]:
    """Return the devices of the domain and the arguments of QEMU that connect a machine."""
    if isinstance(record, HostRecord) and record.spec.network:
        return (Interface(record.spec.network, record.mac, LIBVIRT_NIC, SLOT),), ()
    return (), card(_user(record) if isinstance(record, HostRecord) else NOWHERE, record.mac)


def card(netdev: str, mac: str) -> tuple[str, ...]:
    """Return the arguments of a network card."""
    device = f"virtio-net-pci,netdev=net0,id={NIC},mac={mac},romfile=,bus=pcie.0,addr={SLOT:#x}"
    return ("-netdev", netdev, "-device", device)


def _user(host: HostRecord) -> str:
    """Return the user network of a host.

    restrict=on: the guest reaches nothing outside, not even the hypervisor's loopback; only the
    forwards come in.
    """
    return ",".join((_BEGIN, *forwards(host)))


def forwards(record: HostRecord) -> tuple[str, ...]:
    """Return QEMU's ``hostfwd`` rules.

    SSH and Docker are forwarded from the host's own address, the published ports from the addresses
    that they are bound to.
    """
    rules = [
        (host_port, record.address, guest_port) for host_port, guest_port in GUEST_PORTS.items()
    ]
    rules += [
        (host_port, address, guest_port)
        for (address, host_port), guest_port in record.forwards.items()
    ]
    return tuple(
        f"hostfwd=tcp:{address}:{host_port}-:{guest_port}"
        for host_port, address, guest_port in sorted(rules)
    )


def update_forwards(arguments: Sequence[str], record: HostRecord) -> list[str]:
    """Return arguments of QEMU in which the user network has the present forwards of a host."""
    if record.spec.network:
        return list(arguments)
    return [_user(record) if argument.startswith(_BEGIN) else argument for argument in arguments]


def change_forwards(monitor: Monitor, before: Published, after: Published) -> None:
    """Change the published ports of a running machine.

    :raises Conflict: if QEMU cannot publish a port; the ports are then as before.
    """
    for address, port in sorted(before - after):
        _command(monitor, f"hostfwd_remove {NETDEV} tcp:{address}:{port}")
    added: list[tuple[str, int]] = []
    for address, port in sorted(after - before):
        answer = _command(monitor, f"hostfwd_add {NETDEV} tcp:{address}:{port}-:{port}")
        if answer:
            change_forwards(monitor, (after & before) | frozenset(added), before)
            raise _taken(monitor.name, (address, port), answer)
        added.append((address, port))


def _command(monitor: Monitor, line: str) -> str:
    """Run a command for which QEMU has no structured form; return its answer."""
    arguments: dict[str, Any] = {"command-line": line}
    return str(monitor.command("human-monitor-command", **arguments) or "").strip()


def check_free(record: HostRecord, records: Iterable[Record]) -> None:
    """Refuse an address or a published port that another host or a program of this machine uses.

    :raises Conflict: if it is in use.
    """
    hosts = [host for host in records if isinstance(host, HostRecord)]
    if any(host.address == record.address for host in hosts):
        raise AddressTaken(
            f"address {record.address} is in use.", name=record.title, remedy="run again"
        )
    check_published(record.title, record.published, hosts)
    if record.spec.bind:
        probe(record.title, record.published)


def check_published(title: str, published: Published, records: Iterable[Record]) -> None:
    """Refuse ports that a host on record publishes, of any owner.

    :raises Conflict: with the host that publishes the port.
    """
    for record in records:
        binding = clash(published, record.published) if isinstance(record, HostRecord) else None
        if binding:
            raise _taken(
                title, binding, f"{record.title} of owner {record.owner} publishes this port"
            )


def probe(title: str, published: Published) -> None:
    """Refuse ports that a program of this machine uses.

    QEMU would report less, and only after the host is partly created.

    :raises Conflict: if a port is in use.
    """
    conflict = _listened_on(published)
    if conflict:
        raise _taken(title, *conflict)


def check_own_ports(record: HostRecord) -> None:
    """Refuse to start a host while another program listens on one of its ports.

    :raises Conflict: with the port.
    """
    fixed_ports = () if record.spec.network else GUEST_PORTS
    conflict = _listened_on(
        frozenset((record.address, port) for port in fixed_ports) | record.published
    )
    if conflict:
        (address, port), cause = conflict
        raise Conflict(
            f"port {port} of {address} is in use, and the host needs it.",
            name=record.title,
            cause=cause,
            remedy=f"find the program (ss -ltnp 'sport = :{port}'), end it, and run again",
        )


def check_address(address: str) -> None:
    """Refuse an address at which this machine cannot publish any port.

    :raises Conflict: if the machine does not have the address.
    """
    with socket.socket() as listener:
        try:
            listener.bind((address, 0))
        except OSError as error:
            raise Conflict(
                f"hosts cannot be published at {address}.",
                cause=str(error),
                remedy="set an address of the hypervisor (ip -4 address)",
            ) from error


def free_ports(
    publish: PublishSpec, count: int, used_bindings: Iterable[tuple[str, int]]
) -> tuple[int, ...]:
    """Return the lowest ports that neither hosts nor programs of this machine use, at most
    ``count``.

    :raises Conflict: if the machine does not have the address.
    """
    check_address(publish.address)
    return publish.free_ports(count, used_bindings, lambda port: is_free(publish.address, port))


def is_free(address: str, port: int) -> bool:
    """Return whether no program of this machine listens on a port."""
    return _listened_on(frozenset([(address, port)])) is None


def _listened_on(published: Published) -> tuple[tuple[str, int], str] | None:
    """Return the first address and port that cannot be bound, and the reason."""
    for binding in sorted(published):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind(binding)
            except OSError as error:
                return binding, str(error)
    return None


def _taken(title: str, binding: tuple[str, int], cause: str) -> Conflict:
    return Conflict(
        f"port {binding[1]} cannot be published on {binding[0]}.",
        name=title,
        cause=cause,
        remedy="choose another port, or bind it elsewhere",
    )


class Networks:
    """The networks of one libvirt connection.

    :param connection: a ``libvirt.virConnect``.
    :param system: whether the connection is to the machine's libvirt: an ordinary user's has no
        networks.
    """

    def __init__(self, connection: Any, system: bool) -> None:
        self.connection = connection
        self.system = system

    def check(self, spec: HostSpec) -> None:
        """Refuse a network or egress that this hypervisor cannot provide.

        :raises Unsupported: with the reason, and an alternative.
        """
        if not spec.network:
            if spec.egress in UPLINKED:
                self._check_uplink(spec)
            return
        if spec.egress_allow:
            raise Unsupported(
                f"egress_allow is not possible in network {spec.network}.",
                cause="libvirt's rules for a network apply to all machines in the network",
                remedy="omit egress_allow, or omit network and use qemu:///session",
            )
        subnet = self._subnet(spec.network)
        if pool := addresses.meeting(ipaddress.IPv4Network(subnet.network)):
            raise Unsupported(
                f"the addresses of network {spec.network} overlap with Docker's addresses for "
                "containers.",
                cause=f"{subnet.network} overlaps with Docker's pool {pool}",
                remedy="use a network with other addresses",
            )
        forward = subnet.forward
        if bool(forward) != (spec.egress == "open"):
            forwarding = (
                f"the network forwards traffic ({forward})"
                if forward
                else "the network is isolated"
            )
            raise Unsupported(
                f"egress {spec.egress} is not possible in network {spec.network}.",
                cause=forwarding,
                remedy="use egress open with a network that forwards, and none or proxy with "
                "an isolated network",
            )

    def _check_uplink(self, spec: HostSpec) -> None:
        if self.system and spec.egress == "allow":
            raise Unsupported(
                "egress allow is not possible on this hypervisor.",
                cause=WHY_NOT_OPEN,
                remedy="use qemu:///session, or declare egress proxy",
            )
        if self.system:
            raise Unsupported(
                "egress open needs a network on this hypervisor.",
                cause=WHY_NOT_OPEN,
                remedy="declare a network that forwards, or use egress proxy",
            )
        uplink_tools.check(spec)

    def address(self, spec: HostSpec, uuid: str, used_addresses: Iterable[str]) -> str:
        """Return a free address in the declared network; empty if no network is declared."""
        if not spec.network:
            return ""
        leased_addresses = [str(lease.get("ipaddr")) for lease in self._leases(spec.network)]
        return self._subnet(spec.network).free(UUID(uuid).int, used_addresses, leased_addresses)

    def check_room(self, name: str, count: int, used_addresses: Iterable[str]) -> None:
        """Refuse more hosts than a network has addresses for.

        :raises Conflict: with the number of free addresses.
        """
        leased_addresses = [str(lease.get("ipaddr")) for lease in self._leases(name)]
        free_count = len(self._subnet(name).unused(0, used_addresses, leased_addresses))
        if free_count < count:
            raise Conflict(
                f"{count} hosts need an address, and {free_count} addresses are free.",
                name=f"network {name}",
                remedy="use a larger network, or delete hosts in it",
            )

    def guest(self, record: HostRecord) -> GuestNetwork:
        """Return the network settings of the guest."""
        if not record.spec.network:
            if has_uplink(record):
                return OPEN_NETWORK
            return ANSWERING_NETWORK if record.answers_elsewhere else USER_NETWORK
        subnet = self._subnet(record.spec.network)
        gateway = subnet.gateway if subnet.forward else ""
        mask = ipaddress.IPv4Network(subnet.network).netmask
        # libvirt's dnsmasq answers names at its own address in the network.
        return GuestNetwork(
            record.address, str(mask), gateway, nameserver=gateway or record.address
        )

    def _subnet(self, name: str) -> Subnet:
        if not self.system:
            remedy = "use qemu:///system, or omit network"
            raise Unsupported(
                "a session of an ordinary user has no networks.",
                name=f"network {name}",
                remedy=remedy,
            )
        with translated("read the network", f"network {name}"):
            libvirt_network = self.connection.networkLookupByName(name)
            is_active, text = libvirt_network.isActive(), libvirt_network.XMLDesc(0)
        if not is_active:
            raise Unsupported(
                "the network is not active.",
                name=f"network {name}",
                remedy=f"virsh net-start {name}",
            )
        return read(text, name)

    def _leases(self, name: str) -> list[dict[str, Any]]:
        with translated("read the network's leases", f"network {name}"):
            return list(self.connection.networkLookupByName(name).DHCPLeases())
