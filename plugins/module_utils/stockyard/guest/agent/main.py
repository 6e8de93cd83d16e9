# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's loop: reads requests from a virtio-serial port and answers them, one at a time.

The loop sleeps in ``epoll`` without a timeout: an idle guest costs nothing, and the freeze happens
during that sleep. VMware has no such port: there requests arrive through :mod:`.guestinfo`.

The agent is two processes. The worker answers requests, and its memory can hold keys. The
supervisor only starts the worker and never reads a request or a key: in a child of a branch it
starts another worker, which has nothing of the parent's worker. That worker shares the memory of
the loaded program with the supervisor, so a child does not load the program into memory of its own.
The supervisor keeps the port open: the kernel discards requests that wait in a port when it is
closed.
"""

from __future__ import annotations

import gc
import os
import select
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from . import engine, guestinfo, limits, units, wire
from .apply import Identity
from .disks import LinuxDisks
from .effects import LinuxEffects, wait_for_path
from .key_wrap import KeyExchange
from .volumes import Volumes
from .warmup import prepare, warm_up

# The version of this agent. stockyard/guest/operations.py lists the additions of each version.
AGENT = 10
# The names of operations before version 6, which controllers of that time send.
FORMER_NAMES = {
    "admit": "renew-certificate",
    "let-in": "enable-ssh",
    "let-out": "disable-ssh",
    "recount": "refresh-limits",
    "volume-look": "volume-probe",
    "volume-make": "volume-create",
}
Operation = Callable[[dict[str, Any]], dict[str, Any]]
PORT = f"/dev/virtio-ports/{wire.PORT_NAME}"


class Agent:
    """The agent: answers requests, independently of the channel. Answers contain its version."""

    def __init__(self, identity: Identity, volumes: Volumes | None = None) -> None:
        self.identity = identity
        self.volumes = volumes or Volumes(identity.root, LinuxDisks())
        # Whether this worker must be replaced after its answer: its memory holds the key of a
        # volume or keys of the parent of a fork.
        self.restart_due = False
        self._holds_parent_keys = False
        self._key_exchange: KeyExchange | None = None

    def answer(self, line: bytes) -> dict[str, Any]:
        """Return the answer to one line. An error becomes an answer; the agent always continues."""
        number: Any = None
        try:
            request = wire.decode(line)
            number = request.get("id")
            return {"id": number, "ok": True, "agent": AGENT, **self._do(request)}
        # the boundary: the controller gets the error, and the agent serves the next request
        except Exception as error:  # noqa: BLE001
            _complain()
            return {"id": number, "ok": False, "error": f"{type(error).__name__}: {error}"[:2000]}

    def resume(self) -> None:
        """Restore the host on disk after a boot. If a volume cannot be mounted, the host stays
        closed until the controller opens it.
        """
        try:
            self.volumes.resume()
        # the boundary: the host stays closed, and the error is in the journal
        except Exception:  # noqa: BLE001
            _complain()
            self.identity.resume(open_to_users=False)
        else:
            self.identity.resume()

    @property
    def operations(self) -> dict[str, Operation]:
        """The operations by their current names."""
        return {
            "hello": self._hello,
            "draw": lambda _payload: dict(self.identity.effects.draw()),
            "prepare": lambda payload: dict(
                prepare(float(payload["timeout"]), bool(payload["docker"]))
            ),
            "enable-ssh": self.identity.enable_ssh,
            "disable-ssh": self.identity.disable_ssh,
            "warm-up": self._warm_up,
            "discard-identity": self._discard_identity,
            "scrub": self._scrub,
            "identify": self.identity.identify,
            "csr": lambda _payload: self.identity.csr(),
            "key-exchange": lambda _payload: self._start_key_exchange(),
            "renew-certificate": self._renew_certificate,
            # The controller asks earlier agents to replace their worker here.
            "settle": lambda _payload: self.identity.settle(),
            "set-clock": self.identity.set_clock,
            "reseed": self.identity.reseed,
            "volume-probe": self.volumes.probe,
            "volume-create": self.volumes.create,
            "volume-mount": self.volumes.mount,
            "volume-unmount": self.volumes.unmount,
            "volume-drop": self.volumes.drop,
            "open": lambda _payload: self.identity.reopen(),
            "unit-failures": lambda _payload: {
                "failures": units.failures((*units.DOCKER, *units.FRONTS))
            },
            "docker-probe": lambda _payload: engine.probe(),
            "change-containers": lambda payload: engine.change_containers(str(payload["action"])),
            "refresh-limits": lambda payload: dict(
                limits.refresh_limits(self.identity.root, int(payload["memory_mib"]))
            ),
        }

    def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        name, operations = request.get("op"), self.operations
        operation = operations.get(FORMER_NAMES.get(name, name)) if isinstance(name, str) else None
        if operation is None:
            raise ValueError(f"unknown operation {name!r}")
        if "wrapped_key" in request:
            request = {**request, "key": self._unwrapped(str(request["wrapped_key"]))}
        return operation(request)

    def _start_key_exchange(self) -> dict[str, Any]:
        self._key_exchange = KeyExchange()
        return {"public_key": self._key_exchange.public_key}

    def _unwrapped(self, wrapped: str) -> str:
        """Return the key of a request. Its memory ends with this worker, and also if the request
        fails.
        """
        if self._key_exchange is None:
            raise ValueError("the worker that offered a key exchange has ended: run again")
        self.restart_due = True
        self.volumes.note_key()
        return self._key_exchange.unwrap(wrapped)

    def _warm_up(self, payload: dict[str, Any]) -> dict[str, Any]:
        return dict(
            warm_up(
                float(payload["timeout"]),
                bool(payload["docker"]),
                bool(payload.get("sparse")),
                bool(payload.get("derived")),
            )
        )

    def _discard_identity(self, payload: dict[str, Any]) -> dict[str, Any]:
        self._holds_parent_keys = True
        return self.identity.discard_identity(payload)

    def _renew_certificate(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Install a certificate. The worker of a parent ends with the identity of the child: a new
        worker would take longer to create it. The front then gets the memory of the worker.
        """
        answer = self.identity.renew_certificate(payload)
        self.restart_due = self._holds_parent_keys
        return answer

    def _scrub(self, payload: dict[str, Any]) -> dict[str, Any]:
        answer = self.identity.scrub(payload)
        self.restart_due = True
        return answer

    def _hello(self, request: dict[str, Any]) -> dict[str, Any]:
        identity = self.identity.known()
        status = {
            "uuid": identity["uuid"] if identity else "",
            "missing": self.volumes.missing(),
        }
        if self.volumes.keys_remain():
            status["keys_remain"] = True
        if "time" in request:
            status["ahead"] = time.time() - float(request["time"])
        return status


