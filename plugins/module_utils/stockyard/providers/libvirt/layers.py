# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers: read-only content that several volumes share, under the disk of each.

To copy a volume, its content becomes a layer, and the volume and its copy continue with empty
overlays over it. No data is moved, so a copy takes the same time for any size. A layer is deleted
when no disk refers to it any more.

A branch of a host does the same to the volumes of a host that runs. The host continues in an
overlay with a name of its own, because QEMU opens the former disk again by its name.
"""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...clock import Deadline
from ...errors import HypervisorError
from ...files import link, move, write_atomic
from ..common.run import run

DISK, NEW = "disk.qcow2", "disk.new"
# The names of a volume's disk: ``disk.qcow2``, and with the uuid of a branch the overlay in which
# the volume continued after that branch.
DISKS = "disk*.qcow2"
# File with the name of a snapshot's layer; file with the name of the layer that equals the volume,
# as long as no host has used the volume since.
SNAPSHOT, EQUAL = "layer", "equal-to"
GIB = 1 << 30
# docs/interop/qcow2.txt of QEMU: the magic number; the offset at which position and length of the
# backing file's name are stored.
QCOW2, NAME_AT = b"QFI\xfb", 8


class Layers:
    """The layers of one store.

    :param folder: their directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, layer: str) -> Path:
        """Return the path of a layer."""
        return self.folder / f"{layer}.qcow2"

    def of(self, volume: Path, title: str, deadline: Deadline) -> str:
        """Return the layer with the present content of a volume; create the layer if needed.

        The layer is created from the volume's disk, which is whole even if the process ends in
        between. Call it under the lock, for a volume that no host uses.
        """
        for name in (SNAPSHOT, EQUAL):
            if (volume / name).exists():
                return (volume / name).read_text(encoding="ascii")
        layer = str(uuid.uuid4())
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        link(top(volume), self.path(layer))
        (volume / NEW).unlink(missing_ok=True)
        self.overlay(volume / NEW, layer, 0, title, deadline)
        move(volume / NEW, volume / DISK)
        self.path(layer).chmod(0o400)
        write_atomic(volume / EQUAL, layer)
        # From here on the former overlays are second names of layers.
        for path in volume.glob(DISKS):
            if path.name != DISK:
                path.unlink()
        return layer

    def branch(
        self, volume: Path, disk: Path, layer: str, branch: str, title: str, deadline: Deadline
    ) -> Path:
        """Give the disk of a volume a second name as a layer, and create the overlay over it in
        which a running host continues; return the overlay. Call it under the lock.

        The disk becomes the layer when the host writes to the overlay instead.

        :param branch: the uuid of the branch.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        link(disk, self.path(layer))
        (volume / NEW).unlink(missing_ok=True)
        self.overlay(volume / NEW, layer, 0, title, deadline)
        target = overlay_of(volume, branch)
        move(volume / NEW, target)
        return target

    def overlay(
        self, target: Path, layer: str, size_gib: int, title: str, deadline: Deadline
    ) -> None:
        """Create an empty disk over a layer.

        :param size_gib: 0 for the layer's own size.
        """
        size = [f"{size_gib}G"] if size_gib else []
        backing = ["-F", "qcow2", "-b", str(self.path(layer))]
        run(
            ["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(target), *size],
            deadline,
            name=title,
        )

    def unused(self, volumes: Iterable[Path], names: Iterable[str] = ()) -> list[Path]:
        """Return the layers that no disk of these volumes refers to, at any depth.

        :param names: layers that are used in other ways.
        :raises HypervisorError: if a disk cannot be read.
        """
        layers = (
            {file.name: file for file in self.folder.glob("*.qcow2")}
            if self.folder.is_dir()
            else {}
        )
        backing_names = {name: os.path.basename(backing(path)) for name, path in layers.items()}
        used: set[str] = set()
        roots = [f"{name}.qcow2" for name in names]
        for volume in volumes if layers else ():
            roots += _layers_of(volume)
        for root in roots:
            name = root
            while name and name not in used:
                used.add(name)
                name = backing_names.get(name, "")
        return [layers[name] for name in sorted(layers.keys() - used)]


def overlay_of(volume: Path, branch: str) -> Path:
    """Return the overlay in which a volume continues after a branch of its host.

    :param branch: the uuid of the branch.
    """
    return volume / f"disk-{branch}.qcow2"


def top(volume: Path) -> Path:
    """Return the disk of a volume: the file that no other file of the volume lies over.

    After a branch, former disks keep their names for a time. An overlay that its host was never
    switched to is empty, and so has the content of the disk under it; if that disk grew since, the
    overlay is too small. If layers were read into the disk, it lies over none of the former disks,
    and was written last.

    :raises HypervisorError: if a disk cannot be read.
    """
    disks = sorted(volume.glob(DISKS))
    if len(disks) < 2:
        return volume / DISK if not disks else disks[0]
    beneath: set[tuple[int, int]] = set()
    candidates = []
    for disk in disks:
        layers = [file for file in _chain(disk) if file.exists()]
        if layers and virtual_size(disk) < virtual_size(layers[0]):
            continue
        candidates.append(disk)
        beneath |= {_inode(file) for file in layers}
    tops = [disk for disk in candidates if _inode(disk) not in beneath]
    if not tops:
        raise HypervisorError("none of the volume's disks is complete.", name=str(volume))
    return max(tops, key=lambda disk: disk.stat().st_mtime_ns)


def _chain(disk: Path) -> Iterator[Path]:
    """Return the files under a disk, the nearest first."""
    while name := backing(disk):
        disk = Path(name)
        yield disk
        if not disk.exists():
            return


def _inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def backing(disk: Path) -> str:
    """Return the path of the file that a qcow2 disk lies over; empty if the disk is self-contained.

    :raises HypervisorError: if the disk cannot be read, or is not a qcow2 disk.
    """
    try:
        with disk.open("rb") as handle:
            header = handle.read(20)
            if header[:4] != QCOW2:
                raise HypervisorError("the volume's disk is not in qcow2 format.", name=str(disk))
            offset, length = struct.unpack_from(">QI", header, NAME_AT)
            handle.seek(offset)
            return handle.read(length).decode() if offset else ""
    except (OSError, struct.error, UnicodeDecodeError) as error:
        raise HypervisorError(
            "a volume's disk cannot be read.", name=str(disk), cause=str(error)
        ) from error


def virtual_size(disk: Path) -> int:
    """Return the size of a qcow2 disk as its guest sees it, in bytes."""
    try:
        with disk.open("rb") as handle:
            return int(struct.unpack_from(">Q", handle.read(32), 24)[0])
    except (OSError, struct.error) as error:
        raise HypervisorError(
            "a volume's disk cannot be read.", name=str(disk), cause=str(error)
        ) from error


def _layers_of(volume: Path) -> list[str]:
    """Return the file names of the layers directly under a volume."""
    snapshot_layers = (
        [f"{(volume / SNAPSHOT).read_text(encoding='ascii')}.qcow2"]
        if (volume / SNAPSHOT).exists()
        else []
    )
    disks = [*volume.glob(DISKS), *([volume / NEW] if (volume / NEW).exists() else [])]
    return snapshot_layers + [os.path.basename(backing(disk)) for disk in disks]
