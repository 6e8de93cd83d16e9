# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests of a simulated vCenter: the real agent with its real guestinfo line, a directory for
each machine.

A process of its own: it is told on standard input where the simulator's side door is, and ends with
its parent.
"""

from __future__ import annotations

import copy
import hashlib
import http.client
import json
import os
import shutil
import sys
import tarfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stockyard.guest.agent import wire
from stockyard.guest.agent.apply import Identity
from stockyard.guest.agent.guestinfo import Guestinfo
from stockyard.guest.agent.main import Agent
from stockyard.guest.agent.volumes import Volumes
from stockyard.providers.memory.guest import NoEffects, boot
from stockyard.providers.memory.volumes import FolderDisks

ENGINE = "vcsim"
WAIT = 20
KEYS = "stockyard."
SERIAL = 20


class Frozen(BaseException):
    """Where a guest stands that was frozen: nothing of it goes on, but in its clones."""


class SideDoor:
    """``vmware-rpctool`` of one guest."""

    def __init__(self) -> None:
        self.info: dict[str, str] = {}
        self.written: dict[str, str] = {}
        self.freezes = False

    def get(self, name: str) -> str:
        return self.info.get(KEYS + name, "")

    def set(self, name: str, value: str) -> None:
        self.info[KEYS + name] = self.written[KEYS + name] = value

    def freeze(self) -> None:
        self.freezes = True
        raise Frozen

    def taken(self) -> dict[str, Any]:
        """Return the requests since the last call."""
        handlers: dict[str, Any] = {"info": self.written, "freeze": self.freezes}
        self.written, self.freezes = {}, False
        return handlers if handlers["info"] or handlers["freeze"] else {}


class Platters:
    """The content of volumes: a directory while a guest uses it, and always a packed file of the
    disk, which is copied.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def load(self, file: str) -> Path:
        """The directory of a disk."""
        place = self._place(file)
        if not place.exists():
            place.mkdir(parents=True)
            if Path(file).stat().st_size:
                with tarfile.open(file) as packed:
                    packed.extractall(place)  # noqa: S202  # it was packed here
        return place

    def save(self, file: str) -> None:
        """Pack the content of a disk, unless no guest used it, or it was deleted."""
        if self._place(file).exists() and Path(file).exists():
            with tarfile.open(file, "w") as packed:
                packed.add(self._place(file), ".")

    def drop(self, file: str) -> None:
        """Delete a disk's directory if no machine uses it."""
        if self._place(file).exists():
            self.save(file)
            shutil.rmtree(self._place(file))

    def _place(self, file: str) -> Path:
        return self.directory / hashlib.sha256(file.encode()).hexdigest()


class WarmAgent(Agent):
    """The agent in a guest that has no dockerd to wait for or to warm up."""

    def answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = wire.decode(line)
        except wire.WireError:
            request = {}
        if request.get("op") in ("prepare", "warm-up"):
            return {"id": request.get("id"), "ok": True, "engine": ENGINE}
        return super().answer(line)


class Guest:
    """One guest: its disk, its agent and how often it was booted."""

    def __init__(self, root: Path, source: Guest | None, platters: Platters) -> None:
        self.root = root
        self.platters = platters
        self.disks: dict[str, str] = {}
        self.boots = -1
        self.door = SideDoor()
        if source is None:
            root.mkdir(parents=True)
            self.line = self._started()
            return
        shutil.copytree(source.root, root, symlinks=True)
        self.line = copy.copy(source.line)
        self.line.agent, self.line.rpc = self._agent(), self.door

    def serve(self, guest_state: dict[str, Any]) -> dict[str, Any]:
        """Take what the simulator says of this machine; returns what the guest asks for."""
        self._plug(guest_state["disks"] or {})
        if self.boots not in (-1, guest_state["boots"]):
            boot(self.root, self.plugged)
            self.line = self._started()
        self.boots = guest_state["boots"]
        self.door.info = dict(guest_state["info"] or {})
        if guest_state["power"] != "poweredOn" or guest_state["frozen"]:
            return {}
        try:
            while self.line.step():
                if self.line.agent.restart_due:
                    self.line = self._started()
        except Frozen:
            pass
        # On the disk before the answer is sent.
        for file in self.disks.values():
            self.platters.save(file)
        return self.door.taken()

    def plugged(self) -> dict[str, Path]:
        """The directories of the volumes that are in it, by serial number: the end of the disk's
        uuid.
        """
        return {
            uuid.replace("-", "").lower()[-SERIAL:]: self.platters.load(f)
            for uuid, f in self.disks.items()
        }

    def _plug(self, disks: dict[str, str]) -> None:
        unused_files = [file for uuid, file in self.disks.items() if uuid not in disks]
        self.disks = disks
        for file in unused_files:
            self.platters.drop(file)

    def _started(self) -> Guestinfo:
        return Guestinfo(self._agent(), self.door)

    def _agent(self) -> Agent:
        volumes = Volumes(str(self.root), FolderDisks(self.root, self.plugged))
        return WarmAgent(Identity(str(self.root), NoEffects()), volumes)


class Guests:
    """All guests of a simulator."""

    def __init__(self, control: str, directory: Path) -> None:
        self.directory = directory
        self.known: dict[str, Guest] = {}
        self.platters = Platters(directory / "disks")
        self._connection = http.client.HTTPConnection(control, timeout=3 * WAIT)
        self._seen = 0

    def run(self) -> None:
        """Serve for as long as there is a simulator."""
        while True:
            answer = self._ask("GET", f"/guests?since={self._seen}&timeout={WAIT}")
            self._seen = answer["seq"]
            answers = list(self._served(sorted(answer["guests"], key=_order)))
            if answers:
                self._ask("POST", "/guests", answers)

    def _served(self, changed: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        for changed_state in changed:
            machine = changed_state["machine"]
            if changed_state["gone"]:
                if self.known.pop(machine, None):
                    shutil.rmtree(self.directory / machine)
                continue
            if (
                not (
                    changed_state["info"]
                    and any(name.startswith(KEYS) for name in changed_state["info"])
                )
                and machine not in self.known
            ):
                continue
            if machine not in self.known:
                source = self.known.get(changed_state["source"])
                self.known[machine] = Guest(self.directory / machine, source, self.platters)
            if request_of_guest := self.known[machine].serve(changed_state):
                yield {"machine": machine, **request_of_guest}

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        self._connection.request(method, path, json.dumps(body))
        return json.loads(self._connection.getresponse().read())


def _order(guest_state: dict[str, Any]) -> tuple[bool, int]:
    """The order in which machines came to be, those that are gone last: a clone is made of its
    source.
    """
    return guest_state["gone"], int(guest_state["machine"].rpartition("-")[2])


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    settings = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    directory = Path(settings["directory"])
    directory.mkdir(exist_ok=True)
    print("up", flush=True)
    try:
        Guests(settings["control"], directory).run()
    except (OSError, http.client.HTTPException):
        return  # the simulator has gone


if __name__ == "__main__":
    main()
