# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guard of a host's uplink: a process that lives as long as the host's machine.

This file is the text of a process of its own (:mod:`.uplink`), which outlives its controller: it
imports nothing of stockyard. The guard starts two processes. The first one enters new namespaces of
users and of networks. It creates a tap device there, which becomes the back end of the guest's
second card, and loads the rules about the guest's packets. The second one is slirp4netns, the only
way out of the namespace.

The addresses of the hypervisor are a part of the rules. The guard replaces them when they change.
All processes end with the machine, and if one of them ends, the other two end too: then nothing
forwards the guest's packets.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

# linux/if_tun.h, linux/sockios.h, linux/if.h, linux/rtnetlink.h
TUN = "/dev/net/tun"
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x2, 0x1000
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK = 0x8913, 0x8914, 0x8916, 0x891C
SIOCSIFHWADDR, ARPHRD_ETHER = 0x8924, 1
IFF_UP = 0x1
RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE = 0x10, 0x40
# The kernel's table of routes, with all addresses that it takes for its own (proc(5)).
ROUTES = "/proc/net/fib_trie"
OWN = ("LOCAL", "BROADCAST")
SYSCTL = "/proc/sys/net"
# A namespace starts with the kernel's defaults.
SETTINGS = {
    "ipv4/ip_forward": 1,
    **{
        f"ipv4/conf/{scope}/{name}": value
        for scope in ("all", "default")
        for name, value in (
            ("rp_filter", 1),
            ("route_localnet", 0),
            ("accept_source_route", 0),
            ("accept_redirects", 0),
            ("send_redirects", 0),
        )
    },
    "ipv6/conf/all/disable_ipv6": 1,
    "ipv6/conf/default/disable_ipv6": 1,
}
# Seconds for each step of the start, and for a process to end.
STEP, ENDING = 20.0, 5.0
# The most connections of a guest at the same time, and a few files.
MOST_DESCRIPTORS = 16384
MESSAGE = 1 << 17
# The programs import the standard library only, and start sooner without site packages.
PYTHON = sys.executable, "-I", "-S", "-c"
# The message that starts the process of the names.
SERVE = "serve"
# The last bytes of the messages of slirp4netns.
TAIL = 500


class GuardError(Exception):
    """The uplink cannot be opened."""


def own_networks(routes: str) -> list[str]:
    """Return the networks whose addresses the kernel takes for its own, without overlaps.

    :param routes: the text of ``/proc/net/fib_trie``.
    """
    networks: set[ipaddress.IPv4Network] = set()
    address = ""
    for line in routes.splitlines():
        words = line.split()
        if words[:1] == ["|--"]:
            address = words[1]
        elif len(words) > 2 and words[0].startswith("/") and words[2] in OWN:
            networks.add(ipaddress.IPv4Network(f"{address}{words[0]}", strict=False))
    return [str(network) for network in ipaddress.collapse_addresses(networks)]


def read_own_networks() -> list[str]:
    """Return the networks of this process's own addresses."""
    with open(ROUTES, encoding="ascii") as handle:
        return own_networks(handle.read())


def own_rules(table: str, networks: Iterable[str]) -> str:
    """Return the commands of nft that replace the addresses of the hypervisor, in one step."""
    elements = ", ".join(networks)
    added = f"add element {table} own {{ {elements} }}\n" if elements else ""
    return f"flush set {table} own\n{added}"


