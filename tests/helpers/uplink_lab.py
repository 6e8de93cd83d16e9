# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hypervisor in namespaces, with a guest's uplink, whose card the test holds in place of QEMU.

Nothing leaves the namespaces. The hypervisor has addresses of each kind; behind its only device is
a namespace that stands for all other machines. A sniffer records each packet on the loopback and on
the way to the other machines. Each attack has a port of its own, so a packet with this port proves
that the attack got out of the uplink.

The same frames are sent through three ways: through the uplink, through an uplink with rules that
accept everything, and through a plain slirp4netns. The last two are the controls.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from stockyard import HostSpec
from stockyard.errors import HypervisorError
from stockyard.model.destinations import destinations
from stockyard.providers.libvirt import network, uplink, uplink_guard, uplink_rules

from .uplink_attacks import (
    ATTACKS,
    BROADCAST,
    ETH_P_IP,
    ETH_P_IPV6,
    GUEST_MAC,
    LATER,
    OTHER,
    PERMITTED,
    PORTS,
    TCP,
    UDP,
    frames,
    question,
)

CHECKOUT = Path(__file__).parents[2]

ENTER = ("unshare", "--user", "--map-current-user", "--keep-caps", "--net", "--mount")
ETH_P_ALL = 0x3
CLONE_NEWNET = 0x40000000
OWN = ("203.0.113.1", "10.200.0.1", "169.254.9.9", "127.77.1.2", "127.0.0.53")
NAME_SERVER = "127.0.0.53"
# Rules that a careless author could write: the way out without a look at the destination.
CARELESS = """\
table inet stockyard {
  set own { type ipv4_addr; flags interval; }
  chain source { type nat hook postrouting priority 100; oifname "exit" masquerade; }
}
"""
# Private destinations that a host declares. The hypervisor has an address in the first one.
WIDENED = destinations(
    ["10.0.0.0/8", f"192.168.7.7:{PORTS['TCP with options of IP to 192.168.7.7']}"]
)
OPEN = HostSpec(egress="open")
# Seconds for packets to pass, and for a change of addresses.
SETTLE, CHANGE = 1.0, 1.0


class Sniffer:
    """Records the destinations of all packets that this namespace sends or receives."""

    def __init__(self) -> None:
        self.ports: set[int] = set()
        self.addresses: set[str] = set()
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            data, address = self.socket.recvfrom(65535)
            kind = address[1]
            if kind == ETH_P_IP and len(data) >= 24:
                length = (data[0] & 15) * 4
                self.addresses.add(socket.inet_ntoa(data[16:20]))
                # A later fragment has no port.
                first = not struct.unpack("!H", data[6:8])[0] & 0x1FFF
                if first and data[9] in (TCP, UDP):
                    self.ports.add(struct.unpack("!H", data[length + 2 : length + 4])[0])
            elif kind == ETH_P_IPV6 and len(data) >= 44 and data[6] in (TCP, UDP):
                self.ports.add(struct.unpack("!H", data[42:44])[0])


def ip(*arguments: str) -> None:
    """Run the program ip."""
    subprocess.run(["ip", *arguments], check=True, timeout=20)


@contextmanager
def other_namespace() -> Iterator[int]:
    """Create a network namespace; yield a process in it."""
    with subprocess.Popen(["unshare", "--net", "sleep", "600"]) as process:
        own = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{process.pid}/ns/net") == own:
            time.sleep(0.01)
        try:
            yield process.pid
        finally:
            process.kill()


def inside(pid: int, *arguments: str) -> list[str]:
    """Return the arguments of a command in the network of a process."""
    return ["nsenter", f"--target={pid}", "--net", *arguments]


