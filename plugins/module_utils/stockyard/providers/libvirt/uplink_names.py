# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The name server of an uplink with ``egress: allow``, and the record of refused attempts.

This file is the text of a process of its own, in the namespaces of the uplink, and imports nothing
of stockyard (:mod:`.uplink_guard`). It answers questions about allowed names only, with addresses
only, and asks the hypervisor's name server itself: no byte of the guest's message is passed on
except the name. For a name with other ports than 80 and 443, the rules accept the addresses before
the guest knows them, as long as they are valid.

The process also starts HAProxy, which checks the names of connections to the ports 80 and 443.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

ADDRESS, IN = 1, 1
CNAME = 5
NO_ERROR, FORMAT_ERROR, SERVER_FAILURE, NO_NAME, REFUSED = 0, 1, 2, 3, 5
# The ports of a name that is declared without one.
WEB = (80, 443)
# The largest number of addresses in an answer: it fits into 512 bytes.
ADDRESSES_MAX = 12
# Seconds that an address is valid at most.
TTL_MAX = 3600
# Seconds for an answer of the name server, and for one message of a guest over TCP.
PATIENCE, IDLE = 3.0, 10.0
ATTEMPTS = 2
# The largest number of questions at the same time, and of recorded attempts.
QUESTIONS_MAX, RECORDS_MAX = 64, 256
OTHERS, NAMELESS = "(others)", "(no name)"
# Seconds between two writes of the record.
INTERVAL = 5.0
# Seconds for HAProxy and for a command of nft.
STEP = 20.0
MESSAGE = 1 << 17
# A name without other characters, whatever its wildcard.
NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
UNPRINTABLE = re.compile(r"[^ -~]")


class MessageError(Exception):
    """A message that does not follow the protocol."""


def read_name(message: bytes, place: int) -> tuple[str, int]:
    """Return a name in lower case, and the place after it.

    :raises MessageError: if it is malformed.
    """
    labels: list[str] = []
    end, length = 0, 0
    for _step in range(128):
        if place >= len(message):
            break
        size = message[place]
        if size >= 0xC0 and place + 1 < len(message):
            end = end or place + 2
            place = (size & 0x3F) << 8 | message[place + 1]
            continue
        if not size:
            return ".".join(labels), end or place + 1
        label = message[place + 1 : place + 1 + size]
        length += size + 1
        if size > 63 or len(label) < size or length > 254 or b"." in label:
            break
        labels.append(label.decode("ascii", "backslashreplace").lower())
        place += size + 1
    raise MessageError("a name is malformed")


def read_question(message: bytes) -> tuple[str, int, bytes]:
    """Return the name and the type of a question, and its bytes.

    :raises MessageError: if the message is anything else than one question.
    """
    if len(message) < 17 or message[2] & 0xF8 or message[4:6] != b"\0\1":
        raise MessageError("this is no question")
    name, place = read_name(message, 12)
    if place + 4 > len(message) or any(size >= 0xC0 for size in message[12:13]):
        raise MessageError("the question is incomplete")
    kind, family = struct.unpack("!HH", message[place : place + 4])
    if family != IN:
        raise MessageError("the class is unknown")
    return name, kind, message[12 : place + 4]


def write_question(number: int, name: str) -> bytes:
    """Return a question about the addresses of a name."""
    labels = b"".join(bytes((len(label),)) + label.encode("ascii") for label in name.split("."))
    return (
        struct.pack("!HHHHHH", number, 0x100, 1, 0, 0, 0)
        + labels
        + struct.pack("!BHH", 0, ADDRESS, IN)
    )


def read_answer(message: bytes, question: bytes) -> tuple[int, list[str], int]:
    """Return the result, the addresses and the seconds for which they are valid.

    Addresses of other names count only if aliases lead from the name to them.

    :raises MessageError: if it does not answer the question.
    """
    if len(message) < len(question) or message[:2] != question[:2] or not message[2] & 0x80:
        raise MessageError("this is no answer")
    name, place = read_name(message, 12)
    if name != read_name(question, 12)[0] or message[4:6] != b"\0\1":
        raise MessageError("this answers another question")
    aliases: dict[str, tuple[str, int]] = {}
    records: list[tuple[str, str, int]] = []
    for owner, kind, ttl, start, size in read_records(message, place + 4):
        if kind == CNAME:
            aliases[owner] = read_name(message, start)[0], ttl
        elif kind == ADDRESS and size == 4:
            records.append((owner, socket.inet_ntoa(message[start : start + 4]), ttl))
    times = [TTL_MAX]
    for _step in range(len(aliases)):
        if name in aliases:
            name, ttl = aliases[name]
            times.append(ttl)
    valid = [(address, ttl) for owner, address, ttl in records if owner == name][:ADDRESSES_MAX]
    times += [ttl for _address, ttl in valid]
    return message[3] & 0xF, [address for address, _ttl in valid], max(1, min(times))


