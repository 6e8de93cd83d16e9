# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The follower of a host's container ports: a process that lives as long as the host's machine.

This file is the text of a process of its own (:mod:`.container_ports`), which outlives its
controller: it imports nothing of stockyard. The follower holds a connection of OpenSSH to the relay
in the guest. The relay sends all ports that containers publish, and the follower sets the forwards
of QEMU's user network accordingly. The guest can only choose ports of its own host's address.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

NETDEV = "net0"
# The most ports that are forwarded for the containers of a host.
MOST_PORTS = 256
# The longest line of the relay, and the last bytes of the messages of ssh.
LONGEST, TAIL = 1 << 16, 500
# Seconds from the end of a connection to the next one, and between two lists.
RECONNECT, PAUSE = 1.0, 0.01
# Attempts at a command: libvirt can have restarted.
ATTEMPTS = 2
MESSAGE = 1 << 16


class FollowerError(Exception):
    """The ports cannot be forwarded."""


class Monitor:
    """QEMU's monitor through libvirt.

    :param uris: URIs that lead to libvirt, the likeliest first.
    :param uuid: the machine.
    """

    def __init__(self, uris: list[str], uuid: str) -> None:
        self.uris = uris
        self.uuid = uuid
        self._domain: Any = None

    def __call__(self, line: str) -> str:
        """Run a command; return its output.

        :raises FollowerError: if libvirt cannot run it.
        """
        import libvirt
        import libvirt_qemu

        problem = ""
        for _attempt in range(ATTEMPTS):
            try:
                self._domain = self._domain or self._find()
                human = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
                return str(libvirt_qemu.qemuMonitorCommand(self._domain, line, human)).strip()
            except libvirt.libvirtError as error:
                problem, self._domain = str(error), None
        raise FollowerError(f"libvirt: {problem}")

    def _find(self) -> Any:
        import libvirt

        for uri in self.uris[:-1]:
            with suppress(libvirt.libvirtError):
                return libvirt.open(uri).lookupByUUIDString(self.uuid)
        return libvirt.open(self.uris[-1]).lookupByUUIDString(self.uuid)


class Forwards:
    """The forwards of one host's containers.

    :param command: runs a command of QEMU's monitor.
    :param address: the host's own address.
    :param fixed_ports: ports of SSH and Docker.
    :param declared_ports: declared ports, which are forwarded in any case.
    """

    def __init__(
        self,
        command: Callable[[str], str],
        address: str,
        fixed_ports: Iterable[int],
        declared_ports: Iterable[int],
    ) -> None:
        self.command = command
        self.address = address
        self.fixed_ports = frozenset(fixed_ports)
        self.declared_ports = frozenset(declared_ports)
        self.ports: set[int] = set()

    def read(self) -> None:
        """Read the forwards that an earlier follower has set."""
        self.ports = set()
        for line in self.command("info usernet").splitlines():
            words = line.split()
            if words[:1] == ["TCP[HOST_FORWARD]"] and words[2] == self.address:
                self.ports.add(int(words[3]))
        self.ports -= self.fixed_ports | self.declared_ports

    def set(self, ports: set[int]) -> dict[str, str]:
        """Forward these ports, and no others. Return the reason for each port that is not."""
        failed: dict[str, str] = {}
        for port in sorted(self.ports - ports):
            self.command(f"hostfwd_remove {NETDEV} tcp:{self.address}:{port}")
            self.ports.discard(port)
        for port in sorted(ports - self.ports - self.declared_ports):
            if reason := self._problem(port) or self._add(port):
                failed[str(port)] = reason
            else:
                self.ports.add(port)
        return failed

    def _problem(self, port: int) -> str:
        """Return the reason why a port cannot be forwarded; empty if it can."""
        if port in self.fixed_ports:
            return f"the hypervisor uses port {port} of {self.address} for the host itself"
        if len(self.ports) >= MOST_PORTS:
            return (
                f"the hypervisor forwards at most {MOST_PORTS} ports for the containers of a host"
            )
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((self.address, port))
            except OSError as error:
                return f"the hypervisor cannot use it at {self.address}: {error.strerror}"
        return ""

    def _add(self, port: int) -> str:
        return self.command(f"hostfwd_add {NETDEV} tcp:{self.address}:{port}-:{port}")


def is_number(value: object) -> bool:
    """Return whether a value of JSON is a whole number."""
    return isinstance(value, int) and not isinstance(value, bool)


