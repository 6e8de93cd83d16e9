# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine: files under one root directory, and programs. A port, so that all of it can be tried
in a directory.
"""

from __future__ import annotations

import fcntl
import os
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ..errors import OperationRefused


@dataclass(frozen=True)
class Ran:
    """How a program ended."""

    code: int
    out: str
    err: str


class Programs(Protocol):
    """What runs programs."""

    def __call__(self, line: list[str], timeout: float) -> Ran:
        """Run one to its end; a program that is not there, or not ended in time, has a code of its
        own.
        """


NOT_THERE, TOO_LONG = 127, 124


def run(line: list[str], timeout: float) -> Ran:
    """The real thing."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
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
    return Ran(done.returncode, done.stdout, done.stderr)


class Machine:
    """A container host.

    :param root: ``/``, or any directory in a test.
    """

    def __init__(self, root: str = "/", programs: Programs = run) -> None:
        self.root = Path(root)
        self.programs = programs

    def path(self, name: str) -> Path:
        """Where a file of the machine is."""
        return self.root / name.lstrip("/")

    def read(self, name: str) -> str | None:
        """A text; nothing where there is none, or it cannot be read."""
        try:
            return self.path(name).read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return None

    def mounts(self, name: str) -> bool:
        """Whether a file system is mounted there."""
        return any(
            line.split()[1] == name for line in (self.read("/proc/mounts") or "").splitlines()
        )

    def stat(self, name: str) -> os.stat_result | None:
        """Owner and mode of what a name leads to."""
        try:
            return self.path(name).stat()
        except OSError:
            return None

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        """Write a whole file or none. Owner and mode of a file that is there stay as they are."""
        target = self.path(name)
        old = self.stat(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
                os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode) if old else mode)
                if old and (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                    os.fchown(file.fileno(), old.st_uid, old.st_gid)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, target)
        except BaseException:
            os.unlink(beside)
            raise

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold a lock of the system's for the length of a ``with`` block.

        :raises Refused: when somebody else holds it.
        """
        target = self.path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(target, os.O_RDWR | os.O_CREAT, 0o600), "w", encoding="utf-8") as handle:
            try:
                # lckpwdf(3) takes a lock of this kind on the whole file.
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise OperationRefused(
                    "the user database is being changed.",
                    name=name,
                    cause=str(error),
                    remedy="try again",
                ) from error
            yield


def of_root(name: str) -> Machine:
    """This machine, for what root alone can do or see.

    :param name: what wants to, for the error.
    :raises Refused: for anybody else.
    """
    if os.geteuid() != 0:
        raise OperationRefused("it needs root.", name=name, remedy="set become: true")
    return Machine()
