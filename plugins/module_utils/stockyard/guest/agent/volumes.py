# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes in a guest: a file system made once, checked before each use, and mounted before Docker
may start.

The key of an encrypted one comes with each request to mount it. It is written nowhere: after a boot
such a volume waits for the controller.

What is mounted is on disk, so that a host that boots has its volumes again before it opens its
doors. Whether a file system may be made at all is the controller's word; the agent looks for itself
all the same, and makes none over data.
"""

from __future__ import annotations

import json
import os
from typing import Any, Protocol

from .apply import STATE

# Under a volume that belongs here, so that dockerd's own unit sees when it is not mounted.
DOCKER_ROOT = "/var/lib/docker"
NOT_MOUNTED = ".stockyard-not-mounted"
LIST = f"{STATE}/volumes.json"
BLANK = "blank"
FILESYSTEM = "ext4"
SEALED = "luks"
# Seconds for a disk that was just plugged in to be seen.
PATIENCE = 60.0


class Disks(Protocol):
    """What the agent asks of the running system's disks."""

    def find(self, serial: str, patience: float) -> str:
        """The device with this serial number.

        :raises TimeoutError: when it does not come.
        """

    def content(self, device: str) -> str:
        """``blank``, ``ext4``, ``luks``, or ``unknown``: something is on it that is nothing of
        ours.
        """

    def seal(self, device: str, key: str) -> None:
        """Make a disk one that is encrypted."""

    def unlock(self, device: str, serial: str, key: str) -> str:
        """The device with what is in an encrypted one, in clear and in its full size.

        :raises PermissionError: when the key is another one's.
        """

    def lock(self, serial: str) -> None:
        """Forget the key, when nothing of the disk is mounted."""

    def make(self, device: str, uuid: str) -> None:
        """Make a file system."""

    def check(self, device: str) -> None:
        """Check a file system that is not mounted, and mend what can be mended without asking.

        :raises OSError: when that is not enough.
        """

    def mounted(self, path: str) -> str:
        """The device that is mounted there; nothing when there is none."""

    def mount(self, device: str, path: str) -> None:
        """Mount a file system."""

    def unmount(self, path: str) -> None:
        """Unmount it.

        :raises OSError: when it is in use.
        """

    def grow(self, device: str) -> bool:
        """Let a mounted file system fill its device; whether there was anything to do."""

    def stop_engine(self) -> None:
        """Stop dockerd and all containers."""


class Volumes:
    """The volumes of one guest.

    :param root: ``/`` in a guest, any directory in a test.
    """

    def __init__(self, root: str, disks: Disks) -> None:
        self.root = root
        self.disks = disks

    def look(self, request: dict[str, Any]) -> dict[str, Any]:
        """What is on a disk."""
        return {"content": self.disks.content(self.disks.find(request["serial"], PATIENCE))}

    def make(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make a file system on a disk that has none.

        ``again`` says that it is on record that this was begun, on a blank disk, and that nobody
        could write since.

        :raises ValueError: when the disk is not blank.
        """
        device = self.disks.find(request["serial"], PATIENCE)
        found = self.disks.content(device)
        if found != BLANK and request.get("again") is not True:
            raise ValueError(f"the disk is not blank ({found}): no file system is made on it")
        if key := str(request.get("key") or ""):
            self.disks.lock(request["serial"])
            self.disks.seal(device, key)
            device = self.disks.unlock(device, request["serial"], key)
        self.disks.make(device, str(request["uuid"]))
        return {}

    def mount(self, request: dict[str, Any]) -> dict[str, Any]:
        """Have a volume mounted, now and after each boot."""
        serial, path = str(request["serial"]), str(request["path"])
        self._keep({**self._kept(), path: serial})
        self._mount(serial, path, str(request.get("key") or ""))
        return {"grown": self.disks.grow(self.disks.mounted(self._place(path)))}

    def unmount(self, request: dict[str, Any]) -> dict[str, Any]:
        """Have one volume unmounted for good, or all of them at a host's end."""
        kept = self._kept()
        paths = list(kept) if request.get("all") is True else [str(request["path"])]
        if DOCKER_ROOT in paths:
            self.disks.stop_engine()
        # What lies within another one goes first.
        for path in sorted(paths, reverse=True):
            if self.disks.mounted(self._place(path)):
                self.disks.unmount(self._place(path))
            if path in kept:
                self.disks.lock(kept.pop(path))
            self._keep(kept)
        return {}

    def missing(self) -> list[str]:
        """Where something is to be mounted, and is not. What cannot be read is told when it is
        mounted.
        """
        try:
            return sorted(
                path for path in self._kept() if not self.disks.mounted(self._place(path))
            )
        except (OSError, ValueError, AttributeError):
            return []

    def resume(self) -> None:
        """After a boot: mount everything again.

        :raises Exception: when one cannot be mounted; nothing of this host may start then.
        """
        for path, serial in sorted(self._kept().items()):
            self._mount(serial, path)

    def _mount(self, serial: str, path: str, key: str = "") -> None:
        place = self._place(path)
        device = self._clear(self.disks.find(serial, PATIENCE), serial, path, key)
        there = self.disks.mounted(place)
        if there == device:
            return
        if there:
            raise ValueError(f"{there} is mounted at {path}")
        if self.disks.content(device) != FILESYSTEM:
            raise ValueError(
                f"the disk for {path} has no {FILESYSTEM} file system, and is left as it is"
            )
        self.disks.check(device)
        self._prepare(path)
        self.disks.mount(device, place)

    def _clear(self, device: str, serial: str, path: str, key: str) -> str:
        """The device that the file system is on. What is to be encrypted is never used in clear."""
        sealed = self.disks.content(device) == SEALED
        if sealed and not key:
            raise ValueError(f"the volume for {path} is encrypted, and waits for its key")
        if key and not sealed:
            raise ValueError(f"the disk for {path} is not encrypted, and is left as it is")
        return self.disks.unlock(device, serial, key) if sealed else device

    def _prepare(self, path: str) -> None:
        """The place that it is mounted at; in Docker's, a file that says so where it is not."""
        place = self._place(path)
        os.makedirs(place, mode=0o755, exist_ok=True)
        if os.path.realpath(place) != os.path.join(os.path.realpath(self.root), path.lstrip("/")):
            raise ValueError(f"{path} leads elsewhere, by a symbolic link")
        if path == DOCKER_ROOT:
            with open(os.path.join(place, NOT_MOUNTED), "w", encoding="utf-8"):
                pass

    def _kept(self) -> dict[str, str]:
        """Serial number by path of all that is to be mounted."""
        try:
            with open(os.path.join(self.root, LIST), encoding="utf-8") as handle:
                found = json.load(handle)
        except FileNotFoundError:
            return {}
        return {str(path): str(serial) for path, serial in found.items()}

    def _keep(self, kept: dict[str, str]) -> None:
        target = os.path.join(self.root, LIST)
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        with open(target + ".new", "w", encoding="utf-8") as handle:
            json.dump(kept, handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(target + ".new", target)

    def _place(self, path: str) -> str:
        return os.path.join(self.root, path.lstrip("/"))
