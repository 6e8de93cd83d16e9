# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks between processes on one machine, for providers that store files on it."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from ...clock import Deadline
from ...errors import Busy
from .os_errors import translate_os_error

POLL = 0.05
LONGEST = 120
FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def held(
    folder: Path, name: str, deadline: Deadline, poll: float = POLL, text: str = ""
) -> Iterator[None]:
    """Lock a name; the kernel releases it when the controller dies.

    :param folder: directory of the lock files; created when needed, for this user alone.
    :param poll: seconds between two attempts.
    :param text: the content of the lock file.
    :raises Busy: if another process holds the lock until the deadline.
    """
    path = _path(folder, name)
    while (handle := _try_lock(path, name)) is None:
        if deadline.passed():
            raise Busy(
                "the object is locked by another controller.",
                name=name,
                remedy="wait, then run again",
            )
        deadline.pause(poll)
    try:
        if text:
            with translate_os_error("the lock file cannot be written.", name):
                os.pwrite(handle, text.encode(), 0)
        yield
    finally:
        # The file is deleted while it is locked: a waiting process then notices that its file is no
        # longer the file at the path.
        path.unlink(missing_ok=True)
        os.close(handle)


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock of a file. The file of a dead process is deleted."""
    handle = _try_lock(path, path.name, FLAGS)
    if handle is None:
        return path.exists()
    path.unlink(missing_ok=True)
    os.close(handle)
    return False


def is_name_held(folder: Path, name: str) -> bool:
    """Return whether a process holds the lock of a name."""
    return is_held(_path(folder, name))


def free(folder: Path, owner: str, *, remove: bool) -> list[Path]:
    """Return the lock files of one owner that no process holds, as killed controllers leave them.

    A lock's name begins with the owner. A lock that all owners share has no owner in its name; its
    next user deletes it.

    :param remove: delete them, each while this process holds its lock.
    :raises HypervisorError: if a lock file cannot be used.
    """
    free_paths = []
    for path in sorted(folder.glob(f"{quote(owner, safe='')}.*.lock")):
        handle = _try_lock(path, path.name, FLAGS)
        if handle is not None:
            free_paths.append(path)
            if remove:
                path.unlink(missing_ok=True)
            os.close(handle)
    return free_paths


def _path(folder: Path, name: str) -> Path:
    file_name = quote(name, safe="")
    if len(file_name) > LONGEST:
        # A file name has at most 255 bytes. The owner stays in the name: see free().
        owner, dot, _remainder = file_name.partition(".")
        file_name = f"{owner[:LONGEST]}{dot}{hashlib.sha256(name.encode()).hexdigest()}"
    return folder / f"{file_name}.lock"


def _try_lock(path: Path, name: str, flags: int = FLAGS | os.O_CREAT) -> int | None:
    """Return an open, locked descriptor of the file that is at this path now, or ``None``."""
    with translate_os_error(
        "the lock file cannot be used.", name, "set a directory that this user can write"
    ):
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(path, flags, 0o600)
        except FileNotFoundError:
            return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), path.stat()):
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(handle)
    return None
