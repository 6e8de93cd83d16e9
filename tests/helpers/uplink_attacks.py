# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks of a guest on its uplink, as raw frames."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from stockyard.providers.libvirt import uplink_rules

ETH_P_IP, ETH_P_IPV6, ETH_P_8021Q = 0x800, 0x86DD, 0x8100
TCP, UDP = 6, 17
OTHER = "203.0.113.80"
LATER = "203.0.113.99"
GUEST_MAC = bytes.fromhex("525400123457")
BROADCAST = b"\xff" * 6


@dataclass(frozen=True)
class Attack:
    """One attack: a protocol, a destination, and the disguise of the packet."""

    name: str
    protocol: int
    target: str
    disguise: str = ""


ATTACKS = (
    *(
        Attack(f"{label} to {target}", protocol, target)
        for protocol, label in ((TCP, "TCP"), (UDP, "UDP"))
        for target in (
            "127.0.0.1",
            "127.77.1.2",
            "203.0.113.1",
            "10.200.0.1",
            "169.254.9.9",
            "169.254.169.254",
            "10.9.8.7",
            "172.16.5.5",
            "192.168.7.7",
            "100.64.3.3",
            "192.0.0.8",
            "198.18.1.2",
            "198.19.4.4",
            "168.63.129.16",
        )
    ),
    Attack("TCP to 0.0.0.0", TCP, "0.0.0.0"),  # noqa: S104  # a destination
    Attack("UDP to 224.0.0.251", UDP, "224.0.0.251"),
    Attack("UDP to 240.0.0.1", UDP, "240.0.0.1"),
    Attack("UDP in fragments to 10.9.8.7", UDP, "10.9.8.7", "fragments"),
    Attack("TCP with options of IP to 192.168.7.7", TCP, "192.168.7.7", "options"),
    Attack("TCP in a frame with a priority tag to 10.9.8.7", TCP, "10.9.8.7", "tag"),
    Attack("TCP in a broadcast frame to 10.9.8.7", TCP, "10.9.8.7", "broadcast"),
    Attack("UDP in a broadcast frame to the metadata", UDP, "169.254.169.254", "broadcast"),
    Attack("UDP from another source to another machine", UDP, OTHER, "source"),
    Attack("TCP over IPv6 to a private address", TCP, "fd00:9::7", "ipv6"),
    Attack("TCP to an address that the hypervisor got later", TCP, LATER),
)
# Not an attack: it shows that the frames of a test arrive.
PERMITTED = (Attack("TCP to another machine", TCP, OTHER), Attack("UDP to it", UDP, OTHER))
FIRST_PORT = 20000
PORTS = {attack.name: FIRST_PORT + number for number, attack in enumerate(ATTACKS + PERMITTED)}


def checksum(data: bytes) -> int:
    """Return the checksum of the internet protocols."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def segment(protocol: int, port: int, addresses: bytes) -> bytes:
    """Return a TCP SYN or a UDP datagram.

    :param addresses: source and destination, for the checksum.
    """
    if protocol == TCP:
        head = struct.pack("!HHIIBBHHH", 40000, port, 1, 0, 0x50, 0x02, 64000, 0, 0)
        payload = b""
    else:
        payload = b"attack" * 20
        head = struct.pack("!HHHH", 40000, port, 8 + len(payload), 0)
    pseudo = addresses + (
        struct.pack("!BBH", 0, protocol, len(head + payload))
        if len(addresses) == 8
        else struct.pack("!II", len(head + payload), protocol)
    )
    value = struct.pack("!H", checksum(pseudo + head + payload))
    place = 16 if protocol == TCP else 6
    return head[:place] + value + head[place + 2 :] + payload


def packet(
    source: str, target: str, protocol: int, payload: bytes, *, flags: int = 0, options: bytes = b""
) -> bytes:
    """Return a packet of IPv4."""
    length = 20 + len(options)
    fields = (0x40 | length // 4, 0, length + len(payload), 77, flags, 64, protocol)
    addresses = socket.inet_aton(source) + socket.inet_aton(target)
    head = struct.pack("!BBHHHBBH", *fields, 0) + addresses + options
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return head + payload


def frames(attack: Attack, source: str, gateway: bytes) -> list[bytes]:
    """Return the frames of an attack."""
    target, port = attack.target, PORTS[attack.name]
    if attack.disguise == "ipv6":
        addresses = socket.inet_pton(socket.AF_INET6, "fd00::15") + socket.inet_pton(
            socket.AF_INET6, target
        )
        payload = segment(attack.protocol, port, addresses)
        head = struct.pack("!IHBB", 0x60000000, len(payload), attack.protocol, 64) + addresses
        return [gateway + GUEST_MAC + struct.pack("!H", ETH_P_IPV6) + head + payload]
    if attack.disguise == "source":
        source = source.rsplit(".", 1)[0] + ".99"
    payload = segment(attack.protocol, port, socket.inet_aton(source) + socket.inet_aton(target))
    if attack.disguise == "fragments":
        cut = 16
        packets = [
            packet(source, target, attack.protocol, payload[:cut], flags=0x2000),
            packet(source, target, attack.protocol, payload[cut:], flags=cut // 8),
        ]
    else:
        options = b"\x01\x01\x01\x00" if attack.disguise == "options" else b""
        packets = [packet(source, target, attack.protocol, payload, options=options)]
    receiver = BROADCAST if attack.disguise == "broadcast" else gateway
    kind = struct.pack("!H", ETH_P_IP)
    if attack.disguise == "tag":
        kind = struct.pack("!HH", ETH_P_8021Q, 0xA000) + kind
    return [receiver + GUEST_MAC + kind + text for text in packets]


def question() -> bytes:
    """Return the frame in which a guest asks for the card of its gateway."""
    text = struct.pack("!HHBBH", 1, ETH_P_IP, 6, 4, 1) + GUEST_MAC
    text += socket.inet_aton(uplink_rules.ADDRESS) + bytes(6)
    text += socket.inet_aton(uplink_rules.GATEWAY)
    return BROADCAST + GUEST_MAC + b"\x08\x06" + text