def build_hypervisor(far_side: int) -> None:
    """Give this namespace addresses of each kind, and a way to the other machines."""
    ip("link", "set", "lo", "up")
    ip("link", "add", "wan", "type", "veth", "peer", "name", "far", "netns", str(far_side))
    ip("address", "add", "203.0.113.1/24", "dev", "wan")
    ip("link", "set", "wan", "up")
    for address in ("10.200.0.1", "169.254.9.9"):
        ip("address", "add", f"{address}/32", "dev", "lo")
    ip("route", "add", "default", "via", OTHER)
    for arguments in (
        ("address", "add", f"{OTHER}/24", "dev", "far"),
        ("link", "set", "lo", "up"),
        ("link", "set", "far", "up"),
    ):
        subprocess.run(inside(far_side, "ip", *arguments), check=True, timeout=20)
    ip("-6", "address", "add", "fd00:9::1/64", "dev", "wan", "nodad")
    subprocess.run(
        inside(far_side, "ip", "-6", "address", "add", "fd00:9::7/64", "dev", "far", "nodad"),
        check=True,
        timeout=20,
    )
    resolver = Path(os.environ["LAB"], "resolv.conf")
    resolver.write_text(f"nameserver {NAME_SERVER}\n")
    target = os.path.realpath("/etc/resolv.conf")
    subprocess.run(["mount", "--bind", str(resolver), target], check=True, timeout=20)


@dataclass
class Uplink:
    """An open uplink, whose tap device the test holds."""

    tap: int
    guard: subprocess.Popen[bytes]
    machine: subprocess.Popen[bytes]
    folder: Path

    def gateway(self) -> bytes:
        """Return the address of the gateway's card: it answers a question of ARP."""
        os.write(self.tap, question())
        while True:
            answer = os.read(self.tap, 2048)
            if answer[12:14] == b"\x08\x06" and answer[20:22] == b"\0\x02":
                return answer[22:28]


def start_guard(order: dict[str, Any]) -> tuple[int, subprocess.Popen[bytes]]:
    """Start a guard as the provider does; return the tap device and the process."""
    controller_end, guard_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with controller_end:
        controller_end.settimeout(30)
        with guard_end:
            number = guard_end.fileno()
            process = subprocess.Popen(
                [sys.executable, "-I", "-c", uplink.command_text(), "guard", str(number)],
                pass_fds=[number],
                start_new_session=True,
            )
        controller_end.sendall(json.dumps(order).encode())
        message, descriptors, _flags, _address = socket.recv_fds(controller_end, 4096, 1)
        if not descriptors:
            raise AssertionError(message.decode())
        controller_end.sendall(b"attached")
    return descriptors[0], process


@contextmanager
def opened(name: str, spec: HostSpec = OPEN, **changes: Any) -> Iterator[Uplink]:
    """Open an uplink for a process that stands for QEMU.

    :param changes: parts of the order that replace those of the provider.
    """
    folder = Path(os.environ["LAB"], name)
    folder.mkdir()
    with subprocess.Popen(["sleep", "600"]) as machine:
        tap, guard = start_guard(uplink.order(machine.pid, folder, spec) | changes)
        try:
            yield Uplink(tap, guard, machine, folder)
        finally:
            machine.kill()
            guard.wait(20)
            os.close(tap)


@contextmanager
def plain_slirp() -> Iterator[Callable[[bytes], object]]:
    """Start slirp4netns without a guard; yield a function that sends it a frame."""
    with other_namespace() as pid:
        arguments = ["slirp4netns", "--configure", "--cidr=198.18.1.0/24", "--enable-ipv6"]
        slirp = uplink_guard.Slirp(arguments, pid, "exit")
        own = os.open("/proc/self/ns/net", os.O_RDONLY)
        # A socket stays in the namespace in which it was created.
        enter(f"/proc/{pid}/ns/net")
        try:
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
            wire.bind(("exit", 0))
        finally:
            enter(f"/proc/self/fd/{own}")
        try:
            yield wire.send
        finally:
            slirp.close()


def attack(
    send: Callable[[bytes], object], source: str, gateway: bytes, sniffer: Sniffer
) -> list[str]:
    """Send the frames of all attacks; return the names of those that got out."""
    for _attempt in range(2):
        for entry in ATTACKS + PERMITTED:
            for frame in frames(entry, source, gateway):
                send(frame)
            # A queue that overflows would look like a rule that drops.
            time.sleep(0.005)
    time.sleep(SETTLE)
    names = [name for name, port in PORTS.items() if port in sniffer.ports]
    sniffer.ports.clear()
    return names


