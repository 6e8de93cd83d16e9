# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes of the memory hypervisor: one directory for each, which a guest mounts as a link."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...clock import Deadline
from ...errors import HypervisorError, OperationRefused, Unsupported
from ...hypervisor.facts import VolumeFacts
from ...model.host import HostRecord
from ...model.observation import SweepResult, VolumeObservation
from ...model.volume import VolumeRecord, serial_of
from ..common.locks import held
from ..common.os_errors import translate_os_error
from ..common.volume_files import VolumeFiles
from .machines import find
from .state import StateFile

WAIT, POLL = 60.0, 0.002
CONTENT = "content"
# The content of an encrypted disk, and the file with the digest of its key. Nothing is really
# encrypted: this is a simulation.
SEALED, HEADER = "sealed", ".luks"
# The number of volumes for which a template has room by default.
ROOM = 4


class MemoryVolumes:
    """Volumes of one state file."""

    def __init__(self, state: StateFile, uri: str) -> None:
        self.state = state
        self.files = VolumeFiles(state.folder / "volumes", uri, self._lock)

    def observe(self, owner: str) -> VolumeObservation:
        return self.files.observe(owner)

    def create(self, record: VolumeRecord, source: VolumeRecord | None, deadline: Deadline) -> None:
        with self._lock():
            if source and self.files.find(source).attachment:
                raise OperationRefused(
                    "the source of the volume is in use.",
                    name=record.title,
                    remedy="detach the source first",
                )
            folder = self.files.add(record)
            with translate_os_error("the volume's disk cannot be created.", record.title):
                if source:
                    shutil.copytree(
                        self.files.path(source) / CONTENT, folder / CONTENT, symlinks=True
                    )
                else:
                    (folder / CONTENT).mkdir(mode=0o700)

    def claim(self, record: VolumeRecord, **changes: Any) -> VolumeRecord:
        return self.files.claim(record, **changes)

    def grow(self, record: VolumeRecord, size_gib: int, deadline: Deadline) -> None:
        self.files.find(record)

    def plug(self, host: HostRecord, record: VolumeRecord, deadline: Deadline) -> None:
        self._plugged(host, record, True)

    def unplug(self, host: HostRecord, record: VolumeRecord, deadline: Deadline) -> None:
        self._plugged(host, record, False)

    def destroy(self, record: VolumeRecord) -> None:
        with self._lock():
            self.files.remove(record)

    def sweep(self, owner: str, older_than: float, *, check: bool = False) -> SweepResult:
        if not self.files.folder.exists():
            return SweepResult((), ())
        with self._lock():
            return self.files.sweep(older_than, check=check)

    def facts(self, record: VolumeRecord) -> VolumeFacts:
        folder = self.files.path(record) / CONTENT
        used = sum(
            path.stat().st_size
            for path in folder.rglob("*")
            if path.is_file() and not path.is_symlink()
        )
        return VolumeFacts(disk=str(folder), allocated=used)

    def content(self, uuid: str) -> Path:
        """Return the directory with the content of a volume."""
        return self.files.folder / uuid / CONTENT

    def copy(self, record: VolumeRecord, content: Path) -> None:
        """Record a volume with a copy of a directory."""
        with self._lock():
            folder = self.files.add(record)
            with translate_os_error("the volume's disk cannot be created.", record.title):
                shutil.copytree(content, folder / CONTENT, symlinks=True)

    def in_machine(self, uuids: tuple[str, ...], root: Path) -> dict[str, Path]:
        """Return the directories of the volumes in a machine, by serial number.

        :param root: the disk of the machine.
        """
        return {
            serial_of(uuid): (
                stand_in(root, uuid) if stand_in(root, uuid).exists() else self.content(uuid)
            )
            for uuid in uuids
        }

    def _plugged(self, host: HostRecord, record: VolumeRecord, plug: bool) -> None:
        with self.state.change() as machines:
            machine, _record = find(machines, host)
            uuids = tuple(uuid for uuid in machine.volumes if uuid != record.uuid)
            if plug and machine.state != "running":
                raise HypervisorError("the machine of the host is not running.", name=host.title)
            if plug and len(uuids) >= ROOM:
                raise Unsupported(
                    f"the host has {ROOM} volumes, which is the maximum.", name=host.title
                )
            machines[host.domain] = replace(
                machine, volumes=(*uuids, record.uuid) if plug else uuids
            )

    def _lock(self) -> AbstractContextManager[None]:
        return held(self.state.folder / "locks", "volumes", Deadline(WAIT), POLL)


