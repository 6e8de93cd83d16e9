# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The volumes of a host that is branched.

All disks of the host get overlays at the same moment, so the content of its volumes fits its
memory. The former disk of a volume becomes a layer, which the volume and its copies share.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...clock import Deadline
from ...errors import HypervisorError
from ...model.branch import BranchRecord, BranchVolume
from ...model.volume import VolumeRecord
from . import designer, disk_layers, disks
from .faults import translated
from .layers import DISK, backing
from .store import Store
from .volumes import LibvirtVolumes, disk_of
from .xml.devices import Disk
from .xml.element import Element, parse


class BranchedVolumes:
    """The volumes of one store, as far as branches need them."""

    def __init__(self, store: Store, volumes: LibvirtVolumes) -> None:
        self.store = store
        self.volumes = volumes

    def on_record(self, record: BranchRecord, definition: Element, title: str) -> BranchRecord:
        """Return the record of a branch with the ports of the volumes and the names of their
        layers.

        :param definition: the running machine of the parent.
        :raises HypervisorError: if the machine lacks a volume.
        """
        volumes = []
        for volume in record.volumes:
            element = disk_of(definition, self._folder(volume))
            if element is None:
                raise HypervisorError(
                    f"volume {volume.name} is not plugged into the machine of its host.",
                    name=title,
                    remedy="restart the host, and run again",
                )
            port = disk_layers.port(element)
            volumes.append(replace(volume, port=port, layer=str(uuid.uuid4())))
        return replace(record, volumes=tuple(volumes))

    def files(self, record: BranchRecord, definition: Element) -> list[tuple[str, Path]]:
        """Return target and file of each volume of a running parent, in the order of the record."""
        elements = [disk_of(definition, self._folder(volume)) for volume in record.volumes]
        return [disk_layers.target_and_file(element) for element in elements if element is not None]

    def create_scratch(
        self, record: BranchRecord, definition: Element, folder: Path, deadline: Deadline
    ) -> None:
        """Create the disks of a twin in place of the volumes.

        :param folder: the directory of the branch.
        """
        for volume, (_target, path) in zip(
            record.volumes, self.files(record, definition), strict=True
        ):
            disks.empty(folder / designer.scratch(volume), path, record.title, deadline)

    def overlays(
        self, record: BranchRecord, definition: Element, deadline: Deadline
    ) -> dict[str, Path]:
        """Create the overlays in which a parent continues; return them by the targets of their
        disks.
        """
        return {
            target: self.volumes.branch(volume, path, record.uuid, record.title, deadline)
            for volume, (target, path) in zip(
                record.volumes, self.files(record, definition), strict=True
            )
        }

    def seal(self, record: BranchRecord, folder: Path) -> None:
        """Set the layers read-only, and delete the disks of the twin."""
        for volume in record.volumes:
            (folder / designer.scratch(volume)).unlink(missing_ok=True)
            self.volumes.layers.path(volume.layer).chmod(0o400)

    def remove_unused_overlays(self, record: BranchRecord, definitions: Iterable[Element]) -> None:
        """Delete the overlays that the parent was never switched to.

        :param definitions: those of the parent, if it exists.
        """
        files = _files(definitions)
        for volume in record.volumes:
            self.volumes.remove_overlay(volume, record.uuid, files)

    def remove_former_names(self, record: BranchRecord, definitions: Iterable[Element]) -> None:
        """Delete the names of former disks that the machine of a parent does not use.

        :param definitions: the running and the stored definition of the parent.
        """
        files = _files(definitions)
        for volume in record.volumes:
            self.volumes.remove_former_names(volume, files)

    def copy(self, record: VolumeRecord, branch: BranchRecord, deadline: Deadline) -> None:
        """Record a volume as a copy of a volume of a branch."""
        layer = next(volume.layer for volume in branch.volumes if volume.name == record.source)
        self.volumes.copy(record, layer, deadline)

    def disks_of_child(
        self,
        folder: Path,
        branch: BranchRecord,
        copies: Sequence[VolumeRecord],
        title: str,
        deadline: Deadline,
    ) -> list[Disk]:
        """Return the disks of a child in place of the parent's volumes: its copies, and for each
        volume without a copy a disk in the directory of the child.

        :param folder: the directory of the child.
        """
        records = {record.source: record for record in copies}
        volume_disks = []
        for volume, target in zip(branch.volumes, disk_layers.targets(), strict=False):
            if record := records.get(volume.name):
                path, serial = self.volumes.files.path(record) / DISK, record.serial
            else:
                path, serial = _stand_in(folder, volume), volume.serial
                disks.overlay(path, self.volumes.layers.path(volume.layer), title, deadline)
            volume_disks.append(Disk(str(path), target, serial, discard=True, port=volume.port))
        return volume_disks

    def drop(
        self, domain: Any, folder: Path, branch: BranchRecord, title: str, deadline: Deadline
    ) -> None:
        """Unplug the disks of a child that stand in for volumes, and delete them.

        :param folder: the directory of the child.
        :raises DeadlineExceeded: if the guest does not release one.
        """
        for volume in branch.volumes:
            path = _stand_in(folder, volume)
            while (element := _plugged(domain, path, title)) is not None:
                self.volumes.insist(domain, element, title, deadline)
            path.unlink(missing_ok=True)

    def layers_in_use(self, records: Iterable[BranchRecord]) -> set[str]:
        """Return the layers of volumes from which hosts can still be forked, and those under the
        disks that stand in for volumes.

        :param records: all branches.
        :raises HypervisorError: if a disk cannot be read.
        """
        names = {
            volume.layer
            for record in records
            if record.phase != "released"
            for volume in record.volumes
        }
        stand_ins = self.store.machine_files(
            (self.store.hosts, self.store.templates), f"volume-*{disk_layers.SUFFIX}"
        )
        return names | {Path(backing(path)).stem for path in stand_ins}

    def _folder(self, volume: BranchVolume) -> Path:
        return self.volumes.files.folder / volume.uuid


def _stand_in(folder: Path, volume: BranchVolume) -> Path:
    """Return the disk in the directory of a child in place of a volume of its parent."""
    return folder / f"volume-{volume.serial}{disk_layers.SUFFIX}"


def _files(definitions: Iterable[Element]) -> list[Path]:
    """Return all files in definitions of a machine, with those under its disks."""
    return [
        Path(source.get("file", ""))
        for definition in definitions
        for source in definition.iter("source")
    ]


def _plugged(domain: Any, path: Path, title: str) -> Element | None:
    """Return the disk of a running machine with a file, if it has one."""
    with translated("read the domain", title):
        definition = parse(domain.XMLDesc(0))
    return disk_layers.disk_with(definition, path)
