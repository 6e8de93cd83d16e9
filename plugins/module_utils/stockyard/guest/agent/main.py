# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's loop: reads requests from a virtio-serial port and answers them, one at a time.

It sleeps in ``epoll`` without a time-out: a guest that waits costs nothing, and the freeze finds it
there. On VMware there is no such port: :mod:`.guestinfo` brings the requests.
"""

from __future__ import annotations

import os
import select
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from . import engine, growth, guestinfo, units, wire
from .apply import Identity
from .disks import LinuxDisks
from .effects import LinuxEffects, wait_for_path
from .volumes import Volumes
from .warmup import prepare, warm_up

# What this agent understands: 2 can be admitted anew, 3 has volumes, 4 encrypted ones, and counts
# its limits anew, 5 reads and sets its clock.
AGENT = 5
PORT = f"/dev/virtio-ports/{wire.PORT_NAME}"


class Agent:
    """Answers requests. Knows nothing of how they arrive."""

    def __init__(self, identity: Identity, volumes: Volumes | None = None) -> None:
        self.identity = identity
        self.volumes = volumes or Volumes(identity.root, LinuxDisks())

    def answer(self, line: bytes) -> dict[str, Any]:
        """The answer to one line, an error included: whatever arrives, the agent lives on."""
        number: Any = None
        try:
            request = wire.decode(line)
            number = request.get("id")
            return {"id": number, "ok": True, **self._do(request)}
        # the boundary: the controller learns of it, the next request is served
        except Exception as error:  # noqa: BLE001
            _complain()
            return {"id": number, "ok": False, "error": f"{type(error).__name__}: {error}"[:2000]}

    def resume(self) -> None:
        """After a boot: be the host that is on disk. Without its volumes it is closed until the
        controller opens it.
        """
        try:
            self.volumes.resume()
        # the boundary: the host is closed, and the controller is told why
        except Exception:  # noqa: BLE001
            _complain()
            self.identity.resume(doors=False)
        else:
            self.identity.resume()

    def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        operations: dict[Any, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "hello": self._hello,
            "draw": lambda _asked: dict(self.identity.effects.draw()),
            "prepare": lambda asked: dict(prepare(float(asked["timeout"]), bool(asked["docker"]))),
            "let-in": self.identity.let_in,
            "let-out": self.identity.let_out,
            "warm-up": self._warm_up,
            "identify": self.identity.identify,
            "csr": lambda _asked: self.identity.csr(),
            "admit": self.identity.admit,
            "settle": lambda _asked: self.identity.settle(),
            "set-clock": self.identity.set_clock,
            "volume-look": self.volumes.look,
            "volume-make": self.volumes.make,
            "volume-mount": self.volumes.mount,
            "volume-unmount": self.volumes.unmount,
            "open": lambda _asked: self.identity.reopen(),
            "unit-failures": lambda _asked: {
                "failures": units.failures((*units.DOCKER, *units.FRONT))
            },
            "docker-probe": lambda _asked: engine.probe(),
            "recount": lambda asked: dict(
                growth.recount(self.identity.root, int(asked["memory_mib"]))
            ),
        }
        operation = request.get("op")
        if not isinstance(operation, str) or operation not in operations:
            raise ValueError(f"unknown operation {operation!r}")
        return operations[operation](request)

    def _warm_up(self, asked: dict[str, Any]) -> dict[str, Any]:
        return dict(
            warm_up(float(asked["timeout"]), bool(asked["docker"]), bool(asked.get("sparse")))
        )

    def _hello(self, request: dict[str, Any]) -> dict[str, Any]:
        known = self.identity.known()
        status = {
            "agent": AGENT,
            "uuid": known["uuid"] if known else "",
            "missing": self.volumes.missing(),
        }
        if "time" in request:
            status["ahead"] = time.time() - float(request["time"])
        return status


def _complain() -> None:
    """Put the error at hand into the journal; <3> is how journald is told that a line
    is an error.
    """
    sys.stderr.write("".join(f"<3>{line}\n" for line in traceback.format_exc().splitlines()))


def serve(agent: Agent, port: str) -> None:
    """Serve one port for ever.

    The port reports a hang-up for as long as nobody is connected; edge-triggered events say only
    that this changed.
    """
    wait_for_path(port)
    handle = os.open(port, os.O_RDWR | os.O_NONBLOCK)
    poll = select.epoll()
    poll.register(handle, select.EPOLLIN | select.EPOLLET)
    lines = wire.Lines()
    while True:
        for _handle, events in poll.poll():
            if events & select.EPOLLHUP:
                lines.reset()
        _drain(agent, handle, lines)


def _drain(agent: Agent, handle: int, lines: wire.Lines) -> None:
    """Read and answer all that is there."""
    while True:
        try:
            data = os.read(handle, 65536)
        except BlockingIOError:
            return
        if not data:
            return
        try:
            complete = lines.feed(data)
        except wire.WireError as error:
            _send(handle, {"id": None, "ok": False, "error": str(error)})
            continue
        for line in complete:
            _send(handle, agent.answer(line))


def _send(handle: int, message: dict[str, Any]) -> None:
    """Write one message whole; give up when the other side has gone."""
    data = wire.encode(message)
    while data:
        try:
            data = data[os.write(handle, data) :]
        except BlockingIOError:
            if not select.select([], [handle], [], 10.0)[1]:
                return


def main() -> None:
    """Take up an identity that is on disk, then serve."""
    agent = Agent(Identity("/", LinuxEffects()))
    agent.resume()
    if guestinfo.is_here():
        guestinfo.serve(agent, guestinfo.Rpctool())
    serve(agent, PORT)


if __name__ == "__main__":
    main()
