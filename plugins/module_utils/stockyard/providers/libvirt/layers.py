# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Layers: what several volumes have in common, read-only, under the disk of each.

A volume that is copied gives what it holds to a layer, and goes on with an empty overlay over it,
as the copy does. No data is moved, so a copy takes the same time whatever the size. A layer goes
when no disk lives on it any more.
"""

from __future__ import annotations

import os
import struct
import uuid
from collections.abc import Iterable
from pathlib import Path

from ...clock import Deadline
from ...errors import HypervisorError
from .run import run

DISK, NEW = "disk.qcow2", "disk.new"
# The layer that a snapshot is; the one that a volume is equal to, as long as nobody had it since.
SNAPSHOT, EQUAL = "layer", "equal-to"
GIB = 1 << 30
# docs/interop/qcow2.txt of QEMU: the magic number; where the backing file's name is, and how long.
QCOW2, NAME_AT = b"QFI\xfb", 8


class Layers:
    """The layers of one store.

    :param folder: where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, layer: str) -> Path:
        """Where a layer is."""
        return self.folder / f"{layer}.qcow2"

    def of(self, volume: Path, title: str, deadline: Deadline) -> str:
        """The layer that holds what a volume holds now; made of its disk when there is none yet.

        Whatever moment this is ended at, the disk is whole. Call it under the lock, for a volume
        that nobody has.
        """
        for name in (SNAPSHOT, EQUAL):
            if (volume / name).exists():
                return (volume / name).read_text(encoding="ascii")
        layer = str(uuid.uuid4())
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.link(volume / DISK, self.path(layer))
        (volume / NEW).unlink(missing_ok=True)
        self.overlay(volume / NEW, layer, 0, title, deadline)
        os.replace(volume / NEW, volume / DISK)
        self.path(layer).chmod(0o400)
        (volume / EQUAL).write_text(layer, encoding="ascii")
        return layer

    def overlay(
        self, target: Path, layer: str, size_gib: int, title: str, deadline: Deadline
    ) -> None:
        """Make an empty disk over a layer.

        :param size_gib: 0 for the layer's own.
        """
        size = [f"{size_gib}G"] if size_gib else []
        backing = ["-F", "qcow2", "-b", str(self.path(layer))]
        run(
            ["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(target), *size],
            deadline,
            name=title,
        )

    def unused(self, volumes: Iterable[Path]) -> list[Path]:
        """Layers that no disk of these volumes lives on, at any depth.

        :raises HypervisorError: when that cannot be read of one.
        """
        there = {p.name: p for p in self.folder.glob("*.qcow2")} if self.folder.is_dir() else {}
        beneath = {name: os.path.basename(backing(path)) for name, path in there.items()}
        used: set[str] = set()
        for volume in volumes if there else ():
            for first in _layers_of(volume):
                name = first
                while name and name not in used:
                    used.add(name)
                    name = beneath.get(name, "")
        return [there[name] for name in sorted(there.keys() - used)]


def backing(disk: Path) -> str:
    """The path of the file that a qcow2 disk lies over; empty when it stands alone.

    :raises HypervisorError: when it cannot be read, or is no such disk.
    """
    try:
        with disk.open("rb") as handle:
            head = handle.read(20)
            if head[:4] != QCOW2:
                raise HypervisorError("it is not a qcow2 disk.", name=str(disk))
            offset, length = struct.unpack_from(">QI", head, NAME_AT)
            handle.seek(offset)
            return handle.read(length).decode() if offset else ""
    except (OSError, struct.error, UnicodeDecodeError) as error:
        raise HypervisorError(
            "a volume's disk cannot be read.", name=str(disk), cause=str(error)
        ) from error


def virtual_size(disk: Path) -> int:
    """How large a qcow2 disk is to its guest, in bytes."""
    try:
        with disk.open("rb") as handle:
            return int(struct.unpack_from(">Q", handle.read(32), 24)[0])
    except (OSError, struct.error) as error:
        raise HypervisorError(
            "a volume's disk cannot be read.", name=str(disk), cause=str(error)
        ) from error


def _layers_of(volume: Path) -> list[str]:
    """File names of the layers right under a volume."""
    found = (
        [f"{(volume / SNAPSHOT).read_text(encoding='ascii')}.qcow2"]
        if (volume / SNAPSHOT).exists()
        else []
    )
    return found + [
        os.path.basename(backing(p)) for p in (volume / DISK, volume / NEW) if p.exists()
    ]