def read_records(message: bytes, place: int) -> Iterator[tuple[str, int, int, int, int]]:
    """Yield the records of an answer: owner, type, seconds, and place and size of the data.

    :raises MessageError: if one is incomplete.
    """
    for _number in range(struct.unpack("!H", message[6:8])[0]):
        owner, place = read_name(message, place)
        head, place = message[place : place + 10], place + 10
        if len(head) < 10:
            raise MessageError("a record is incomplete")
        kind, family, ttl, size = struct.unpack("!HHIH", head)
        if place + size > len(message):
            raise MessageError("the data of a record are incomplete")
        if family == IN:
            yield owner, kind, ttl, place, size
        place += size


def write_answer(
    message: bytes, question: bytes, result: int, addresses: Any = (), ttl: int = 0
) -> bytes:
    """Return the answer to a guest's message."""
    flags = 0x8080 | (message[2] & 1) << 8 | result
    head = message[:2] + struct.pack("!HHHHH", flags, bool(question), len(addresses), 0, 0)
    records = [
        struct.pack("!HHHIH", 0xC00C, ADDRESS, IN, ttl, 4) + socket.inet_aton(address)
        for address in addresses
    ]
    return head + question + b"".join(records)


class Names:
    """The declared names, and the addresses that they may have.

    :param settings: ``names``, pairs of a name and a port (0 for those of the web); ``denied``
        networks; ``allowed`` networks, which are reachable although they are denied.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        self.exact: dict[str, set[int]] = {}
        self.domains: dict[str, set[int]] = {}
        for name, port in settings["names"]:
            ports = set([port] if port else WEB)
            names = self.domains if name.startswith("*.") else self.exact
            names.setdefault(name.removeprefix("*"), set()).update(ports)
        self.denied = [ipaddress.IPv4Network(network) for network in settings["denied"]]
        self.allowed = [ipaddress.IPv4Network(network) for network in settings["allowed"]]

    def ports(self, name: str) -> set[int]:
        """Return the ports of a name; none if it is not allowed."""
        if not NAME.fullmatch(name):
            return set()
        ports = set(self.exact.get(name, ()))
        for domain, numbers in self.domains.items():
            if name.endswith(domain) and len(name) > len(domain):
                ports |= numbers
        return ports

    def is_permitted(self, text: str) -> bool:
        """Return whether an allowed name may have an address."""
        address = ipaddress.IPv4Address(text)
        is_denied = any(address in network for network in self.denied)
        return not is_denied or any(address in network for network in self.allowed)


class Refusals:
    """The refused attempts, in a file with a limited number of entries.

    :param path: the file. Attempts of an earlier process are retained.
    :param query: the command of nft that returns the refused addresses.
    """

    def __init__(self, path: str, query: list[str]) -> None:
        self.path = path
        self.query = query
        self.lock = threading.Lock()
        self.counts: dict[tuple[str, str, int], int] = {}
        self.written = ""
        # A record that cannot be read begins again.
        errors = suppress(OSError, ValueError, TypeError, KeyError)
        with errors, open(path, encoding="utf-8") as handle:
            for entry in json.load(handle):
                key = entry["destination"], entry["protocol"], entry["port"]
                self.counts[key] = entry["count"]
        self.packets: dict[tuple[str, str, int], int] = {}

    def add(self, destination: str, protocol: str, port: int = 0, count: int = 1) -> None:
        """Count an attempt."""
        key = UNPRINTABLE.sub("?", destination)[:253], protocol, port
        with self.lock:
            if key not in self.counts and len(self.counts) >= RECORDS_MAX:
                key = OTHERS, "", 0
            self.counts[key] = self.counts.get(key, 0) + count

    def write(self) -> None:
        """Write the file if attempts were refused since the last time."""
        self._read_packets()
        with self.lock:
            entries = [
                {"destination": destination, "protocol": protocol, "port": port, "count": count}
                for (destination, protocol, port), count in self.counts.items()
            ]
        text = json.dumps(entries)
        if text == self.written:
            return
        with open(f"{self.path}.new", "w", encoding="utf-8") as handle:
            handle.write(text)
        os.replace(f"{self.path}.new", self.path)
        self.written = text

    def _read_packets(self) -> None:
        """Count the packets that the rules refused."""
        result = subprocess.run(self.query, capture_output=True, check=False, timeout=STEP)
        if result.returncode:
            return
        for key, count in read_packets(result.stdout).items():
            new = count - self.packets.get(key, 0)
            self.packets[key] = count
            if new > 0:
                self.add(*key, count=new)


def read_packets(text: bytes) -> dict[tuple[str, str, int], int]:
    """Return the number of refused packets for each address, protocol and port.

    :param text: the set of nft, as JSON.
    """
    packets: dict[tuple[str, str, int], int] = {}
    for entry in json.loads(text)["nftables"]:
        for element in entry.get("set", {}).get("elem", ()):
            address, protocol, port = element["elem"]["val"]["concat"]
            packets[address, str(protocol), int(port)] = element["elem"]["counter"]["packets"]
    return packets


def run_or_end(work: Callable[[], None]) -> None:
    """Run work that must not end. If it fails, the process ends: the guard then ends the uplink,
    and the host shows it.
    """
    try:
        work()
    finally:
        os._exit(1)


class Server:
    """The name server of a guest.

    :param settings: see :func:`..uplink.order`.
    """

    def __init__(self, settings: dict[str, Any], refusals: Refusals) -> None:
        self.names = Names(settings)
        self.settings = settings
        self.refusals = refusals
        self.free = threading.BoundedSemaphore(QUESTIONS_MAX)
        self.lock = threading.Lock()
        self.valid: dict[tuple[str, int], float] = {}
        place = settings["address"], 53
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(place)
        self.tcp = socket.create_server(place, backlog=QUESTIONS_MAX)

    def start(self) -> None:
        """Answer questions from now on."""
        for work in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=run_or_end, args=(work,), daemon=True).start()

    def answer(self, message: bytes) -> bytes | None:
        """Return the answer to a message of the guest; ``None`` for a message to ignore."""
        if len(message) < 12 or message[2] & 0x80:
            return None
        try:
            name, kind, question = read_question(message)
        except MessageError:
            return write_answer(message, b"", FORMAT_ERROR)
        ports = self.names.ports(name)
        if not ports:
            self.refusals.add(name, "dns")
            return write_answer(message, question, REFUSED)
        if kind != ADDRESS:
            return write_answer(message, question, NO_ERROR)
        try:
            result, addresses, ttl = self._ask(name)
            permitted = [text for text in addresses if self.names.is_permitted(text)]
            if addresses and not permitted:
                self.refusals.add(name, "dns")
            self._accept(permitted, ports - set(WEB), ttl + self.settings["grace"])
        except (OSError, MessageError, UnicodeError, subprocess.SubprocessError):
            return write_answer(message, question, SERVER_FAILURE)
        if result not in (NO_ERROR, NO_NAME):
            result = SERVER_FAILURE
        return write_answer(message, question, result, permitted, ttl)

    def _ask(self, name: str) -> tuple[int, list[str], int]:
        """Ask the hypervisor's name server for addresses."""
        question = write_question(int.from_bytes(os.urandom(2), "big"), name)
        place = self.settings["upstream"], 53
        for _attempt in range(ATTEMPTS):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream:
                upstream.settimeout(PATIENCE)
                upstream.connect(place)
                upstream.send(question)
                with suppress(TimeoutError, MessageError):
                    message = upstream.recv(4096)
                    if len(message) < 12 or not message[2] & 2:
                        return read_answer(message, question)
                    break
        with socket.create_connection(place, PATIENCE) as stream:
            stream.sendall(struct.pack("!H", len(question)) + question)
            return read_answer(receive(stream), question)

    def _accept(self, addresses: list[str], ports: set[int], seconds: int) -> None:
        """Let the rules accept addresses for a time."""
        with self.lock:
            now = time.monotonic()
            self.valid = {key: end for key, end in self.valid.items() if end > now}
            keys = [
                (address, port)
                for address in addresses
                for port in sorted(ports)
                if self.valid.get((address, port), 0.0) < now + seconds - self.settings["grace"] / 2
            ]
            if not keys:
                return
            elements = [f"{address} . {port}" for address, port in keys]
            named = f"{self.settings['table']} {self.settings['set']}"
            # An element that exists keeps its old time unless it is deleted.
            commands = [
                f"add element {named} {{ {element} timeout {seconds}s }}" for element in elements
            ]
            deleted = [
                f"delete element {named} {{ {element} }}"
                for element, key in zip(elements, keys, strict=True)
                if key in self.valid
            ]
            subprocess.run(
                [self.settings["nft"], "-f", "-"],
                input="\n".join([*deleted, *commands]).encode(),
                capture_output=True,
                check=True,
                timeout=STEP,
            )
            self.valid.update(dict.fromkeys(keys, now + seconds - 1))

    def _serve_udp(self) -> None:
        while True:
            message, guest = self.udp.recvfrom(4096)
            if self.free.acquire(blocking=False):
                threading.Thread(target=self._reply, args=(message, guest), daemon=True).start()

    def _reply(self, message: bytes, guest: tuple[str, int]) -> None:
        try:
            answer = self.answer(message)
            if answer:
                with suppress(OSError):
                    self.udp.sendto(answer, guest)
        finally:
            self.free.release()

    def _serve_tcp(self) -> None:
        while True:
            stream, _guest = self.tcp.accept()
            if self.free.acquire(blocking=False):
                threading.Thread(target=self._talk, args=(stream,), daemon=True).start()
            else:
                stream.close()

    def _talk(self, stream: socket.socket) -> None:
        try:
            with stream, suppress(OSError, MessageError):
                stream.settimeout(IDLE)
                while answer := self.answer(receive(stream)):
                    stream.sendall(struct.pack("!H", len(answer)) + answer)
        finally:
            self.free.release()


