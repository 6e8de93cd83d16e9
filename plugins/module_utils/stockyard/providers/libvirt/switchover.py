# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The switch-over of a branch: the moment at which the parent stands still.

This file is a part of the text of a process of its own (:mod:`.switchover_process`), which outlives
its controller: it imports nothing else of stockyard. It copies the parent's memory while the parent
runs (:mod:`.memory_copy`), stops the parent, gives the parent's disk a new overlay, copies the
changed pages and the state of the devices, and continues the parent.

Memory that cannot be copied is migrated into the twin. When only a few pages are left, QEMU stops
the parent; the parent's disk gets a new overlay, the rest is migrated, and the parent continues. If
QEMU can miss writes of the parent, it is stopped before its memory is migrated.

If the controller dies before the parent was stopped, the parent just continues. After that moment
the switch-over is completed. In each case the parent runs, and without a controller the twin is
ended.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .memory_copy import LARGE, MemoryCopy, UnsuitableMemory

LABEL = "branch"
# Seconds between two queries near the end of the copy; the last of these delays the parent.
POLL = 0.004
# Each query takes processor time from the copy. While more than these bytes are left, the parent
# cannot stop soon, and queries are rare.
MUCH = 64 << 20
PATIENT_POLL = 0.04
# A longer stop is accepted in steps if a busy guest writes faster than its memory is copied: after
# these seconds, QEMU may stop the guest for these milliseconds. The first step leaves time for the
# snapshot of the disk, which is a part of the pause too. An idle emulated guest writes more than
# can be copied in 10 ms.
STOPS = ((0.0, 30), (3.0, 60), (6.0, 120), (12.0, 300), (25.0, 1000), (40.0, 3000))
BANDWIDTH = 1 << 40
# Seconds in which a stopped parent continues after a failed migration.
RECOVERY = 10.0
GONE = ("completed", "failed", "cancelled", "none")


class SwitchOverError(Exception):
    """The switch-over is undone."""


