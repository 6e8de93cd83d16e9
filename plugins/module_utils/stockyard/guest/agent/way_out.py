# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way out of a host whose only other machine is an HTTP proxy, for programs that do not know of
a proxy: dockerd, containers, builds.

The name server answers each name with an address of 198.18.0.0/15, a range for tests (RFC 2544)
that no other machine has. Connections to such an address end here, and the relay asks the proxy for
the name: by ``CONNECT``, or, if the client speaks plain HTTP, by a request with an absolute URL.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

ORDER = "/var/lib/stockyard/way-out.json"
NETWORK, FIRST, COUNT = "198.18.0.0/15", 0xC6120001, (1 << 17) - 2
DNS_PORT, RELAY_PORT = 53, 3129
# Of ip(7) and linux/netfilter_ipv4.h.
IP_FREEBIND, SO_ORIGINAL_DST = 15, 80
TYPE_A, CLASS_IN, TTL = 1, 1, 60
QUESTION, SUCCESS, NOT_IMPLEMENTED = 0x7800, 0, 4
CHUNK, LONGEST_HEAD = 1 << 16, 1 << 16
# The most connections at once.
MOST = 512
# Seconds for a client to speak first, for the proxy to answer, and for a connection without data.
SPEAKS_FIRST, PATIENCE, IDLE = 0.5, 60.0, 3600.0
REQUEST = re.compile(rb"([A-Z]{3,16}) (/[^ \r\n]*) (HTTP/1\.[01])\r\n")
LABEL = re.compile(rb"[A-Za-z0-9_-]{1,63}")
HEADERS_OF_THE_CONNECTION = (b"connection:", b"proxy-connection:", b"keep-alive:")


class Names:
    """The names that clients asked for, and their addresses. The oldest is forgotten first."""

    def __init__(self, count: int = COUNT) -> None:
        self._count = count
        self._numbers: OrderedDict[str, int] = OrderedDict()
        self._names: dict[int, str] = {}
        self._lock = threading.Lock()

    def address(self, name: str) -> bytes:
        """Return the address of a name."""
        with self._lock:
            number = self._numbers.pop(name, None)
            if number is None:
                if len(self._numbers) < self._count:
                    number = len(self._numbers)
                else:
                    _oldest, number = self._numbers.popitem(last=False)
                self._names[number] = name
            self._numbers[name] = number
        return struct.pack("!I", FIRST + number)

    def name(self, address: str) -> str:
        """Return the name with an address; empty if there is none."""
        number = struct.unpack("!I", socket.inet_aton(address))[0] - FIRST
        with self._lock:
            return self._names.get(number, "")


def answer(question: bytes, names: Names) -> bytes:
    """Return the answer to a question of DNS (RFC 1035); nothing if the question is malformed.

    Names have addresses of IPv4, and no other records.
    """
    if len(question) < 12:
        return b""
    number, flags, questions = struct.unpack_from("!HHH", question)
    end = question.find(b"\0", 12) + 5
    if flags & 0x8000 or questions != 1 or end < 17 or len(question) < end:
        return b""
    labels, position = [], 12
    while length := question[position]:
        label = question[position + 1 : position + 1 + length]
        if not LABEL.fullmatch(label) or len(label) != length:
            return b""
        labels.append(label.decode())
        position += 1 + length
    kind, network_class = struct.unpack_from("!HH", question, position + 1)
    has_address = kind == TYPE_A and network_class == CLASS_IN and bool(labels)
    code = NOT_IMPLEMENTED if flags & QUESTION else SUCCESS
    reply = struct.pack("!HHHHHH", number, 0x8180 | flags & 0x100 | code, 1, has_address, 0, 0)
    reply += question[12 : position + 5]
    if has_address:
        record = struct.pack("!HHHIH", 0xC00C, TYPE_A, CLASS_IN, TTL, 4)
        reply += record + names.address(".".join(labels).lower())
    return reply


def request_for_proxy(head: bytes, place: str) -> bytes:
    """Return the head of a plain request as a proxy expects it; nothing if it is not a request.

    The connection ends after the answer, because only the first request is changed.

    :param place: the name and the port of the server.
    """
    match = REQUEST.match(head)
    if not match:
        return b""
    method, path, version = match.groups()
    place = place.removesuffix(":80")
    lines = head[match.end() :].split(b"\r\n")
    if not any(line.lower().startswith(b"upgrade:") for line in lines):
        lines = [line for line in lines if not line.lower().startswith(HEADERS_OF_THE_CONNECTION)]
        lines.insert(0, b"Connection: close")
    return b"%s http://%s%s %s\r\n" % (method, place.encode(), path, version) + b"\r\n".join(lines)


