# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The directory that holds images, templates, hosts and locks on one hypervisor."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...core.clock import Deadline
from ...errors import Busy, HypervisorError

POLL = 0.05


class Store:
    """Paths and locks. Knows nothing of what the files mean.

    :param root: made if it is not there, for this user alone.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images = root / "images"
        self.templates = root / "templates"
        self.hosts = root / "hosts"
        self._locks = root / "locks"

    def prepare(self) -> None:
        """Make the directories."""
        try:
            for folder in (self.images, self.templates, self.hosts, self._locks):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise HypervisorError(
                "the storage directory cannot be made.", name=str(self.root), cause=str(error),
                remedy="give a directory that this user may write, by the option storage",
            ) from error  # fmt: skip

    @contextmanager
    def lock(self, name: str, deadline: Deadline) -> Iterator[None]:
        """Hold a lock; the kernel frees it when the holder dies.

        :raises Busy: when another process holds it until the deadline.
        """
        self.prepare()
        path = self._locks / f"{name if len(name) <= 120 else hashlib.sha256(name.encode()).hexdigest()}.lock"
        while (handle := _try_lock(path)) is None:
            if deadline.passed():
                raise Busy("another controller is at work on it.", name=name, remedy="wait, then run again")
            deadline.pause(POLL)
        try:
            yield
        finally:
            # Removed while it is held: whoever waits finds out, below, that the file is no longer the one at its path.
            path.unlink(missing_ok=True)
            os.close(handle)


def _try_lock(path: Path) -> int | None:
    """An open, locked descriptor of the file that is at this path now, or nothing."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), path.stat()):
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(handle)
    return None