def receive(stream: socket.socket) -> bytes:
    """Return one message of a stream.

    :raises MessageError: if the stream ends.
    """
    end = time.monotonic() + IDLE
    data = b""
    while len(data) < 2 or len(data) < 2 + struct.unpack("!H", data[:2])[0]:
        part = stream.recv(4096)
        if not part or time.monotonic() > end:
            raise MessageError("the stream ended")
        data += part
    return data[2 : 2 + struct.unpack("!H", data[:2])[0]]


class Proxy:
    """The process of HAProxy. Its log contains refused connections only.

    :param settings: see :func:`..uplink.order`.
    """

    def __init__(self, settings: dict[str, Any], refusals: Refusals) -> None:
        self.refusals = refusals
        self.log, log_end = os.pipe()
        # HAProxy drops a line that the pipe has no space for.
        fcntl.fcntl(log_end, fcntl.F_SETFL, os.O_NONBLOCK)
        files = [os.memfd_create(name, 0) for name in ("configuration", "errors")]
        configuration, self.errors = files
        os.write(configuration, settings["configuration"].format(log=log_end).encode())
        self.process = subprocess.Popen(
            [*settings["haproxy"], "-f", f"/proc/self/fd/{configuration}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.errors,
            pass_fds=[configuration, log_end],
        )
        os.close(log_end)
        os.close(configuration)
        self._wait(settings["address"], settings["ports"])

    def read_log(self) -> None:
        """Count the refused connections of the log, until HAProxy ends."""
        with os.fdopen(self.log, encoding="ascii", errors="replace") as lines:
            for line in lines:
                protocol, _blank, name = line.strip().partition(" ")
                if protocol not in ("http", "tls"):
                    continue
                self.refusals.add(
                    NAMELESS if name in ("", "-") else name,
                    protocol,
                    443 if protocol == "tls" else 80,
                )

    def _wait(self, address: str, ports: list[int]) -> None:
        """Wait until HAProxy listens.

        :raises OSError: with the last line of its messages.
        """
        end = time.monotonic() + STEP
        for port in ports:
            while True:
                with suppress(OSError), socket.create_connection((address, port), 1.0):
                    break
                if self.process.poll() is not None or time.monotonic() > end:
                    self.process.kill()
                    os.lseek(self.errors, 0, os.SEEK_SET)
                    text = os.read(self.errors, 4096).decode(errors="replace").strip()
                    raise OSError(f"haproxy: {text[-500:] or 'no answer'}")
                time.sleep(0.005)


def serve(channel: socket.socket) -> None:
    """Serve the guest until the process of the namespaces ends, or HAProxy does."""
    settings = json.loads(channel.recv(MESSAGE))
    refusals = Refusals(settings["record"], settings["query"])
    try:
        proxy = Proxy(settings, refusals)
        Server(settings, refusals).start()
    except OSError as error:
        channel.sendall(str(error).encode())
        return
    threading.Thread(target=proxy.read_log, daemon=True).start()
    channel.sendall(b"ready")
    poll = select.poll()
    for descriptor in (channel.fileno(), os.pidfd_open(proxy.process.pid)):
        poll.register(descriptor, select.POLLIN)
    while not poll.poll(INTERVAL * 1000):
        with suppress(OSError, ValueError, subprocess.SubprocessError):
            refusals.write()
    proxy.process.kill()
    with suppress(OSError, ValueError, subprocess.SubprocessError):
        refusals.write()


def main() -> None:
    """Run as the process of the names."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        channel.set_inheritable(False)
        serve(channel)