def main() -> None:
    """Run the attacks and the controls; print the results as JSON."""
    result: dict[str, Any] = {}
    with other_namespace() as far_side:
        build_hypervisor(far_side)
        sniffer = Sniffer()
        with (
            opened("uplink") as real,
            opened("careless", rules=CARELESS) as careless,
            opened("widened", rules=uplink_rules.rules(WIDENED)) as widened,
            plain_slirp() as plain,
        ):
            ip("address", "add", f"{LATER}/32", "dev", "lo")
            time.sleep(CHANGE)
            # A control is last: its connections are repeated for some seconds.
            links = (("uplink", real), ("widened", widened), ("careless", careless))
            for name, link in links:
                result[name] = attack(
                    partial(os.write, link.tap),
                    uplink_rules.ADDRESS,
                    link.gateway(),
                    sniffer,
                )
            result["plain"] = attack(plain, "198.18.1.100", BROADCAST, sniffer)
    print(json.dumps(result))


class Guest:
    """A kernel's own network stack at the other end of an uplink, as a guest has it."""

    def __init__(self, tap: int, pid: int) -> None:
        self.pid = pid
        own = os.open("/proc/self/ns/net", os.O_RDONLY)
        enter(f"/proc/{pid}/ns/net")
        try:
            self.tap = uplink_guard._tap(
                "eth1", GUEST_MAC.hex(), uplink_rules.ADDRESS, "255.255.255.0"
            )
        finally:
            enter(f"/proc/self/fd/{own}")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "route", "add", "default", "via", uplink_rules.GATEWAY)
        # The number of a closed descriptor would become that of the next guest's device.
        tap = os.dup(tap)
        for source, target in ((tap, self.tap), (self.tap, tap)):
            threading.Thread(target=_copy, args=(source, target), daemon=True).start()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the guest."""
        return subprocess.run(
            inside(self.pid, *arguments), capture_output=True, text=True, timeout=30, check=False
        )

    def python(self, *lines: str) -> str:
        """Run lines of Python in the guest; return the last line of their output."""
        result = self.run(sys.executable, "-c", "\n".join(lines))
        return (result.stdout.strip() or result.stderr.strip()).splitlines()[-1]


def _copy(source: int, target: int) -> None:
    while True:
        try:
            os.write(target, os.read(source, 65535))
        except OSError:
            return


def enter(path: str) -> None:
    """Enter the network namespace of a file."""
    descriptor = os.open(path, os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), path)


NAME_SERVER_PROGRAM = f"""
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(({NAME_SERVER!r}, 53))
print(flush=True)
while True:
    question, guest = server.recvfrom(512)
    answer = bytes.fromhex("c00c000100010000000a0004") + socket.inet_aton({OTHER!r})
    head = question[:2] + bytes.fromhex("81800001000100000000")
    server.sendto(head + question[12:] + answer, guest)