class Namespace:
    """The process in the namespaces, from the guard's side."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.table: str = order["table"]
        self.link, other_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link.settimeout(STEP)
        python = [*PYTHON, order["text"], "namespace", str(other_end.fileno())]
        with other_end:
            self.process = subprocess.Popen(
                [*order["unshare"], *python, json.dumps(order["namespace"])],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[other_end.fileno()],
            )

    def tap(self) -> int:
        """Return the descriptor of the tap device."""
        message, descriptors, _flags, _address = socket.recv_fds(self.link, MESSAGE, 1)
        if not descriptors:
            raise GuardError(message.decode(errors="replace") or self._errors())
        return descriptors[0]

    def load(self, rules: str) -> None:
        """Load rules of nft, all or none of them."""
        self.link.sendall(rules.encode())
        self.confirm()

    def confirm(self) -> None:
        """Wait until the last message has had effect."""
        answer = self.link.recv(MESSAGE)
        if answer != b"loaded":
            raise GuardError(answer.decode(errors="replace") or self._errors())

    def serve(self) -> None:
        """Begin to start the process of the names."""
        self.link.sendall(SERVE.encode())

    def set_own(self, networks: Iterable[str]) -> None:
        """Replace the addresses of the hypervisor in the rules."""
        self.load(own_rules(self.table, networks))

    def close(self) -> None:
        """End the process."""
        self.link.close()
        _end(self.process)

    def _errors(self) -> str:
        self.process.kill()
        return _tail(self.process.communicate()[1]) or "the namespace ended"


class Slirp:
    """The process of slirp4netns. It ends with the guard, which holds the other end of a pipe.

    :param arguments: its program and options.
    :param pid: a process in the namespaces.
    :param device: the name of the device that it creates there.
    """

    def __init__(self, arguments: list[str], pid: int, device: str) -> None:
        ready, ready_end = os.pipe()
        exit_end, self._alive = os.pipe()
        try:
            self.process = subprocess.Popen(
                [*arguments, f"--ready-fd={ready_end}", f"--exit-fd={exit_end}", str(pid), device],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[ready_end, exit_end],
            )
        finally:
            os.close(ready_end)
            os.close(exit_end)
        self.errors = b""
        readable = select.select([ready], [], [], STEP)[0]
        is_ready = bool(readable and os.read(ready, 1))
        os.close(ready)
        if not is_ready:
            self.process.kill()
            raise GuardError(f"slirp4netns: {_tail(self.process.communicate()[1]) or 'no answer'}")

    def read_errors(self) -> None:
        """Read messages, of which only the last bytes are retained."""
        stream: Any = self.process.stderr
        self.errors = (self.errors + os.read(stream.fileno(), 4096))[-TAIL:]

    def close(self) -> None:
        """End the process."""
        os.close(self._alive)
        _end(self.process)


class Names:
    """The process of the names (:mod:`.uplink_names`). It ends when its channel is closed.

    :param order: the text of its program, and its settings.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self.channel, other_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.settimeout(STEP)
        with other_end:
            self.process = subprocess.Popen(
                [*PYTHON, order["text"], str(other_end.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[other_end.fileno()],
            )
        self.pidfd = os.pidfd_open(self.process.pid)
        self.channel.sendall(json.dumps(order["settings"]).encode())
        answer = self.channel.recv(MESSAGE)
        self.answer = b"loaded" if answer == b"ready" else answer or b"the name server ended"

    def close(self) -> None:
        """End the process."""
        self.channel.close()
        _end(self.process)


class Guard:
    """The guard of one machine.

    :param order: see :func:`..uplink.order`.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order
        self.machine = os.pidfd_open(int(order["machine"]))
        self.changes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self.changes.bind((0, RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE))
        self.changes.setblocking(False)
        self.own: list[str] = []
        self.namespace = Namespace(order)

    def open(self) -> int:
        """Open the uplink. Return the descriptor of the tap device.

        The rules are loaded before there is a way out of the namespace.
        """
        tap = self.namespace.tap()
        self.namespace.load(self.order["rules"])
        self._update()
        limit_descriptors()
        has_names = "names" in self.order["namespace"]
        if has_names:
            self.namespace.serve()
        self.slirp = Slirp(self.order["slirp"], self.namespace.process.pid, self.order["device"])
        if has_names:
            self.namespace.confirm()
        return tap

    def run(self) -> None:
        """Return when the machine or one of the processes has ended, or the rules are out of date
        and cannot be replaced.
        """
        processes = [os.pidfd_open(p.pid) for p in (self.namespace.process, self.slirp.process)]
        stream: Any = self.slirp.process.stderr
        poll = select.poll()
        for descriptor in (self.machine, *processes, self.changes.fileno(), stream.fileno()):
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _event in poll.poll()}
            if ready & {self.machine, *processes}:
                return
            if stream.fileno() in ready:
                self.slirp.read_errors()
            if self.changes.fileno() in ready:
                self._drain()
                self._update()

    def close(self) -> None:
        """End the processes."""
        if hasattr(self, "slirp"):
            self.slirp.close()
        self.namespace.close()

    def _drain(self) -> None:
        # An overflow (ENOBUFS) is a change too. The table is read afterwards in each case.
        with suppress(OSError):
            while self.changes.recv(MESSAGE):
                pass

    def _update(self) -> None:
        networks = read_own_networks()
        if networks != self.own:
            self.namespace.set_own(networks)
            self.own = networks


def guard(channel: socket.socket) -> None:
    """Open an uplink, pass its tap device to the controller, and guard it.

    The controller confirms that the machine has the device. Without a confirmation the guard ends.
    """
    order = json.loads(channel.recv(MESSAGE))
    lock = os.open(order["lock"], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        guarded = Guard(order)
    except OSError as error:
        channel.sendall(str(error).encode())
        return
    try:
        try:
            tap = guarded.open()
        except (OSError, GuardError) as error:
            channel.sendall((str(error) or type(error).__name__).encode())
            return
        socket.send_fds(channel, [b"open"], [tap])
        os.close(tap)
        if channel.recv(MESSAGE) != b"attached":
            return
        channel.close()
        guarded.run()
    finally:
        guarded.close()


def inhabit(link: socket.socket, settings: dict[str, Any]) -> None:
    """Create the tap device in the namespaces, and load the rules that the guard sends, until the
    guard ends.
    """
    try:
        for name, value in SETTINGS.items():
            # A kernel without IPv6 does not have its settings.
            if os.path.exists(f"{SYSCTL}/{name}"):
                with open(f"{SYSCTL}/{name}", "w", encoding="ascii") as handle:
                    handle.write(str(value))
        tap = _tap(settings["device"], settings["mac"], settings["address"], settings["netmask"])
        _set_up(b"lo")
    except OSError as error:
        link.sendall(str(error).encode())
        return
    socket.send_fds(link, [b"open"], [tap])
    os.close(tap)
    poll = select.poll()
    poll.register(link.fileno(), select.POLLIN)
    names: Names | None = None
    # The end of the process of the names ends this one.
    while all(descriptor == link.fileno() for descriptor, _event in poll.poll()):
        rules = link.recv(MESSAGE)
        if not rules:
            break
        if rules.decode() == SERVE:
            names = Names(settings["names"])
            link.sendall(names.answer)
            poll.register(names.pidfd, select.POLLIN)
            continue
        result = subprocess.run(
            [settings["nft"], "-f", "-"],
            input=rules,
            capture_output=True,
            check=False,
            timeout=STEP,
        )
        link.sendall(
            (_tail(result.stderr) or "nft failed").encode() if result.returncode else b"loaded"
        )
    if names:
        names.close()


def _tap(device: str, mac: str, address: str, netmask: str) -> int:
    """Create a tap device with addresses, and set it up; return its descriptor."""
    name = device.encode()
    tap = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH22x", name, IFF_TAP | IFF_NO_PI))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        hardware_address = bytes.fromhex(mac.replace(":", ""))
        fcntl.ioctl(
            sock, SIOCSIFHWADDR, struct.pack("16sH14s8x", name, ARPHRD_ETHER, hardware_address)
        )
        for request, value in ((SIOCSIFADDR, address), (SIOCSIFNETMASK, netmask)):
            binary = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(value))
            fcntl.ioctl(sock, request, struct.pack("16s16s8x", name, binary))
    _set_up(name)
    return tap


def _set_up(name: bytes) -> None:
    """Set a device of the namespace up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("16s24x", name))
        flags = struct.unpack("16sH22x", answer)[1] | IFF_UP
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH22x", name, flags))


def limit_descriptors() -> None:
    """Set the limit of open descriptors, which slirp4netns inherits: each connection of the guest
    uses one. A guest must not fill the memory of the hypervisor's kernel with connections.
    """
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    is_unlimited = hard_limit == resource.RLIM_INFINITY
    limit = MOST_DESCRIPTORS if is_unlimited else min(hard_limit, MOST_DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a process, and kill it if it continues."""
    end = time.monotonic() + ENDING
    while process.poll() is None and time.monotonic() < end:
        process.terminate()
        time.sleep(0.01)
    process.kill()
    process.wait()


def _tail(text: bytes) -> str:
    return text.decode(errors="replace").strip()[-TAIL:]


def main() -> None:
    """Run as the guard, or as the process in the namespaces.

    A guard of a controller is detached: its parent ends at once.
    """
    if sys.argv[1] == "detached" and os.fork():
        os._exit(0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[2])) as link:
        link.set_inheritable(False)
        if sys.argv[1] == "namespace":
            inhabit(link, json.loads(sys.argv[3]))
        else:
            guard(link)
