# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The directory that holds images, templates, hosts and locks on one hypervisor."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path

from ...clock import Deadline
from ...errors import HypervisorError
from ..common.locks import held
from ..common.os_errors import translate_os_error
from . import processes


class Store:
    """Paths and locks, independent of the contents of the files.

    :param root: created if it does not exist, for this user alone. libvirt and apt cannot use a
        relative path.
    """

    def __init__(self, root: Path) -> None:
        self.root = root = root.absolute()
        self.images = root / "images"
        self.templates = root / "templates"
        self.hosts = root / "hosts"
        self.branches = root / "branches"
        # Disks of hosts at the moment of a branch; other disks lie over them.
        self.disk_layers = root / "disk-layers"
        self.locks = root / "locks"

    def prepare(self) -> None:
        """Create the directories."""
        for folder in (self.images, self.templates, self.hosts, self.locks):
            make(folder, str(self.root))

    def machines(self) -> list[str]:
        """Return the uuids of the machines whose files are in the store."""
        return [
            path.name
            for folder in (self.hosts, self.templates)
            if folder.is_dir()
            for path in folder.iterdir()
        ]

    def machine_files(self, folders: Iterable[Path], pattern: str) -> list[Path]:
        """Return the files in the directories of machines. Other hosts can be deleted during the
        search: their files are omitted.

        :param folders: the directories that contain those of machines.
        :param pattern: the names of the files.
        :raises HypervisorError: if a directory cannot be read.
        """
        files: list[Path] = []
        for machine in (path for folder in folders if folder.is_dir() for path in folder.iterdir()):
            try:
                names = os.listdir(machine)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise HypervisorError(
                    "the directory of a machine cannot be read.",
                    name=str(machine),
                    cause=str(error),
                ) from error
            files += [machine / name for name in fnmatch.filter(names, pattern)]
        return files

    def disk_of(self, uuid: str) -> Path:
        """Return the path of a machine's disk: a host's, or else a template's.

        A host that was branched has several: the disk that a QEMU writes to is preferred.
        """
        folder = (self.hosts if (self.hosts / uuid).exists() else self.templates) / uuid
        first_disk = folder / "disk.qcow2"
        return next(filter(processes.is_written, sorted(folder.glob("disk-*.qcow2"))), first_disk)

    def lock(self, name: str, deadline: Deadline) -> AbstractContextManager[None]:
        """Lock a name; the kernel releases it when the controller dies.

        :raises Busy: if another process holds it until the deadline.
        """
        return held(self.lock_folder(), name, deadline)

    def lock_folder(self) -> Path:
        """Return the directory of the locks, which exists."""
        self.prepare()
        return self.locks


def make(folder: Path, name: str) -> None:
    """Create a directory for this user alone, unless it exists.

    :param name: the object that the directory belongs to, for errors.
    """
    with translate_os_error(
        "the storage directory cannot be made.", name, "name a storage that this user may write to"
    ):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
