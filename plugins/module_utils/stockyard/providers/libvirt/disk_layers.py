# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk layers of branched hosts.

A branch turns the disk of its parent into a layer: a file that never changes again and that has a
name in one directory, independent of the parent. The parent continues in an empty overlay, and each
child has an overlay. A layer is deleted when no disk lies over it any more. Nothing is ever
committed into a layer: a long chain is shortened by reading the layers into the top overlay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ...clock import Deadline
from ...errors import HypervisorError
from ...files import link, move
from . import disks
from .layers import backing
from .xml.element import Element, element, serialize

SUFFIX = ".qcow2"
TARGET = "vda"
# More images than any chain has: a longer chain is a circle.
LONGEST = 100


class DiskLayers:
    """The layers of one store.

    :param folder: their directory.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Return the path of a layer."""
        return self.folder / f"{name}{SUFFIX}"

    def add(self, name: str, disk: Path) -> Path:
        """Give a disk its second name, under which overlays refer to it; return that.

        The disk becomes a layer when its machine writes to an overlay instead.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        link(disk, self.path(name))
        return self.path(name)

    def depth(self, disk: Path) -> int:
        """Return the number of layers under a disk."""
        return sum(path.parent == self.folder for path in chain(disk))

    def unused(self, disks_of_machines: Iterable[Path], names: Iterable[str]) -> list[Path]:
        """Return the layers to delete.

        :param disks_of_machines: every disk that can lie over layers.
        :param names: layers that are used in other ways.
        :raises HypervisorError: if a disk cannot be read.
        """
        layers = set(self.folder.glob(f"*{SUFFIX}")) if self.folder.is_dir() else set()
        if not layers:
            return []
        roots = [*disks_of_machines, *(self.path(name) for name in names)]
        used = {path for root in roots if root.exists() for path in (root, *chain(root))}
        return sorted(layers - used)


def chain(disk: Path) -> Iterator[Path]:
    """Return the files under a qcow2 disk, the nearest first.

    :raises HypervisorError: if a file cannot be read.
    """
    for _image in range(LONGEST):
        name = backing(disk)
        if not name:
            return
        disk = Path(name)
        yield disk
        if not disk.exists():
            return
    raise HypervisorError("the chain of disks is a circle.", name=str(disk))


def sources(definition: Element) -> list[Path]:
    """Return the files of a machine's own disk, according to its definition: the file that it
    writes to, and for a running machine the files under it.
    """
    for disk in definition.findall("./devices/disk"):
        target = disk.find("target")
        if target is not None and target.get("dev") == TARGET:
            return [Path(source.get("file", "")) for source in disk.iter("source")]
    return []


def top(definition: Element) -> Path:
    """Return the file that a machine writes to, according to its definition.

    :raises HypervisorError: if the machine has no disk.
    """
    files = sources(definition)
    if not files:
        raise HypervisorError("the definition of the machine has no disk.")
    return files[0]


def overlay(parent_disk: Path, layer: Path, name: str, title: str, deadline: Deadline) -> Path:
    """Create the overlay in which a parent continues; return its path."""
    path = parent_disk.with_name(f"disk-{name}{SUFFIX}")
    unfinished_path = path.with_suffix(".new")
    disks.overlay(unfinished_path, layer, title, deadline)
    move(unfinished_path, path)
    return path


def snapshot(disk: Path) -> str:
    """Return libvirt's description of the snapshot that makes a file the top of a machine's
    disk.
    """
    return serialize(
        element(
            "domainsnapshot",
            element(
                "disks",
                element(
                    "disk",
                    element("driver", type="qcow2"),
                    element("source", file=str(disk)),
                    name=TARGET,
                    snapshot="external",
                    type="file",
                ),
            ),
        )
    )