class FolderDisks:
    """Simulated disks of a guest that is a directory: a mount is a link to the volume's directory.

    :param root: the guest's disk.
    :param plugged: returns the directories that are plugged in now, by serial number.
    """

    def __init__(self, root: Path, plugged: Callable[[], dict[str, Path]]) -> None:
        self.root = root
        self._plugged = plugged

    def find(self, serial: str, patience: float) -> str:
        folder = self._plugged().get(serial)
        if folder is None:
            raise TimeoutError(f"no disk has the serial number {serial}")
        return str(folder)

    def content(self, device: str) -> str:
        if Path(device, HEADER).exists():
            return "luks"
        if Path(device, ".filesystem").exists():
            return "ext4"
        return "unknown" if any(Path(device).iterdir()) else "blank"

    def encrypt(self, device: str, key: str) -> None:
        shutil.rmtree(Path(device, SEALED), ignore_errors=True)
        Path(device, SEALED).mkdir()
        Path(device, HEADER).write_text(hashlib.sha256(key.encode()).hexdigest(), encoding="ascii")

    def unlock(self, device: str, serial: str, key: str) -> str:
        if (
            Path(device, HEADER).read_text(encoding="ascii")
            != hashlib.sha256(key.encode()).hexdigest()
        ):
            raise PermissionError(f"the key does not open {device}")
        return str(Path(device, SEALED))

    def lock(self, serial: str) -> None:
        return

    def format(self, device: str, uuid: str) -> None:
        Path(device, ".filesystem").write_text(uuid)

    def check(self, device: str) -> None:
        return

    def mounted(self, path: str) -> str:
        return str(Path(path).readlink()) if Path(path).is_symlink() else ""

    def mount(self, device: str, path: str) -> None:
        place = Path(path)
        place.rename(_beneath(place))
        place.symlink_to(device)

    def unmount(self, path: str) -> None:
        place = Path(path)
        place.unlink()
        _beneath(place).rename(place)

    def grow(self, device: str) -> bool:
        return False

    def zeroes_freed_memory(self) -> bool:
        return True

    def stop_engine(self) -> None:
        return

    def stop_users(self, path: str) -> None:
        return

    def move_mounts(self, folders: Mapping[Path, Path]) -> None:
        """Mount other directories in place of those that are mounted.

        :param folders: the new directory for each mounted one.
        """
        for beneath in self.root.rglob(f"*{BENEATH}"):
            place = beneath.with_name(beneath.name.removesuffix(BENEATH))
            if place.is_symlink() and place.readlink() in folders:
                folder = folders[place.readlink()]
                place.unlink()
                place.symlink_to(folder)

    def forget(self) -> None:
        """Undo all mounts, as the shutdown of a machine does."""
        for place in [
            path.with_name(path.name.removesuffix(BENEATH))
            for path in sorted(self.root.rglob(f"*{BENEATH}"))
        ]:
            if place.is_symlink():
                place.unlink()
            _beneath(place).rename(place)


BENEATH = ".beneath"
# The directory of the disks that stand in for volumes of a branch's parent.
STAND_INS = "run/stand-ins"


def stand_in(root: Path, uuid: str) -> Path:
    """Return the directory in the disk of a child that stands in for a volume of its parent.

    :param root: the disk of the child.
    """
    return root / STAND_INS / uuid


def _beneath(place: Path) -> Path:
    return place.with_name(f"{place.name}{BENEATH}")
