# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The projects that can lease hosts of a daemon, and their tokens.

The file contains only digests of tokens. A token has 256 random bits, so its digest needs no salt.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..clock import Deadline
from ..errors import Busy, InvalidInput, NotFound
from ..files import lock, write_atomic
from ..model import codec, naming, untrusted
from ..model.lease import HOLDER_MAX, LONGEST

MODE = 0o600
FILE_MAX = 1 << 20
PREFIX = "stockyard_"
LEASES_MAX = 10000
# Seconds to wait for other changes of the file, and between two attempts.
LOCK_WAIT = 20.0
POLL = 0.05


@dataclass(frozen=True)
class Project:
    """A project: what the holder of its token can lease.

    :param name: the name of the project. The holders of its leases begin with it.
    :param digest: the SHA-256 of its token, in hexadecimal digits.
    :param tenant: the tenant of the hosts.
    :param fleets: the fleets that it can lease from.
    :param pools: the pools that it can lease from.
    :param max_duration: the longest time of a lease, renewals included, in seconds.
    :param max_leases: the largest number of its leases and waiting requests.
    :param report: whether it can read the page and the metrics of the yard.
    """

    name: str
    digest: str
    tenant: str = "default"
    fleets: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    max_duration: float = 3600.0
    max_leases: int = 1
    report: bool = False

    def __post_init__(self) -> None:
        naming.name("project", self.name)
        naming.name("tenant", self.tenant)
        naming.digest("digest", self.digest)
        for fleet in self.fleets:
            naming.name("fleet", fleet, naming.FLEET_NAME_MAX)
        for pool in self.pools:
            naming.name("pool", pool)
        if not 1 <= self.max_duration <= LONGEST:
            raise InvalidInput(
                f"max_duration: {self.max_duration:g} s is not between 1 s and 30 days.",
                name=f"project {self.name}",
                remedy="write a duration such as 2h",
            )
        naming.whole("max_leases", self.max_leases, 0, LEASES_MAX)
        if not (self.fleets or self.pools or self.report):
            raise InvalidInput(
                "the project can neither lease hosts nor read the report.",
                name=f"project {self.name}",
                remedy="name a fleet or a pool",
            )

    def holder(self, holder: str) -> str:
        """Return the holder of a lease as it is recorded.

        :raises InvalidInput: if the text is not a holder.
        """
        naming.line("holder", holder, HOLDER_MAX - len(self.name) - 1)
        if not holder.strip():
            raise InvalidInput("holder is empty.", remedy="set the holder, such as a job's number")
        return f"{self.name}/{holder}"

    def owns(self, holder: str) -> bool:
        """Return whether a recorded holder belongs to the project."""
        return holder.startswith(f"{self.name}/")


@dataclass(frozen=True)
class Projects:
    """All projects of a file.

    :param projects: at most one of each name.
    """

    projects: tuple[Project, ...] = ()

    def find(self, token: str) -> Project | None:
        """Return the project of a token."""
        digest = digest_of(token)
        matching = [item for item in self.projects if hmac.compare_digest(item.digest, digest)]
        return matching[0] if matching else None

    def with_project(self, project: Project) -> Projects:
        """Return the projects with a project added or replaced."""
        remaining = tuple(item for item in self.projects if item.name != project.name)
        return replace(self, projects=(*remaining, project))

    def without(self, name: str) -> Projects:
        """Return the projects without one.

        :raises NotFound: if the file has no project of this name.
        """
        remaining = tuple(item for item in self.projects if item.name != name)
        if len(remaining) == len(self.projects):
            raise NotFound("the file has no such project.", name=f"project {name}")
        return replace(self, projects=remaining)


def digest_of(token: str) -> str:
    """Return the digest of a token, as the file contains it."""
    return hashlib.sha256(token.encode()).hexdigest()


def new_token() -> str:
    """Return a new random token."""
    return PREFIX + secrets.token_urlsafe(32)


def read(path: Path) -> Projects:
    """Return the projects of a file.

    :raises InvalidInput: if the file is missing, readable for other users, or not valid.
    """
    text = read_private(path)
    try:
        data = untrusted.parse(text)
    except untrusted.MalformedData as error:
        raise InvalidInput(
            "the file of projects is not JSON.", name=str(path), cause=str(error)
        ) from error
    return codec.from_dict(Projects, data, "projects")


def write(path: Path, projects: Projects) -> None:
    """Write the projects, readable for this user only.

    :raises InvalidInput: if the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(path, json.dumps(codec.to_dict(projects), indent=1) + "\n", MODE)
    except OSError as error:
        raise InvalidInput(
            "the file of projects cannot be written.", name=str(path), cause=str(error)
        ) from error


def change(
    path: Path, edit: Callable[[Projects], Projects], deadline: Deadline | None = None
) -> None:
    """Change the file. Changes at the same time, of any process, follow one another.

    :param edit: returns the new projects. Nothing is written if it fails.
    :raises Busy: if another process changes the file until the deadline.
    :raises InvalidInput: if the file cannot be read or written.
    """
    limit = deadline or Deadline(LOCK_WAIT)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        while (handle := lock(path)) is None:
            if limit.passed():
                raise Busy(
                    "the file of projects is locked by another process.",
                    name=str(path),
                    remedy="wait, then run again",
                )
            limit.pause(POLL)
    except OSError as error:
        raise InvalidInput(
            "the file of projects cannot be locked.", name=str(path), cause=str(error)
        ) from error
    try:
        write(path, edit(read(path) if path.exists() else Projects()))
    finally:
        os.close(handle)


def read_private(path: Path) -> bytes:
    """Return the content of a file that only this user can read.

    :raises InvalidInput: if the file is missing, or another user can read or replace it.
    """
    try:
        # A directory is refused when it is read, and a pipe when its mode is known.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(handle)
            text = os.read(handle, FILE_MAX)
        finally:
            os.close(handle)
    except OSError as error:
        raise InvalidInput(
            "the file cannot be read.", name=str(path), cause=error.strerror or str(error)
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInput("the file is not a regular file.", name=str(path))
    if status.st_uid not in (os.geteuid(), 0) or status.st_mode & 0o077:
        raise InvalidInput(
            "other users can read or change the file.",
            name=str(path),
            remedy=f"run chmod 600 {path}, as the user who owns the file",
        )
    return text