class SwitchOver:
    """One switch-over.

    :param parent: the monitor of the running machine.
    :param twin: the monitor of the machine that waits for its memory.
    :param snapshot: creates the overlay of the parent's disk.
    :param controller_lives: returns whether the controller lives.
    :param seconds: the time until a parent that cannot be stopped is left alone.
    :param stop_first: whether the parent is stopped before its memory is migrated.
    :param memory: the copy of the parent's memory; ``None`` to migrate it.
    """

    def __init__(
        self,
        parent: Any,
        twin: Any,
        snapshot: Any,
        controller_lives: Any,
        seconds: float,
        *,
        stop_first: bool = False,
        memory: MemoryCopy | None = None,
    ) -> None:
        self.parent = parent
        self.twin = twin
        self.snapshot = snapshot
        self.controller_lives = controller_lives
        self.seconds = seconds
        self.stop_first = stop_first
        self.memory = memory
        self.times: dict[str, float] = {}

    def run(self) -> dict[str, float]:
        """Carry out the switch-over; return its times in milliseconds.

        :raises SwitchOverError: if it was undone. The parent runs in each case.
        """
        if self.memory is None or not self._copy(self.memory):
            self._migrate()
        return self.times

    def _copy(self, memory: MemoryCopy) -> bool:
        """Copy the memory and the state of the devices. Return whether that is possible."""
        begin = time.monotonic()
        try:
            # A migration that stops the parent first takes longer than the copy of any memory.
            memory.copy(self.parent, sys.maxsize if self.stop_first else LARGE)
        except (UnsuitableMemory, SwitchOverError):
            return False
        self._check_controller()
        stopped = time.monotonic()
        try:
            self.parent.suspend()
            try:
                state = memory.join(self.parent.device_state())
            except (UnsuitableMemory, SwitchOverError):
                return False
            copied = time.monotonic()
            with ThreadPoolExecutor(1) as pool:
                completion = pool.submit(memory.complete)
                self.snapshot()
                snapshotted = time.monotonic()
                completion.result()
            completed = time.monotonic()
        finally:
            recover(self.parent)
        self.times["copied"] = _milliseconds(begin, stopped)
        self._note(stopped, copied, snapshotted, completed)
        self.parent.forget_files()
        self._load(state)
        return True

    def _load(self, state: bytes) -> None:
        """Start to load a state into the twin, whose memory is complete."""
        with os.fdopen(os.memfd_create(LABEL), "w+b") as file:
            file.write(state)
            file.seek(0)
            self.twin.pass_file(file.fileno(), LABEL)
            _capabilities(self.twin, {"x-ignore-shared": True})
            self.twin("migrate-incoming", uri=f"fd:{LABEL}")

    def _migrate(self) -> None:
        """Migrate the memory and the state of the devices."""
        begin = time.monotonic()
        old_limits = self.parent("query-migrate-parameters")
        _capabilities(self.parent, {"x-ignore-shared": False, "pause-before-switchover": True})
        try:
            if self.stop_first:
                self.parent.suspend()
            self._connect()
            self._wait_for_stop(begin)
            copied = time.monotonic()
            self.times["copied"] = _milliseconds(begin, copied)
            self._switch(begin if self.stop_first else copied, copied)
        finally:
            recover(self.parent)
            self.parent(
                "migrate-set-parameters",
                **{name: old_limits[name] for name in ("max-bandwidth", "downtime-limit")},
            )
            _capabilities(self.parent, {"pause-before-switchover": False})

    def _connect(self) -> None:
        """Start the migration over a pair of sockets."""
        sending, receiving = socket.socketpair()
        with sending, receiving:
            self.twin.pass_file(receiving.fileno(), LABEL)
            self.twin("migrate-incoming", uri=f"fd:{LABEL}")
            self.parent.pass_file(sending.fileno(), LABEL)
            self.parent(
                "migrate-set-parameters",
                **{"max-bandwidth": BANDWIDTH, "downtime-limit": STOPS[0][1]},
            )
            self.parent("migrate", uri=f"fd:{LABEL}")

    def _wait_for_stop(self, begin: float) -> None:
        steps = list(STOPS[1:])
        while True:
            migration = self.parent("query-migrate")
            status = migration.get("status")
            if status == "pre-switchover":
                return
            if status in GONE:
                raise SwitchOverError(f"the migration {status}: {self._reason()}")
            seconds = time.monotonic() - begin
            self._check_controller()
            if seconds > self.seconds:
                raise SwitchOverError(
                    f"the memory was not copied within {seconds:.0f} s"
                    if self.stop_first
                    else f"the guest wrote faster than its memory was copied, for {seconds:.0f} s"
                )
            if steps and seconds > steps[0][0]:
                self.parent("migrate-set-parameters", **{"downtime-limit": steps.pop(0)[1]})
            time.sleep(PATIENT_POLL if _remaining(migration) > MUCH else POLL)

    def _switch(self, stopped: float, copied: float) -> None:
        """Replace the disk of the stopped parent, complete the migration, and continue."""
        self.snapshot()
        snapshotted = time.monotonic()
        self.parent("migrate-continue", state="pre-switchover")
        while (status := self.parent("query-migrate").get("status")) not in GONE:
            if time.monotonic() - snapshotted > RECOVERY:
                raise SwitchOverError(f"the migration did not end: {status}")
            time.sleep(POLL / 4)
        if status != "completed":
            raise SwitchOverError(f"the migration {status}: {self._reason()}")
        completed = time.monotonic()
        _resume(self.parent, completed + RECOVERY)
        self._note(stopped, copied, snapshotted, completed)
        self.times["downtime"] = float(self.parent("query-migrate").get("downtime", 0))

    def _note(self, stopped: float, copied: float, snapshotted: float, completed: float) -> None:
        """Note the times of a switch-over; the parent continues by now."""
        resumed = time.monotonic()
        self.times["snapshot"] = _milliseconds(copied, snapshotted)
        self.times["rest"] = _milliseconds(snapshotted, completed)
        self.times["resume"] = _milliseconds(completed, resumed)
        self.times["pause"] = _milliseconds(stopped, resumed)

    def _check_controller(self) -> None:
        if not self.controller_lives():
            raise SwitchOverError("the controller died")

    def _reason(self) -> str:
        return str(self.parent("query-migrate").get("error-desc", "no reason is known"))


def recover(parent: Any) -> None:
    """Make sure that a parent runs: cancel a migration that is not complete."""
    end = time.monotonic() + RECOVERY
    while parent("query-migrate").get("status", "none") not in GONE:
        parent("migrate_cancel")
        if time.monotonic() > end:
            break
        time.sleep(POLL)
    _resume(parent, end)


def _resume(parent: Any, end: float) -> None:
    """Continue a parent. QEMU refuses that until it has finished the migration, which is shortly
    after it reports the migration as complete.
    """
    while not parent("query-status")["running"]:
        try:
            parent.resume()
        except Exception:
            if time.monotonic() > end:
                raise
            time.sleep(POLL / 4)


