# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are written completely or not at all, and that survive a crash.

All code outside the guests writes files that matter through this module. Each function makes the
same promise: at any time, and after a crash of the process or of the machine, a path names the old
content or the new content, and never a part of it. When a function returns, the new content
survives a crash of the machine, unless the caller gave that up.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
from pathlib import Path

SUFFIX = ".new"
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.new")
# The mode of an ordinary file of a user, less the user's umask.
ORDINARY = 0o666


def write_atomic(
    path: Path,
    content: str | bytes,
    mode: int | None = 0o600,
    *,
    owner: tuple[int, int] | None = None,
    durable: bool = True,
) -> None:
    """Create or replace a file by one with this content.

    The content is written to a temporary file in the same directory and flushed to the disk; the
    temporary file is renamed; the directory is flushed. The writer of a file needs no lock for
    this, but the last of several writers wins.

    :param content: text is written as UTF-8.
    :param mode: the mode of the file; ``None`` for what the user's umask allows.
    :param owner: user and group IDs of the file; those of this process if ``None``.
    :param durable: whether to flush; without it, a crash of the machine can lose the file.
    :raises OSError: if the file cannot be written; the old file is then unchanged.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary_path = path.with_name(f".{path.name}.{secrets.token_hex(4)}{SUFFIX}")
    try:
        _write_new(temporary_path, data, mode, owner, durable=durable)
        os.replace(temporary_path, path)
    except BaseException:
        temporary_path.unlink(missing_ok=True)
        raise
    if durable:
        _sync_directory(path.parent)


def lock(path: Path) -> int | None:
    """Lock a path against other processes, and return a descriptor that holds the lock until it is
    closed, or until this process ends; ``None`` if another descriptor holds the lock.

    The lock is a file in the same directory, which remains: a deleted one could be locked twice.

    :raises OSError: if the file cannot be opened.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(path.with_name(f".{path.name}.lock"), flags, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:
        os.close(handle)
        raise
    return handle


def move(source: Path, target: Path) -> None:
    """Rename a finished file or directory within its file system, after its content is flushed.

    A directory must not exist at the target unless it is empty; a file is replaced.

    :raises OSError: if the content cannot be flushed or the target cannot be written.
    """
    is_tree = source.is_dir() and not source.is_symlink()
    for path in [source, *source.rglob("*")] if is_tree else [source]:
        if path.is_dir():
            _sync_directory(path)
        elif path.is_file():
            _sync(path)
    os.replace(source, target)
    _sync_directory(target.parent)
    if source.parent != target.parent:
        _sync_directory(source.parent)


def link(source: Path, target: Path) -> None:
    """Give a file a second name, which exists before any later change of the first name.

    :raises OSError: if the second name is taken or cannot be created.
    """
    os.link(source, target)
    _sync_directory(target.parent)


def flush(path: Path) -> None:
    """Flush a file that another program wrote, and its name, to the disk.

    :raises OSError: if the content cannot be flushed.
    """
    _sync(path)
    _sync_directory(path.parent)


def is_temporary(path: Path) -> bool:
    """Return whether a path has the name of a temporary file of :func:`write_atomic`."""
    return bool(_TEMPORARY.fullmatch(path.name))


def unfinished(path: Path) -> list[Path]:
    """Return the temporary files that killed writers of a file left next to it.

    Call it under the lock that the writers hold; without it, a writer can still be at work.
    """
    prefix = f".{path.name}."
    candidates = path.parent.iterdir() if path.parent.is_dir() else ()
    return sorted(
        candidate
        for candidate in candidates
        if candidate.name.startswith(prefix) and is_temporary(candidate)
    )


def _write_new(
    path: Path, data: bytes, mode: int | None, owner: tuple[int, int] | None, *, durable: bool
) -> None:
    # A link at this path is an error, so the file of no other user is opened through it.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, ORDINARY if mode is None else mode), "wb") as handle:
        if owner is not None:
            os.fchown(handle.fileno(), *owner)
        if mode is not None:
            # The umask does not apply, and a change of the owner clears some bits.
            os.fchmod(handle.fileno(), mode)
        handle.write(data)
        handle.flush()
        if durable:
            os.fsync(handle.fileno())


def _sync(path: Path) -> None:
    """Flush a file or directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directory(path: Path) -> None:
    try:
        _sync(path)
    except OSError as error:
        # Some network file systems flush directories themselves and refuse the request.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
