# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks of branches: each is held from the creation of a branch until its release.

The lock is in the directory of the branch. The kernel releases it when all processes that hold it
have ended: the controller, and the process of a switch-over, which inherits it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import Busy

FILE = "lock"


class BranchLocks:
    """The locks that this process holds, by the directory of the branch."""

    def __init__(self) -> None:
        self._held: dict[Path, int] = {}

    def hold(self, folder: Path) -> int:
        """Hold the lock of a new branch; return its descriptor.

        :raises Busy: if another process holds it.
        """
        descriptor = _try_lock(folder / FILE)
        if descriptor is None:
            raise Busy("another controller works on the branch.", name=str(folder))
        self._held[folder] = descriptor
        return descriptor

    def drop(self, folder: Path) -> None:
        """Release a lock, if this process holds it."""
        descriptor = self._held.pop(folder, None)
        if descriptor is not None:
            os.close(descriptor)

    @contextmanager
    def tried(self, folder: Path) -> Iterator[bool]:
        """Hold a lock for the length of a ``with`` block; yield whether that was possible."""
        if not folder.is_dir():
            # The directory was deleted, so no controller works on it.
            yield True
            return
        descriptor = _try_lock(folder / FILE)
        try:
            yield descriptor is not None
        finally:
            if descriptor is not None:
                os.close(descriptor)


def _try_lock(path: Path) -> int | None:
    """Return a descriptor that holds a lock; ``None`` if a process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
