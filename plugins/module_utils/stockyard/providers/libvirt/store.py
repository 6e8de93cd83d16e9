# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The directory that holds images, templates, hosts and locks on one hypervisor."""

from __future__ import annotations

import errno
from contextlib import AbstractContextManager
from pathlib import Path

from ...core.clock import Deadline
from ...errors import HypervisorError, OutOfSpace
from ..locks import held


class Store:
    """Paths and locks. Knows nothing of what the files mean.

    :param root: made if it is not there, for this user alone. libvirt and apt have no use for a relative path.
    """

    def __init__(self, root: Path) -> None:
        self.root = root = root.absolute()
        self.images = root / "images"
        self.templates = root / "templates"
        self.hosts = root / "hosts"
        self.locks = root / "locks"

    def prepare(self) -> None:
        """Make the directories."""
        for folder in (self.images, self.templates, self.hosts, self.locks):
            make(folder, str(self.root))

    def lock(self, name: str, deadline: Deadline) -> AbstractContextManager[None]:
        """Hold a name; the kernel frees it when the holder dies.

        :raises Busy: when another process holds it until the deadline.
        """
        self.prepare()
        return held(self.locks, name, deadline)


def make(folder: Path, name: str) -> None:
    """Have a directory for this user alone.

    :param name: the object that it is for.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutOfSpace(
                "the storage is full.", name=name, cause=str(error), remedy="free space in the storage"
            ) from error
        raise HypervisorError(
            "the storage directory cannot be made.", name=name, cause=str(error),
            remedy="give a directory that this user may write, by the option storage",
        ) from error  # fmt: skip
