# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines of a memory hypervisor, shared by all processes that name its file."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...clock import Deadline
from ...errors import HypervisorError, InvalidInput, OutOfSpace
from ...model import codec
from ..common.locks import held
from .journal import Journal

WAIT = 60.0
POLL = 0.002


@dataclass(frozen=True)
class Machine:
    """A machine as it is kept.

    :param record: its record, as text; it may be unreadable.
    :param state: ``running``, ``paused``, ``off`` or ``crashed``.
    :param link: whether its network link is up.
    :param backing: uuid of the template whose disk lies under its own; empty for a disk of its own.
    :param volumes: uuids of the volumes that are plugged in.
    """

    record: str
    state: str = "off"
    link: bool = False
    backing: str = ""
    volumes: tuple[str, ...] = ()


Machines = Mapping[str, Machine]


class StateFile:
    """The machines by their names on the hypervisor. A missing file is an empty hypervisor; reading
    writes nothing.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path.with_name(f"{path.name}.d")
        self._journal = Journal(path)
        self._machines: Machines = {}
        self._change = threading.Lock()
        self._mutex = threading.Lock()

    def read(self) -> Machines:
        """All machines at one moment.

        :raises HypervisorError: when the file is there and cannot be read whole; it is left as it
            is.
        """
        with self._mutex:
            anew, entries = self._entries()
            if anew or entries:
                self._machines = self._applied({} if anew else self._machines, entries)
            return self._machines

    @contextmanager
    def change(self) -> Iterator[dict[str, Machine]]:
        """The machines, for one process at a time to change one of them in the block; an error
        changes nothing.
        """
        with self._change, held(self.folder, "state", Deadline(WAIT), POLL):
            before = self.read()
            after = dict(before)
            yield after
            changed = [
                name for name in {**before, **after} if before.get(name) is not after.get(name)
            ]
            with self._mutex:
                self._save(changed, after)

    def rest(self, *, remove: bool) -> list[Path]:
        """What a writer that was killed left beside the file. Call it inside :meth:`change`: nobody
        writes now.
        """
        found = [self._journal.beside] if self._journal.beside.exists() else []
        for path in found if remove else ():
            path.unlink(missing_ok=True)
        return found

    def close(self) -> None:
        """Forget what was read."""
        with self._mutex:
            self._journal.close()

    def _entries(self) -> tuple[bool, list[tuple[str, Any]]]:
        try:
            return self._journal.read()
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def _applied(self, machines: Machines, entries: list[tuple[str, Any]]) -> Machines:
        """The machines after what the entries say."""
        after = dict(machines)
        try:
            for name, item in entries:
                after.pop(name, None)
                if item is not None:
                    after[name] = codec.from_dict(Machine, item, name)
        except InvalidInput as error:
            self._journal.close()
            raise self._unreadable(error) from error
        return after

    def _save(self, changed: list[str], after: Machines) -> None:
        if not changed:
            return
        try:
            if self._journal.overlong(len(after)):
                self._journal.replace(
                    (name, codec.to_dict(machine)) for name, machine in after.items()
                )
            else:
                entries = ((name, after.get(name)) for name in changed)
                self._journal.append((name, codec.to_dict(m) if m else None) for name, m in entries)
        except OSError as error:
            kind = OutOfSpace if error.errno == errno.ENOSPC else HypervisorError
            raise kind(
                "its state file cannot be written.", name=str(self._journal.path), cause=str(error)
            ) from error
        self._machines = after

    def _unreadable(self, error: Exception) -> HypervisorError:
        return HypervisorError(
            "its state file cannot be read, and is left as it is.",
            name=str(self._journal.path),
            cause=str(error),
            remedy="mend the file, or remove it to begin with an empty hypervisor",
        )
