# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests' disks: a directory each."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ...core.provider import Record
from ...errors import HypervisorError, OutOfSpace


class Disks:
    """The disks under one directory, by uuid."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, record: Record) -> Path:
        """Where a machine's disk is."""
        return self.folder / record.uuid

    def make(self, record: Record) -> Path:
        """Have a disk."""
        with _translated(record):
            self.path(record).mkdir(parents=True, exist_ok=True, mode=0o700)
        return self.path(record)

    def copy(self, source: Record, target: Record) -> None:
        """Make a disk that holds what another one holds."""
        with _translated(target):
            shutil.copytree(self.path(source), self.path(target), symlinks=True)

    def remove(self, record: Record) -> None:
        """Take a disk away, if there is one."""
        with _translated(record), suppress(FileNotFoundError):
            shutil.rmtree(self.path(record))


@contextmanager
def _translated(record: Record) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = OutOfSpace if error.errno == errno.ENOSPC else HypervisorError
        raise kind("its disk cannot be made or changed.", name=record.title, cause=str(error)) from error
