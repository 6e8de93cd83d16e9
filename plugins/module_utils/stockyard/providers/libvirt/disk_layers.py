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

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from string import ascii_lowercase

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


def targets_of(definition: Element) -> list[str]:
    """Return the targets of a machine's disks, according to its definition."""
    elements = definition.findall("./devices/disk/target")
    return [element.get("dev", "") for element in elements]


def targets() -> Iterator[str]:
    """Return the targets of the disks of a machine after the first one."""
    return (f"vd{letter}" for letter in ascii_lowercase[1:])


def target_and_file(disk: Element) -> tuple[str, Path]:
    """Return the target of a disk of a definition, and the file that its machine writes to.

    :raises HypervisorError: if the definition lacks one of them.
    """
    target, source = disk.find("target"), disk.find("source")
    if target is None or source is None:
        raise HypervisorError("a disk of the definition has no target or no file.")
    return target.get("dev", ""), Path(source.get("file", ""))


def port(disk: Element) -> int:
    """Return the PCI bus of a disk of a running machine.

    :raises HypervisorError: if it is behind no root port.
    """
    address = disk.find("address")
    bus = int(address.get("bus", "0"), 0) if address is not None else 0
    if not bus:
        raise HypervisorError(
            "a disk of the machine is not behind a root port.",
            remedy="replace the host, and run again",
        )
    return bus


def disk_with(definition: Element, path: Path) -> Element | None:
    """Return the disk of a definition with a file, if it has one."""
    return next(
        (
            disk
            for disk in definition.findall("./devices/disk")
            if disk.find("source") is not None and target_and_file(disk)[1] == path
        ),
        None,
    )


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


def snapshot(overlays: Mapping[str, Path]) -> str:
    """Return libvirt's description of the snapshot that makes files the tops of a machine's disks,
    all at the same moment.

    :param overlays: the file for each disk, by the target of the disk. libvirt would choose a file
        for a disk that is not listed.
    """
    disk_elements = [
        element(
            "disk",
            element("driver", type="qcow2"),
            element("source", file=str(path)),
            name=target,
            snapshot="external",
            type="file",
        )
        for target, path in overlays.items()
    ]
    return serialize(element("domainsnapshot", element("disks", *disk_elements)))
