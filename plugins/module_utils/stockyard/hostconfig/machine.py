# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Access to a machine: files under a root directory, and programs. It is a port, so that tests can
replace both by a directory and a function.
"""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import OperationRefused
from ..files import write_atomic


@dataclass(frozen=True)
class Ran:
    """Result of a program."""

    code: int
    out: str
    err: str


class Programs(Protocol):
    """Function that runs programs."""

    def __call__(self, line: list[str], timeout: float) -> Ran:
        """Run a program to its end. If it is missing or exceeds its time, the result has a special
        code.
        """


NOT_THERE, TOO_LONG = 127, 124


def run(line: list[str], timeout: float) -> Ran:
    """Run a program on this machine."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        process = subprocess.run(
            line,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            env=environment,
        )
    except FileNotFoundError:
        return Ran(NOT_THERE, "", f"{line[0]} is not installed")
    except subprocess.TimeoutExpired:
        return Ran(TOO_LONG, "", f"{line[0]} did not end within {timeout:g} s")
    return Ran(process.returncode, process.stdout, process.stderr)


class Machine:
    """Container host.

    :param root: ``/``, or another directory in a test.
    """

    def __init__(self, root: str = "/", programs: Programs = run) -> None:
        self.root = Path(root)
        self.programs = programs

    def path(self, name: str) -> Path:
        """Return the path of a file of the machine."""
        return self.root / name.lstrip("/")

    def read(self, name: str) -> str | None:
        """Return the text of a file, or nothing if it does not exist or cannot be read."""
        try:
            return self.path(name).read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None

    def mounts(self, name: str) -> bool:
        """Return whether a file system is mounted at a path."""
        return any(
            line.split()[1] == name for line in (self.read("/proc/mounts") or "").splitlines()
        )

    def stat(self, name: str) -> os.stat_result | None:
        """Return owner and mode of a file, following symbolic links."""
        try:
            return self.path(name).stat()
        except OSError:
            return None

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        """Write a file completely or not at all. An existing file keeps its owner and mode."""
        target = self.path(name)
        old = self.stat(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        is_foreign = old and (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid())
        write_atomic(
            target,
            text.encode("utf-8", "surrogateescape"),
            stat.S_IMODE(old.st_mode) if old else mode,
            owner=(old.st_uid, old.st_gid) if old and is_foreign else None,
        )

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold a system lock inside the ``with`` block.

        :raises OperationRefused: if another process holds the lock.
        """
        target = self.path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(target, flags, 0o600), "w", encoding="utf-8") as handle:
            try:
                # lckpwdf(3) locks the whole file in this way.
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise OperationRefused(
                    "the user database is being changed.",
                    name=name,
                    cause=str(error),
                    remedy="run again",
                ) from error
            yield


def of_root(name: str) -> Machine:
    """Return this machine, for actions that need root.

    :param name: the action, for the error.
    :raises OperationRefused: if the current user is not root.
    """
    if os.geteuid() != 0:
        raise OperationRefused("the module needs root.", name=name, remedy="set become: true")
    return Machine()
