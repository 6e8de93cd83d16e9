# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers: read-only content that several volumes share, under the disk of each.

To copy a volume, its content becomes a layer, and the volume and its copy continue with empty
overlays over it. No data is moved, so a copy takes the same time for any size. A layer is deleted
when no disk refers to it any more.
"""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Iterable
from pathlib import Path

from ...clock import Deadline
from ...errors import HypervisorError
from ...files import link, move, write_atomic
from .run import run

DISK, NEW = "disk.qcow2", "disk.new"
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
        link(volume / DISK, self.path(layer))
        (volume / NEW).unlink(missing_ok=True)
        self.overlay(volume / NEW, layer, 0, title, deadline)
        move(volume / NEW, volume / DISK)
        self.path(layer).chmod(0o400)
        write_atomic(volume / EQUAL, layer)
        return layer

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

    def unused(self, volumes: Iterable[Path]) -> list[Path]:
        """Return the layers that no disk of these volumes refers to, at any depth.

        :raises HypervisorError: if a disk cannot be read.
        """
        layers = (
            {file.name: file for file in self.folder.glob("*.qcow2")}
            if self.folder.is_dir()
            else {}
        )
        backing_names = {name: os.path.basename(backing(path)) for name, path in layers.items()}
        used: set[str] = set()
        for volume in volumes if layers else ():
            for top_layer in _layers_of(volume):
                name = top_layer
                while name and name not in used:
                    used.add(name)
                    name = backing_names.get(name, "")
        return [layers[name] for name in sorted(layers.keys() - used)]


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
    return snapshot_layers + [
        os.path.basename(backing(disk)) for disk in (volume / DISK, volume / NEW) if disk.exists()
    ]
