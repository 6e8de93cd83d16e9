# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes in a guest: the agent creates a file system once, checks it before each use, and mounts
it before Docker can start.

Each request to mount an encrypted volume contains the key. The key is written nowhere: after a boot
such a volume waits for the controller. The memory of the processes that had the key is freed, and
the kernel zeroes freed memory in images with encrypted data.

The list of mounts is on disk, so that a host mounts its volumes at boot before it opens to users.
The controller decides whether a file system may be created; the agent checks the disk all the same,
and never creates a file system over data.
"""

from __future__ import annotations

import json
import os
from typing import Any, Protocol

from .apply import STATE

# The flag file is in the mount point, under the volume: dockerd's unit checks for it, to detect
# that the volume is not mounted.
DOCKER_ROOT = "/var/lib/docker"
NOT_MOUNTED = ".stockyard-not-mounted"
LIST = f"{STATE}/volumes.json"
# Exists since the first key after a boot.
KEY_FLAG = "run/stockyard/key-received"
BLANK = "blank"
FILESYSTEM = "ext4"
ENCRYPTED = "luks"
# Seconds for a disk to appear after it was plugged in.
PATIENCE = 60.0


class Disks(Protocol):
    """The disks of the running system."""

    def find(self, serial: str, patience: float) -> str:
        """Return the device with this serial number.

        :param patience: seconds to wait for it.
        :raises TimeoutError: if it does not appear.
        """

    def content(self, device: str) -> str:
        """Return ``blank``, ``ext4``, ``luks``, or ``unknown`` for data of any other kind."""

    def encrypt(self, device: str, key: str) -> None:
        """Encrypt a disk. Its data is lost."""

    def unlock(self, device: str, serial: str, key: str) -> str:
        """Open an encrypted disk in its full size; return the device with its clear content.

        :raises PermissionError: if the key is wrong.
        """

    def lock(self, serial: str) -> None:
        """Close an encrypted disk that is not mounted; the kernel forgets the key."""

    def format(self, device: str, uuid: str) -> None:
        """Create a file system."""

    def check(self, device: str) -> None:
        """Check a file system that is not mounted, and repair it as far as that is safe.

        :raises OSError: if errors remain.
        """

    def mounted(self, path: str) -> str:
        """Return the device that is mounted at a path, empty if there is none."""

    def mount(self, device: str, path: str) -> None:
        """Mount a file system."""

    def unmount(self, path: str) -> None:
        """Unmount a file system.

        :raises OSError: if it is in use.
        """

    def grow(self, device: str) -> bool:
        """Grow a mounted file system to the size of its device. Return whether it grew."""

    def zeroes_freed_memory(self) -> bool:
        """Return whether the kernel zeroes memory when it is freed."""

    def stop_engine(self) -> None:
        """Stop dockerd and all containers."""

    def stop_users(self, path: str) -> None:
        """Stop the containers that have a directory on, below or above a mount point, and kill all
        other processes that use it.
        """


class Volumes:
    """The volumes of one guest.

    :param root: ``/`` in a guest, any directory in a test.
    """

    def __init__(self, root: str, disks: Disks) -> None:
        self.root = root
        self.disks = disks

    def probe(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the kind of content on a disk."""
        return {"content": self.disks.content(self.disks.find(request["serial"], PATIENCE))}

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """Create a file system on a blank disk.

        ``again`` in the request means: the volume's record shows that an earlier attempt began on a
        blank disk, and that no host could write to it since.

        :raises ValueError: if the disk is not blank.
        """
        device = self.disks.find(request["serial"], PATIENCE)
        content = self.disks.content(device)
        if content != BLANK and request.get("again") is not True:
            raise ValueError(f"the disk is not blank ({content}): no file system is made on it")
        if key := str(request.get("key") or ""):
            self.disks.lock(request["serial"])
            self.disks.encrypt(device, key)
            device = self.disks.unlock(device, request["serial"], key)
        self.disks.format(device, str(request["uuid"]))
        return {}

    def mount(self, request: dict[str, Any]) -> dict[str, Any]:
        """Mount a volume now and after each boot."""
        serial, path = str(request["serial"]), str(request["path"])
        self._write_mounts({**self._read_mounts(), path: serial})
        self._mount(serial, path, str(request.get("key") or ""))
        return {"grown": self.disks.grow(self.disks.mounted(self._mount_point(path)))}

    def unmount(self, request: dict[str, Any]) -> dict[str, Any]:
        """Unmount one volume permanently, or all volumes before the host is deleted."""
        mounts = self._read_mounts()
        paths = list(mounts) if request.get("all") is True else [str(request["path"])]
        if DOCKER_ROOT in paths:
            self.disks.stop_engine()
        # Nested mounts are unmounted first.
        for path in sorted(paths, reverse=True):
            if self.disks.mounted(self._mount_point(path)):
                self.disks.unmount(self._mount_point(path))
            if path in mounts:
                self.disks.lock(mounts.pop(path))
            self._write_mounts(mounts)
        return {}

    def drop(self, request: dict[str, Any]) -> dict[str, Any]:
        """Stop the programs that use a volume, and unmount it permanently: a fork of a branch gets
        no volumes.
        """
        self.disks.stop_users(self._mount_point(str(request["path"])))
        return self.unmount({"path": request["path"]})

    def note_key(self) -> None:
        """Note until the next boot that this guest had a key."""
        path = os.path.join(self.root, KEY_FLAG)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="ascii"):
            pass

    def keys_remain(self) -> bool:
        """Return whether free memory can contain keys of volumes that are locked."""
        flag = os.path.join(self.root, KEY_FLAG)
        return os.path.exists(flag) and not self.disks.zeroes_freed_memory()

    def missing(self) -> list[str]:
        """Return the paths at which a listed volume is not mounted. If the list cannot be read, it
        is empty here; the next mount reports the error.
        """
        try:
            return sorted(
                path
                for path in self._read_mounts()
                if not self.disks.mounted(self._mount_point(path))
            )
        except (OSError, ValueError, AttributeError):
            return []

    def resume(self) -> None:
        """Mount all listed volumes after a boot.

        :raises Exception: if a volume cannot be mounted; no service of this host may start then.
        """
        for path, serial in sorted(self._read_mounts().items()):
            self._mount(serial, path)

    def _mount(self, serial: str, path: str, key: str = "") -> None:
        mount_point = self._mount_point(path)
        device = self._clear(self.disks.find(serial, PATIENCE), serial, path, key)
        existing = self.disks.mounted(mount_point)
        if existing == device:
            return
        if existing:
            raise ValueError(f"{existing} is mounted at {path}")
        if self.disks.content(device) != FILESYSTEM:
            raise ValueError(
                f"the disk for {path} has no {FILESYSTEM} file system, and is left as it is"
            )
        self.disks.check(device)
        self._prepare(path)
        self.disks.mount(device, mount_point)

    def _clear(self, device: str, serial: str, path: str, key: str) -> str:
        """Return the device with the file system. A volume with a key is never used unencrypted."""
        encrypted = self.disks.content(device) == ENCRYPTED
        if encrypted and not key:
            raise ValueError(f"the volume for {path} is encrypted, and waits for its key")
        if key and not encrypted:
            raise ValueError(f"the disk for {path} is not encrypted, and is left as it is")
        return self.disks.unlock(device, serial, key) if encrypted else device

    def _prepare(self, path: str) -> None:
        """Create the mount point. Docker's also gets a flag file, which is visible only if the
        volume is not mounted.
        """
        mount_point = self._mount_point(path)
        os.makedirs(mount_point, mode=0o755, exist_ok=True)
        if os.path.realpath(mount_point) != os.path.join(
            os.path.realpath(self.root), path.lstrip("/")
        ):
            raise ValueError(f"{path} leads elsewhere, by a symbolic link")
        if path == DOCKER_ROOT:
            with open(os.path.join(mount_point, NOT_MOUNTED), "w", encoding="utf-8"):
                pass

    def _read_mounts(self) -> dict[str, str]:
        """Return the list of mounts: serial number by path."""
        try:
            with open(os.path.join(self.root, LIST), encoding="utf-8") as handle:
                serials = json.load(handle)
        except FileNotFoundError:
            return {}
        return {str(path): str(serial) for path, serial in serials.items()}

    def _write_mounts(self, mounts: dict[str, str]) -> None:
        target = os.path.join(self.root, LIST)
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        with open(target + ".new", "w", encoding="utf-8") as handle:
            json.dump(mounts, handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(target + ".new", target)

    def _mount_point(self, path: str) -> str:
        return os.path.join(self.root, path.lstrip("/"))