def _complain() -> None:
    """Write the current error to the journal. The prefix <3> marks a line as an error."""
    sys.stderr.write("".join(f"<3>{line}\n" for line in traceback.format_exc().splitlines()))


def open_port(path: str) -> int:
    """Open a port as soon as it exists."""
    wait_for_path(path)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK)


def serve(agent: Agent, handle: int) -> None:
    """Serve an open port until the worker must be replaced.

    The port reports a hang-up while no controller is connected; edge-triggered events report only
    the change.
    """
    poll = select.epoll()
    poll.register(handle, select.EPOLLIN | select.EPOLLET)
    lines = wire.Lines()
    while not agent.restart_due:
        for _handle, events in poll.poll():
            if events & select.EPOLLHUP:
                lines.reset()
        _drain(agent, handle, lines)


def _drain(agent: Agent, handle: int, lines: wire.Lines) -> None:
    """Read all available requests and answer them, until the worker must be replaced."""
    while not agent.restart_due:
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
    """Write one whole message. Stop if the controller does not read within 10 seconds."""
    data = wire.encode(message)
    while data:
        try:
            data = data[os.write(handle, data) :]
        except BlockingIOError:
            if not select.select([], [handle], [], 10.0)[1]:
                return


def main() -> None:
    """Restore the identity on disk if there is one, then start workers, each after the end of the
    former one.
    """
    # A collection of garbage would write to pages that all workers share.
    gc.freeze()
    run(restore)
    handle = None if guestinfo.runs_on_vmware() else open_port(PORT)
    while True:
        run(lambda: work(handle))
        if handle is not None:
            # Until the controller's next request, the front of a child has the processor. If the
            # controller has ended, the port reports a hang-up at once.
            select.select([handle], [], [])


def run(step: Callable[[], None]) -> None:
    """Run a step in a process of its own. If it fails, so does the agent: systemd starts it
    again.
    """
    process = os.fork()
    if process == 0:
        step()
        # The end of an interpreter writes to most pages that it shares with the supervisor.
        sys.stderr.flush()
        os._exit(0)
    _pid, status = os.waitpid(process, 0)
    if status:
        raise SystemExit(f"a process failed with code {os.waitstatus_to_exitcode(status)}")


def restore() -> None:
    """Restore the host on disk after a boot."""
    new_agent().resume()


def work(handle: int | None) -> None:
    """Serve requests until the worker must be replaced.

    :param handle: the open port; ``None`` if requests arrive through VMware.
    """
    if handle is None:
        guestinfo.serve(new_agent(), guestinfo.Rpctool())
    else:
        serve(new_agent(), handle)


def new_agent() -> Agent:
    """Return an agent of this guest."""
    return Agent(Identity("/", LinuxEffects()))


if __name__ == "__main__":
    main()
