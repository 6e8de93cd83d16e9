# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""QEMU's user network without a machine: this program is the guest, and writes its packets.

Run it in an empty network namespace. It prints, as JSON, the source that the guest sees of a client
at each address, whether the client gets the guest's answer, and whether a connection of the guest
arrives at a server on the hypervisor.
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator

from stockyard.providers.libvirt import network

ADDRESS, OWN_ADDRESS, SERVER_PORT = "192.0.2.10", "127.64.0.1", 8000
MAC, GUEST = bytes.fromhex("525400123456"), "10.0.2.15"
SYN, ACK, PUSH = 2, 16, 8
PATIENCE = 10.0


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Wire:
    """The guest's end of the cable."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream = stream
        self.gateway_mac = b"\xff" * 6
        self.buffer = b""

    def send(self, kind: bytes, payload: bytes) -> None:
        frame = self.gateway_mac + MAC + kind + payload
        self.stream.sendall(struct.pack("!I", len(frame)) + frame)

    def send_arp(self, operation: int, target: bytes) -> None:
        header = struct.pack("!HHBBH", 1, 0x800, 6, 4, operation)
        self.send(b"\x08\x06", header + MAC + socket.inet_aton(GUEST) + target)

    def send_tcp(
        self,
        destination: str,
        ports: tuple[int, int],
        numbers: tuple[int, int],
        flags: int,
        data: bytes = b"",
    ) -> None:
        addresses = socket.inet_aton(GUEST) + socket.inet_aton(destination)
        segment = struct.pack("!HHIIBBHHH", *ports, *numbers, 80, flags, 65000, 0, 0) + data
        pseudo_header = addresses + struct.pack("!BBH", 0, 6, len(segment))
        total = struct.pack("!H", checksum(pseudo_header + segment))
        segment = segment[:16] + total + segment[18:]
        header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 1, 0, 64, 6, 0) + addresses
        header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
        self.send(b"\x08\0", header + segment)

    def frames(self, seconds: float) -> Iterator[bytes]:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.stream.settimeout(max(0.05, end - time.monotonic()))
            try:
                self.buffer += self.stream.recv(1 << 16)
            except TimeoutError:
                return
            while len(self.buffer) >= 4:
                size = struct.unpack("!I", self.buffer[:4])[0]
                if len(self.buffer) < 4 + size:
                    break
                frame, self.buffer = self.buffer[4 : 4 + size], self.buffer[4 + size :]
                yield frame

    def serve(self, seconds: float) -> str:
        """Answer one connection; return its source address."""
        source = ""
        for frame in self.frames(seconds):
            if frame[12:14] == b"\x08\x06" and frame[38:42] == socket.inet_aton(GUEST):
                self.gateway_mac = frame[6:12]
                self.send_arp(2, frame[22:32])
            if frame[12:14] != b"\x08\0" or frame[23] != 6:
                continue
            self.gateway_mac = frame[6:12]
            client_port, port, number, _ack, offset, flags = struct.unpack("!HHIIBB", frame[34:48])
            data = frame[34 + (offset >> 4) * 4 : 14 + struct.unpack("!H", frame[16:18])[0]]
            if flags & SYN:
                source = socket.inet_ntoa(frame[26:30])
                self.send_tcp(source, (port, client_port), (1000, number + 1), SYN | ACK)
            elif data:
                numbers = (1001, number + len(data))
                self.send_tcp(source, (port, client_port), numbers, ACK | PUSH, b"answer")
                return source
        return source


def main() -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"], check=True)
    cable = socket.create_server(("127.0.0.1", 0))
    netdev = f"{network.TWIN},hostfwd=tcp:{OWN_ADDRESS}:2222-:22,hostfwd=tcp:{ADDRESS}:20000-:22"
    hub = "hubport,hubid=0,netdev="
    arguments = ["-machine", "none", "-display", "none", "-nodefaults", "-netdev", netdev]
    arguments += ["-netdev", f"socket,id=s,connect=127.0.0.1:{cable.getsockname()[1]}"]
    arguments += ["-netdev", f"{hub}{network.NETDEV},id=h1", "-netdev", f"{hub}s,id=h2"]
    report: dict[str, object] = {}
    with subprocess.Popen(["qemu-system-x86_64", *arguments], stderr=sys.stderr) as qemu:
        try:
            wire = Wire(cable.accept()[0])
            wire.send_arp(1, b"\0" * 6 + socket.inet_aton("10.0.2.2"))
            for place in ((OWN_ADDRESS, 2222), (ADDRESS, 20000)):
                with socket.create_connection(place, timeout=PATIENCE) as client:
                    client.sendall(b"question")
                    source = wire.serve(PATIENCE)
                    report[place[0]] = [source, client.recv(10).decode()]
            with socket.create_server((ADDRESS, SERVER_PORT)) as server:
                server.settimeout(2)
                for address in (ADDRESS, "10.0.2.2"):
                    wire.send_tcp(address, (40000, SERVER_PORT), (1, 0), SYN)
                try:
                    server.accept()
                    report["connection of the guest"] = "accepted"
                except TimeoutError:
                    report["connection of the guest"] = "dropped"
        finally:
            qemu.kill()
    print(json.dumps(report))


if __name__ == "__main__":
    main()