class Relay:
    """The relay of connections to the proxy.

    :param proxy: the address and the port of the proxy.
    :param destination: returns the address and the port that a client connected to.
    """

    def __init__(
        self,
        proxy: tuple[str, int],
        names: Names,
        destination: Callable[[socket.socket], tuple[str, int]],
    ) -> None:
        self._proxy = proxy
        self._names = names
        self._destination = destination
        self._free = threading.BoundedSemaphore(MOST)

    def serve(self, listener: socket.socket) -> None:
        """Serve clients until the process ends."""
        while True:
            self._free.acquire()
            try:
                client, _address = listener.accept()
            except OSError:
                self._free.release()
                continue
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client, suppress(OSError, ValueError):
                address, port = self._destination(client)
                name = self._names.name(address)
                if name:
                    self._connect(client, f"{name}:{port}")
        finally:
            self._free.release()

    def _connect(self, client: socket.socket, place: str) -> None:
        head = first_bytes(client)
        with socket.create_connection(self._proxy, PATIENCE) as server:
            request = request_for_proxy(head, place)
            if request:
                server.sendall(request)
            else:
                first_data = tunnel(server, place)
                server.sendall(head)
                client.sendall(first_data)
            client.settimeout(IDLE)
            server.settimeout(IDLE)
            back = threading.Thread(target=copy, args=(server, client), daemon=True)
            back.start()
            copy(client, server)
            back.join()


def first_bytes(client: socket.socket) -> bytes:
    """Return the first bytes of a client, with the whole head of a request of HTTP; nothing if the
    client waits for the server.
    """
    client.settimeout(SPEAKS_FIRST)
    try:
        head = client.recv(CHUNK)
    except TimeoutError:
        return b""
    client.settimeout(PATIENCE)
    while REQUEST.match(head) and b"\r\n\r\n" not in head and len(head) < LONGEST_HEAD:
        data = client.recv(CHUNK)
        if not data:
            break
        head += data
    return head


def tunnel(server: socket.socket, place: str) -> bytes:
    """Ask the proxy for a tunnel; return what the server at its end has sent already.

    :raises OSError: if the proxy refuses.
    """
    server.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
    head = b""
    while b"\r\n\r\n" not in head:
        data = server.recv(CHUNK)
        head += data
        if not data or len(head) > LONGEST_HEAD:
            raise OSError("the proxy sent no answer")
    status, _end, first_data = head.partition(b"\r\n\r\n")
    if not re.match(rb"HTTP/1\.[01] 2", status):
        line = status.partition(b"\r\n")[0].decode("ascii", "replace")
        sys.stdout.write(f"the proxy refused {place}: {line}\n")
        sys.stdout.flush()
        raise OSError("the proxy refused the connection")
    return first_data


def copy(source: socket.socket, target: socket.socket) -> None:
    """Pass all bytes on, and then the end of them."""
    with suppress(OSError):
        while data := source.recv(CHUNK):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def original_destination(client: socket.socket) -> tuple[str, int]:
    """Return the destination of a redirected connection."""
    _family, port, address = struct.unpack(
        "!HH4s8x", client.getsockopt(socket.SOL_IP, SO_ORIGINAL_DST, 16)
    )
    return socket.inet_ntoa(address), port


def redirect() -> None:
    """Redirect all connections to the addresses of names."""
    subprocess.run(["ip", "route", "replace", NETWORK, "dev", "lo"], check=True, timeout=PATIENCE)
    for chain in ("OUTPUT", "PREROUTING"):
        rule = [chain, "-d", NETWORK, "-p", "tcp", "-j", "REDIRECT", "--to-ports", str(RELAY_PORT)]
        iptables = ["iptables", "-w", "-t", "nat"]
        missing = subprocess.run(
            [*iptables, "-C", *rule], check=False, capture_output=True, timeout=PATIENCE
        ).returncode
        if missing:
            subprocess.run([*iptables, "-I", *rule], check=True, timeout=PATIENCE)


def bound(kind: socket.SocketKind, address: str, port: int) -> socket.socket:
    """Return a socket at an address that the host can get later."""
    new_socket = socket.socket(socket.AF_INET, kind)
    new_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    new_socket.setsockopt(socket.SOL_IP, IP_FREEBIND, 1)
    new_socket.bind((address, port))
    return new_socket


def report_ready() -> None:
    """Tell systemd that names and connections are served (sd_notify(3))."""
    if path := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect(path.replace("@", "\0", 1) if path.startswith("@") else path)
            notify.send(b"READY=1")


def main() -> None:
    """Serve names and connections until the process ends."""
    with open(ORDER, encoding="utf-8") as handle:
        order = json.load(handle)
    names = Names()
    name_server = bound(socket.SOCK_DGRAM, order["address"], DNS_PORT)
    listener = bound(socket.SOCK_STREAM, "", RELAY_PORT)
    listener.listen(MOST)
    relay = Relay((order["host"], int(order["port"])), names, original_destination)
    threading.Thread(target=relay.serve, args=(listener,), daemon=True).start()
    redirect()
    report_ready()
    while True:
        with suppress(OSError):
            question, client = name_server.recvfrom(CHUNK)
            if reply := answer(question, names):
                name_server.sendto(reply, client)


if __name__ == "__main__":
    main()