"""


def traffic() -> None:
    """Use an uplink as a guest does: name resolution, and transfers from another machine."""
    result: dict[str, Any] = {}
    with (
        other_namespace() as far_side,
        other_namespace() as vm,
        served(far_side) as port,
        subprocess.Popen(
            [sys.executable, "-c", NAME_SERVER_PROGRAM], stdout=subprocess.PIPE
        ) as name_server,
    ):
        build_hypervisor(far_side)
        result["name server"] = name_server.poll()
        with opened("uplink") as real:
            guest = Guest(real.tap, vm)
            result["name"] = guest.python(
                "import socket",
                "asked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
                "asked.settimeout(10)",
                "question = bytes.fromhex('123401000001000000000000') + b'\\7example\\3org\\0'",
                f"asked.sendto(question + bytes((0, 1, 0, 1)), ({uplink_rules.GATEWAY!r}, 53))",
                "print(socket.inet_ntoa(asked.recv(512)[-4:]))",
            )
            fetch = "import urllib.request; print(len(urllib.request.urlopen({!r}).read()))"
            result["transfer"] = guest.python(fetch.format(f"http://{OTHER}:{port}/large"))
            for name, address in (("own", "203.0.113.1"), ("private", "10.9.8.7")):
                result[name] = guest.python(fetch.format(f"http://{address}:{port}/large"))
        name_server.kill()
    print(json.dumps(result))


@contextmanager
def served(far_side: int) -> Iterator[int]:
    """Serve a large file on the other machines; yield the port."""
    folder = Path(os.environ["LAB"], "served")
    folder.mkdir()
    (folder / "large").write_bytes(os.urandom(1 << 20) * 16)
    command = [sys.executable, "-m", "http.server", "8000", "--directory", str(folder)]
    with subprocess.Popen(inside(far_side, *command), stderr=subprocess.DEVNULL) as server:
        try:
            yield 8000
        finally:
            server.kill()


def processes() -> int:
    """Return the number of processes in this namespace that belong to uplinks."""
    count = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            words = (entry / "cmdline").read_bytes().split(b"\0")
            count += (
                bool({b"namespace", b"guard", b"detached"} & set(words))
                or words[0].endswith((b"slirp4netns", b"haproxy"))
                or any(b"The name server of an uplink" in word for word in words[:5])
            )
    return count


def ended(link: Uplink) -> bool:
    """Return whether all processes of an uplink end, and its lock is free."""
    end = time.monotonic() + 15
    link.guard.wait(15)
    while processes() and time.monotonic() < end:
        time.sleep(0.05)
    return not processes() and not uplink.is_guarded(link.folder)


def life() -> None:
    """End each process of an uplink, and check that the far_side end too."""
    result: dict[str, Any] = {"before": processes()}
    with other_namespace() as far_side:
        build_hypervisor(far_side)
        for victim in ("machine", "guard", "slirp4netns", "namespace"):
            with opened(victim) as link:
                result[f"{victim} runs"] = processes(), uplink.is_guarded(link.folder)
                if victim in ("machine", "guard"):
                    getattr(link, victim).kill()
                else:
                    os.kill(_process(victim), signal.SIGKILL)
                result[f"{victim} killed"] = ended(link)
                result[f"{victim} device"] = os.write(link.tap, BROADCAST * 10)
        with opened("hangup") as link:
            link.guard.send_signal(signal.SIGHUP)
            time.sleep(0.5)
            result["hangup"] = uplink.is_guarded(link.folder)
        with subprocess.Popen(["sleep", "600"]) as machine:
            order = uplink.order(machine.pid, Path(os.environ["LAB"]), OPEN)
            first = start_guard(order)
            try:
                start_guard(order)
            except AssertionError as error:
                result["second"] = str(error)
            machine.kill()
            first[1].wait(20)
    print(json.dumps(result))


def _process(word: str) -> int:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if word in words or words[0].endswith(f"/{word}"):
                return int(entry.name)
    raise AssertionError(word)


class Qmp:
    """The monitor of a QEMU without a machine, as the provider uses it."""

    name = "no machine"

    def __init__(self, path: Path) -> None:
        end = time.monotonic() + 30
        while not path.exists():
            assert time.monotonic() < end, "QEMU has no monitor"
            time.sleep(0.05)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))
        self.replies = self.socket.makefile()
        self.replies.readline()
        self.command("qmp_capabilities")

    def command(self, execute: str, files: Sequence[int] = (), **arguments: Any) -> Any:
        """Run a command; return its result."""
        text = json.dumps({"execute": execute, "arguments": arguments}).encode()
        socket.send_fds(self.socket, [text], list(files))
        while "event" in (reply := json.loads(self.replies.readline())):
            pass
        if "error" in reply:
            raise HypervisorError(reply["error"]["desc"])
        return reply["return"]

    def pass_file(self, descriptor: int, label: str) -> None:
        """Pass an open file to QEMU under a name."""
        self.command("getfd", [descriptor], fdname=label)


def hub() -> None:
    """Send frames through the hub of QEMU to uplinks, one after the other. A socket stands for the
    card of a guest, which sends frames before there is an uplink.
    """
    folder = Path(os.environ["LAB"])
    ends = folder / "qemu", folder / "guest"
    card = (
        f"dgram,id=card,local.type=unix,local.path={ends[0]},remote.type=unix,remote.path={ends[1]}"
    )
    netdevs = [word for word in network.UPLINK_CARD if word.startswith("hubport")]
    hubs = [f"{netdev},netdev=card" if ",id=net1," in netdev else netdev for netdev in netdevs]
    arguments = ["-M", "none", "-nodefaults", "-display", "none"]
    for netdev in (card, *hubs):
        arguments += ["-netdev", netdev]
    result: list[Any] = []
    with (
        other_namespace() as far_side,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as guest,
        subprocess.Popen(
            ["qemu-system-x86_64", *arguments, "-qmp", f"unix:{folder}/qmp,server=on,wait=off"]
        ) as qemu,
    ):
        build_hypervisor(far_side)
        monitor: Any = Qmp(folder / "qmp")
        guest.bind(str(ends[1]))
        guest.settimeout(10)
        for _attempt in range(2):
            guest.sendto(question(), str(ends[0]))
            time.sleep(0.5)
            tap, guard = start_guard(uplink.order(qemu.pid, folder, OPEN))
            uplink._attach(monitor, tap)
            os.close(tap)
            guest.sendto(question(), str(ends[0]))
            result.append(guest.recv(2048)[22:32].hex())
            guard.terminate()
            guard.wait(20)
        qemu.kill()
    print(json.dumps(result))


@contextmanager
def paused_machine(name: str, *arguments: str) -> Iterator[Any]:
    """Start a QEMU with the second card, which runs nothing; yield its monitor and process."""
    path = Path(os.environ["LAB"], name)
    machine = ["-M", "q35", "-m", "32M", "-nodefaults", "-display", "none", "-S"]
    with subprocess.Popen(
        [
            *("qemu-system-x86_64", *machine, *network.UPLINK_CARD, *arguments),
            *("-qmp", f"unix:{path},server=on,wait=off"),
        ]
    ) as process:
        try:
            yield Qmp(path), process
        finally:
            process.kill()


def migrated(monitor: Any) -> str:
    """Return the result of a migration."""
    end = time.monotonic() + 30
    while (status := monitor.command("query-migrate").get("status")) in (None, "setup", "active"):
        assert time.monotonic() < end, status
        time.sleep(0.05)
    return str(status)


def state() -> None:
    """Save the state of a machine with an uplink, load it into one without, which then gets one."""
    folder = Path(os.environ["LAB"])
    uri = f"exec:cat > {folder}/state"
    result: list[Any] = []
    with other_namespace() as far_side:
        build_hypervisor(far_side)
        with paused_machine("first") as (monitor, process):
            tap, guard = start_guard(uplink.order(process.pid, folder, OPEN))
            uplink._attach(monitor, tap)
            os.close(tap)
            monitor.command("migrate", uri=uri)
            result.append(migrated(monitor))
        guard.wait(20)
        with paused_machine("second", "-incoming", "defer") as (monitor, process):
            monitor.command("migrate-incoming", uri=f"exec:cat {folder}/state")
            result.append(migrated(monitor))
            tap, guard = start_guard(uplink.order(process.pid, folder, OPEN))
            uplink._attach(monitor, tap)
            os.close(tap)
            result.append(uplink.is_guarded(folder))
        guard.wait(20)
    print(json.dumps(result))


def run(folder: Path, entry: str = "main", module: str = "uplink_lab") -> Any:
    """Run a function in the namespaces; return the JSON that it printed last."""
    environment = {
        **os.environ,
        "LAB": str(folder),
        "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        "PYTHONPATH": f"{CHECKOUT / 'plugins' / 'module_utils'}:{CHECKOUT}",
    }
    program = f"from tests.helpers import {module}; {module}.{entry}()"
    result = subprocess.run(
        [*ENTER, "--kill-child", "--pid", "--fork", "--mount-proc", sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout.splitlines()[-1])