def read_list(line: bytes) -> tuple[int, set[int]]:
    """Return the number and the ports of a list that the guest sent.

    :raises FollowerError: if it is not one.
    """
    try:
        message = json.loads(line)
        number, ports = message["number"], set(message["ports"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FollowerError(f"the relay in the host sent no list of ports: {error}") from error
    if not is_number(number) or not all(is_number(port) and 0 < port < 1 << 16 for port in ports):
        raise FollowerError("the relay in the host sent values that are not ports")
    return number, ports


class Connection:
    """One connection to the relay.

    :param line: the command of ssh.
    :param machine: a descriptor that is readable when the machine has ended.
    """

    def __init__(self, line: list[str], machine: int) -> None:
        self.machine = machine
        self.errors = b""
        self._lines = b""
        self._process = subprocess.Popen(
            line,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        streams: list[Any] = [
            self._process.stdin,
            self._process.stdout,
            self._process.stderr,
        ]
        self._input, self._output, self._messages = (stream.fileno() for stream in streams)
        self._poll = select.poll()
        for descriptor in (machine, self._output, self._messages):
            self._poll.register(descriptor, select.POLLIN)

    def read(self) -> bytes:
        """Wait for a list; return the last one, as each contains all ports. Return nothing at the
        end of the connection or of the machine.

        :raises FollowerError: if a line is too long.
        """
        while True:
            ready = {descriptor for descriptor, _event in self._poll.poll()}
            if self.machine in ready:
                return b""
            if self._messages in ready:
                self._read_messages()
            if self._output in ready:
                block = os.read(self._output, LONGEST)
                self._lines += block
                complete, _separator, self._lines = self._lines.rpartition(b"\n")
                if complete or not block:
                    return complete.rpartition(b"\n")[2]
                if len(self._lines) > LONGEST:
                    raise FollowerError("the relay in the host sent a line that is too long")

    def answer(self, number: int, failed: dict[str, str]) -> None:
        """Answer the list with a number."""
        line = json.dumps({"number": number, "failed": failed}).encode() + b"\n"
        with suppress(BrokenPipeError):
            os.write(self._input, line)

    def close(self) -> str:
        """End the connection; return the last messages of ssh."""
        # With all processes that it started: one of them would keep the output open.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        _output, messages = self._process.communicate()
        return (self.errors + messages).decode(errors="replace").strip()[-TAIL:]

    def _read_messages(self) -> None:
        message = os.read(self._messages, LONGEST)
        self.errors = (self.errors + message)[-TAIL:]
        if not message:
            self._poll.unregister(self._messages)


class Follower:
    """The follower of one machine.

    :param order: see :func:`..container_ports.order`.
    :param follow: called when the first list is carried out.
    """

    def __init__(
        self, order: dict[str, Any], forwards: Forwards, follow: Callable[[], None]
    ) -> None:
        self.line: list[str] = order["line"]
        self.record: str = order["record"]
        self.machine = os.pidfd_open(int(order["machine"]))
        self.forwards = forwards
        self.follow = follow
        self.is_following = False

    def run(self, patience: float) -> None:
        """Forward ports until the machine ends.

        :param patience: seconds until the first list must be carried out.
        :raises FollowerError: if the time is up.
        """
        end = time.monotonic() + patience
        while True:
            problem = self._serve()
            if self._has_ended(0):
                return
            if not self.is_following and time.monotonic() > end:
                raise FollowerError(problem)
            self._write(problem)
            if self._has_ended(RECONNECT):
                return

    def _serve(self) -> str:
        """Forward ports while a connection stands; return the reason for its end."""
        connection, problem = Connection(self.line, self.machine), ""
        try:
            self._carry_out(connection)
        except FollowerError as error:
            problem = str(error)
        finally:
            messages = connection.close()
        return problem or messages or "the connection to the host ended"

    def _carry_out(self, connection: Connection) -> None:
        is_first = True
        while line := connection.read():
            if is_first:
                self.forwards.read()
                is_first = False
            number, ports = read_list(line)
            failed = self.forwards.set(ports)
            self._write("")
            connection.answer(number, failed)
            if not self.is_following:
                self.is_following = True
                self.follow()
            # A guest that sends lists without an end must not keep libvirt busy.
            time.sleep(PAUSE)

    def _has_ended(self, seconds: float) -> bool:
        """Return whether the machine has ended; wait for that at most for some seconds."""
        return bool(select.select([self.machine], [], [], seconds)[0])

    def _write(self, problem: str) -> None:
        """Write the forwarded ports for other controllers, as long as the host's directory
        exists.
        """
        record = {"ports": sorted(self.forwards.ports), "problem": problem}
        with suppress(OSError):
            with open(f"{self.record}.new", "w", encoding="utf-8") as handle:
                json.dump(record, handle)
            os.replace(f"{self.record}.new", self.record)


def serve(link: socket.socket) -> None:
    """Follow the ports of the machine that a controller's order names."""
    order = json.loads(link.recv(MESSAGE))
    lock = os.open(order["lock"], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # Another controller has started a follower a moment ago.
        link.sendall(b"following")
        return
    monitor = Monitor(order["uris"], order["uuid"])
    forwards = Forwards(monitor, order["address"], order["fixed_ports"], order["declared_ports"])

    def follow() -> None:
        with suppress(OSError):
            link.sendall(b"following")
        link.close()

    try:
        Follower(order, forwards, follow).run(order["patience"])
    except (FollowerError, OSError, ImportError) as error:
        os.close(lock)
        with suppress(OSError):
            link.sendall(str(error).encode()[-TAIL:])


def main() -> None:
    """Run as the follower of a controller, whose child ends at once."""
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    serve(socket.socket(fileno=int(sys.argv[1])))
