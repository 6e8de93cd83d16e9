# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The relay: tells the process on the hypervisor which ports the containers of this host publish.

The process on the hypervisor starts the relay through SSH, and both exchange lines of JSON. The
relay sends all ports whenever one is added or removed. The answer to each list names the ports that
cannot be forwarded.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import struct
import sys
import time
from typing import Any

from .publications import FOLDER, SOCKET, marker, publications

# The settings of dockerd, and the program that must be in them.
SETTINGS, PROGRAM = "/etc/docker/daemon.json", "/usr/lib/stockyard/docker-proxy"
PROCESS = f"{FOLDER}/container-ports.pid"
BACKLOG = 512
PAUSE = 0.2
# The longest line of the hypervisor, and of a program in this host.
LONGEST, REQUEST = 1 << 16, 16


class Relay:
    """The ports of this host's containers, and the programs that wait for a forward.

    :param listener: the socket for programs in this host.
    :param source: the descriptor that the hypervisor's answers are read from.
    :param target: the descriptor that lists are written to.
    """

    def __init__(self, listener: socket.socket, source: int, target: int) -> None:
        self.source = source
        self.target = target
        # The port of each process of docker-proxy, by a descriptor that is readable when it ends.
        self.ports: dict[int, int] = {}
        # The programs that wait: the descriptor of the process, and the list with its port.
        self.waiting: dict[socket.socket, tuple[int, int]] = {}
        self.number = 0
        self._rest = b""
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(source, selectors.EVENT_READ, self._answer)

    def adopt(self, ports: dict[int, int]) -> None:
        """Add the ports of processes that exist, and send the first list."""
        for process, port in ports.items():
            self._watch(process, port)
        self._send()

    def run(self) -> None:
        """Return when the hypervisor hangs up."""
        with contextlib.suppress(EOFError, BrokenPipeError):
            while True:
                for key, _events in self._selector.select():
                    # An earlier event can have ended the process of this one.
                    if self._selector.get_map().get(key.fileobj) is key:
                        key.data(key.fileobj)

    def close(self) -> None:
        """Close all descriptors that the relay opened, and its socket."""
        for handle in self.ports:
            os.close(handle)
        for key in list(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        for client in self.waiting:
            client.close()
        self._selector.close()

    def _watch(self, process: int, port: int) -> int | None:
        """Add the port of a process until it ends; return the descriptor of the process."""
        try:
            handle = os.pidfd_open(process)
        except ProcessLookupError:
            return None
        self.ports[handle] = port
        self._selector.register(handle, selectors.EVENT_READ, self._ended)
        return handle

    def _ended(self, handle: Any) -> None:
        self._forget(handle)
        self._send()

    def _forget(self, handle: int) -> None:
        self._selector.unregister(handle)
        os.close(handle)
        del self.ports[handle]

    def _accept(self, listener: Any) -> None:
        client, _address = listener.accept()
        client.setblocking(False)
        self._selector.register(client, selectors.EVENT_READ, self._request)

    def _request(self, client: Any) -> None:
        """Read the port that a program asks for. It sends nothing else, and then it waits."""
        try:
            text = client.recv(REQUEST)
        except OSError:
            text = b""
        port = int(text) if text.strip().isdigit() else 0
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        process = struct.unpack("3i", credentials)[0]
        self._selector.unregister(client)
        handle = self._watch(process, port) if 0 < port < 1 << 16 else None
        if handle is None:
            client.close()
            return
        self._send()
        self.waiting[client] = (handle, self.number)

    def _send(self) -> None:
        """Send all ports."""
        self.number += 1
        line = {"number": self.number, "ports": sorted(set(self.ports.values()))}
        os.write(self.target, json.dumps(line).encode() + b"\n")

    def _answer(self, source: Any) -> None:
        block = os.read(source, LONGEST)
        if not block:
            raise EOFError
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            answer = json.loads(line)
            self._conclude(answer["number"], answer["failed"])

    def _conclude(self, number: int, failed: dict[str, str]) -> None:
        """Answer the programs whose ports were in a list."""
        for client, (handle, in_list) in list(self.waiting.items()):
            if in_list > number:
                continue
            del self.waiting[client]
            reason = failed.get(str(self.ports.get(handle)), "")
            if reason and handle in self.ports:
                self._forget(handle)
            with contextlib.suppress(OSError):
                client.sendall(f"{reason or 'ok'}\n".encode())
            client.close()


def check_settings(path: str = SETTINGS) -> None:
    """Exit with an error if dockerd does not ask for forwards."""
    with open(path, encoding="utf-8") as handle:
        keys = json.load(handle)
    if keys.get("userland-proxy") is False or keys.get("userland-proxy-path") != PROGRAM:
        raise SystemExit(f"{path} must not contain userland-proxy or userland-proxy-path")


def listen(path: str = SOCKET) -> socket.socket:
    """Return the socket for programs in this host, in place of an earlier relay's."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{path}.new")
    previous_mask = os.umask(0o177)
    listener.bind(f"{path}.new")
    os.umask(previous_mask)
    listener.listen(BACKLOG)
    os.rename(f"{path}.new", path)
    return listener


def end_previous(path: str = PROCESS) -> None:
    """End an earlier relay whose connection was lost, and note this one."""
    with contextlib.suppress(OSError, ValueError):
        with open(path, encoding="ascii") as handle:
            process = int(handle.read())
        with open(f"/proc/{process}/cmdline", "rb") as handle:
            is_relay = b"stockyard_ports.relay" in handle.read()
        if is_relay:
            os.kill(process, signal.SIGTERM)
    with open(path, "w", encoding="ascii") as handle:
        handle.write(str(os.getpid()))


def main() -> None:
    """Serve until the hypervisor hangs up."""
    check_settings()
    end_previous()
    relay = Relay(listen(), sys.stdin.fileno(), sys.stdout.fileno())
    # From here on each new program asks this relay, and the others are in the list of processes.
    with open(marker(), "w", encoding="ascii"):
        pass
    ports = publications()
    # The kernel shows no arguments of a process that becomes another program at this moment.
    time.sleep(PAUSE)
    relay.adopt(ports | publications())
    relay.run()


if __name__ == "__main__":
    main()
