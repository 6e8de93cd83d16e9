# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache of all machines. The stamp in the register shows whether the cache is current."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .inventory import machines
from .lookup import Lookup
from .records import Machine
from .register import Edit, Values
from .reservations import STAMP, MachineIndex
from .session import Session


class Reading:
    """All machines of a yard's folder as of the last reading."""

    def __init__(self, session: Session, lookup: Lookup) -> None:
        self.session = session
        self.lookup = lookup
        self.known = MachineIndex()

    def machines(self) -> list[Machine]:
        """Read all machines."""
        return machines(self.session, self.lookup.made_folder())

    def refreshed(self, values: Any) -> Any:
        """Read all machines again if another controller reserved or created a host since then."""
        if self.known.stamp != values.get(STAMP, ""):
            self.known.learn(values.get(STAMP, ""), self.machines())
        return values

    def current(self, values: Values | None = None) -> MachineIndex:
        """Return the index of all machines, refreshed by the values of a register.

        Without values, the index is discarded and read again.
        """
        self.known.stamp = None if values is None else self.known.stamp
        self.refreshed(values or {})
        return self.known

    def twice(self, error: type[Exception], call: Callable[[], Any]) -> Any:
        """Call a function, and again with a fresh reading if it failed with an error."""
        try:
            return call()
        except error:
            # Hosts that other controllers deleted leave no trace in the register.
            self.known.stamp = None
            return call()

    def stamped(self, edit: Edit, *, refresh: bool = False) -> Edit:
        """Return an edit that keeps the cache current, if it was current before the edit.

        :param edit: the change of the register's values.
        :param refresh: whether all machines are read again first if the stamp differs.
        """

        def stamped(values: Values) -> None:
            if refresh:
                self.refreshed(values)
            is_current = self.known.stamp == values.get(STAMP, "")
            edit(values)
            if is_current:
                self.known.stamp = values.get(STAMP, "")

        return stamped