class Machine:
    """The monitor of one domain.

    :param domain: a ``libvirt.virDomain``.
    """

    def __init__(self, domain: Any) -> None:
        self.domain = domain
        self.file_sets: list[int] = []

    def __call__(self, execute: str, **arguments: Any) -> Any:
        """Run one command; return its result."""
        import libvirt_qemu

        command: dict[str, Any] = {"execute": execute}
        if arguments:
            command["arguments"] = arguments
        reply = json.loads(libvirt_qemu.qemuMonitorCommand(self.domain, json.dumps(command), 0))
        return _result(execute, reply)

    def pass_file(self, descriptor: int, label: str) -> None:
        """Pass an open file to QEMU under a name."""
        self._pass("getfd", descriptor, {"fdname": label})

    def device_state(self) -> bytes:
        """Return the state of the devices of a stopped machine, without its memory."""
        with os.fdopen(os.memfd_create(LABEL), "rb") as file:
            # QEMU finds a passed file by the way in which it is open.
            writing = os.open(f"/proc/self/fd/{file.fileno()}", os.O_WRONLY)
            try:
                file_set = self._pass("add-fd", writing, {})["fdset-id"]
            finally:
                os.close(writing)
            self.file_sets.append(file_set)
            self("xen-save-devices-state", filename=f"/dev/fdset/{file_set}", live=False)
            return file.read()

    def forget_files(self) -> None:
        """Close the files of :meth:`device_state`. The machine must run: a stopped QEMU retains
        them.
        """
        while self.file_sets:
            self("remove-fd", **{"fdset-id": self.file_sets.pop()})

    def _pass(self, execute: str, descriptor: int, arguments: dict[str, Any]) -> Any:
        import libvirt_qemu

        command = {"execute": execute, "arguments": arguments}
        text, _files = libvirt_qemu.qemuMonitorCommandWithFiles(
            self.domain, json.dumps(command), [descriptor], 0
        )
        return _result(execute, json.loads(text))

    def suspend(self) -> None:
        """Stop a running machine."""
        self.domain.suspend()

    def resume(self) -> None:
        """Continue a stopped machine."""
        self.domain.resume()


def _result(execute: str, reply: dict[str, Any]) -> Any:
    if "error" in reply:
        raise SwitchOverError(f"QEMU refused {execute}: {reply['error'].get('desc', '')}")
    return reply.get("return")


def _capabilities(machine: Any, states: dict[str, bool]) -> None:
    machine(
        "migrate-set-capabilities",
        capabilities=[{"capability": name, "state": state} for name, state in states.items()],
    )


def _remaining(migration: dict[str, Any]) -> int:
    """Return the bytes of memory that a migration has still to copy, as far as QEMU knows."""
    return int(migration.get("ram", {}).get("remaining", 0))


def _milliseconds(begin: float, end: float) -> float:
    return round((end - begin) * 1000, 1)


def _lives() -> bool:
    """Return whether the controller lives: it holds the other end of the standard input."""
    readable, _writable, _errors = select.select([0], [], [], 0)
    return not readable or bool(os.read(0, 1))


def _read_order() -> dict[str, Any]:
    """Return the order that the controller sends in one line; empty if it gave up."""
    text = b""
    while not text.endswith(b"\n"):
        data = os.read(0, 65536)
        if not data:
            return {}
        text += data
    order: dict[str, Any] = json.loads(text)
    return order


def _connect(uris: list[str]) -> Any:
    import libvirt

    for uri in uris[:-1]:
        try:
            return libvirt.open(uri)
        except libvirt.libvirtError:
            continue
    return libvirt.open(uris[-1])


def main() -> None:
    """Wait for the order, carry it out, and write the result to the standard output."""
    import libvirt
    import libvirt_qemu  # noqa: F401  # loaded while the controller prepares the twin

    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    order = _read_order()
    if not order:
        return
    connection = _connect(order["uris"])
    parent = connection.lookupByUUIDString(order["parent"])
    twin = connection.lookupByUUIDString(order["twin"])
    flags = (
        libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
        | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT
        | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
        | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
    )

    def snapshot() -> None:
        parent.snapshotCreateXML(order["snapshot"], flags)

    switch_over = SwitchOver(
        Machine(parent),
        Machine(twin),
        snapshot,
        _lives,
        order["seconds"],
        stop_first=order["stop_first"],
        memory=MemoryCopy(order["pid"], order["blocks"]) if order["pid"] else None,
    )
    try:
        result: dict[str, Any] = {"times": switch_over.run()}
    except (SwitchOverError, OSError, libvirt.libvirtError) as error:
        result = {"error": str(error)}
    if _lives():
        os.write(1, json.dumps(result).encode() + b"\n")
    else:
        twin.destroy()
