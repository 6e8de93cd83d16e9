# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines of a memory hypervisor, shared by all processes that use its file."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...clock import Deadline
from ...errors import HypervisorError, InvalidInput
from ...files import unfinished
from ...model import codec
from ..common.locks import held
from ..common.os_errors import translate_os_error
from .journal import Journal

WAIT = 60.0
POLL = 0.002


@dataclass(frozen=True)
class Machine:
    """Recorded state of a machine.

    :param record: its record as text, which may be unreadable.
    :param state: ``running``, ``paused``, ``suspended``, ``off`` or ``crashed``.
    :param link: whether its network link is up.
    :param backing: uuid of the template that the machine's disk is an overlay of; empty for an
        independent disk.
    :param volumes: uuids of the volumes that are plugged in.
    """

    record: str
    state: str = "off"
    link: bool = False
    backing: str = ""
    volumes: tuple[str, ...] = ()


Machines = Mapping[str, Machine]


class StateFile:
    """Machines by their names on the hypervisor. A missing file is an empty hypervisor; reading
    never writes.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path.with_name(f"{path.name}.d")
        self._journal = Journal(path)
        self._machines: Machines = {}
        self._change = threading.Lock()
        self._mutex = threading.Lock()

    def read(self) -> Machines:
        """Return all machines at one moment.

        :raises HypervisorError: if the file exists and cannot be read completely. It is not
            changed.
        """
        with self._mutex:
            complete, entries = self._entries()
            if complete or entries:
                self._machines = self._applied({} if complete else self._machines, entries)
            return self._machines

    @contextmanager
    def change(self) -> Iterator[dict[str, Machine]]:
        """Yield the machines for a change inside the ``with`` block, to one process at a time. An
        error discards the change.
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

    def unfinished_files(self, *, remove: bool) -> list[Path]:
        """Return the temporary files that a killed writer left. Call this method inside
        :meth:`change`, so that no other process writes.
        """
        paths = unfinished(self._journal.path)
        for path in paths if remove else ():
            path.unlink(missing_ok=True)
        return paths

    def close(self) -> None:
        """Forget the machines that were read."""
        with self._mutex:
            self._journal.close()

    def _entries(self) -> tuple[bool, list[tuple[str, Any]]]:
        try:
            return self._journal.read()
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def _applied(self, machines: Machines, entries: list[tuple[str, Any]]) -> Machines:
        """Return the machines after the changes in the entries."""
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
        with translate_os_error("the state file cannot be written.", str(self._journal.path)):
            if self._journal.overlong(len(after)):
                self._journal.rewrite(
                    (name, codec.to_dict(machine)) for name, machine in after.items()
                )
            else:
                entries = ((name, after.get(name)) for name in changed)
                self._journal.append(
                    (name, codec.to_dict(item) if item else None) for name, item in entries
                )
        self._machines = after

    def _unreadable(self, error: Exception) -> HypervisorError:
        return HypervisorError(
            "the state file cannot be read; nothing was changed.",
            name=str(self._journal.path),
            cause=str(error),
            remedy="correct the file, or delete it to begin with an empty hypervisor",
        )
