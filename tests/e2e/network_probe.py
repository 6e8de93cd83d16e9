# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run by root in a guest, sent there as text: tries to get out, by sockets and by packets of its
own making.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import time

PATIENCE = 2.0


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(protocol: int, source: str, target: str, segment: bytes, at: int) -> bytes:
    """An IPv4 packet; `at` is where the segment's checksum stands."""
    ends = socket.inet_aton(source) + socket.inet_aton(target)
    whole = segment + b"\0" * (len(segment) % 2)
    sum_ = checksum(ends + struct.pack("!BBH", 0, protocol, len(segment)) + whole)
    segment = segment[:at] + struct.pack("!H", sum_) + segment[at + 2 :]
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 1, 0, 64, protocol, 0) + ends
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + segment


def crafted(targets: list[tuple[str, int]]) -> tuple[list[tuple[str, int]], bool]:
    """Return the targets that answer a SYN or a datagram sent through the interface to any
    destination.

    And whether any SYN was refused at least: then they were well-formed.
    """
    with open("/sys/class/net/eth0/address", encoding="ascii") as handle:
        mac = bytes.fromhex(handle.read().strip().replace(":", ""))
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
    wire.bind(("eth0", 0))
    frame = b"\x52\x55\x0a\x00\x02\x02" + mac + b"\x08\x00"
    for number, (target, port) in enumerate(targets):
        syn = struct.pack("!HHIIBBHHH", 30000 + number, port, 1000, 0, 5 << 4, 2, 65535, 0, 0)
        wire.send(frame + packet(6, "10.0.2.15", target, syn, 16))
        question = b"\0\1\1\0\0\1\0\0\0\0\0\0\7example\0\0\1\0\1"
        datagram = struct.pack("!HHHH", 30000 + number, port, 8 + len(question), 0) + question
        wire.send(frame + packet(17, "10.0.2.15", target, datagram, 6))
    answered, refused = heard(wire, len(targets))
    return [targets[number] for number in sorted(answered)], bool(refused)


def heard(wire: socket.socket, count: int) -> tuple[set[int], set[int]]:
    """Return the invented source ports that got a SYN-ACK or a datagram, and those that got a
    reset.
    """
    open_ports: set[int] = set()
    refused: set[int] = set()
    end = time.monotonic() + PATIENCE
    wire.settimeout(0.2)
    while time.monotonic() < end:
        try:
            frame = wire.recv(2048)
        except TimeoutError:
            continue
        if (
            len(frame) < 48
            or not 30000 <= (port := struct.unpack("!H", frame[36:38])[0]) < 30000 + count
        ):
            continue
        if frame[23] == 17 or (frame[23] == 6 and frame[47] & 0x12 == 0x12):
            open_ports.add(port - 30000)
        elif frame[47] & 0x04:
            refused.add(port - 30000)
    return open_ports, refused


def connected(target: tuple[str, int]) -> bool:
    with socket.socket() as sock:
        sock.settimeout(PATIENCE)
        return sock.connect_ex(target) == 0


def main(targets: list[tuple[str, int]]) -> None:
    subprocess.run(["ip", "route", "replace", "default", "via", "10.0.2.2"], check=True)
    reached = {
        target
        for target in targets
        if not target[0].startswith(("127.", "0.")) and connected(target)
    }
    answered, refused = crafted(targets)
    control = {"own port answers": connected(("127.0.0.1", 22)), "a packet was refused": refused}
    print(json.dumps({"control": control, "reached": sorted(reached | set(answered))}))
