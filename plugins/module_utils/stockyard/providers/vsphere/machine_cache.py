# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of all machines, and whether that is still so: the stamp in the
register says it.
"""

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
    """All machines of a yard's folder as they were read last."""

    def __init__(self, session: Session, lookup: Lookup) -> None:
        self.session = session
        self.lookup = lookup
        self.known = MachineIndex()

    def machines(self) -> list[Machine]:
        """Read them all."""
        return machines(self.session, self.lookup.made_folder())

    def refreshed(self, values: Any) -> Any:
        """Read them again, if anything was reserved or made since by somebody else."""
        if self.known.stamp != values.get(STAMP, ""):
            self.known.learn(values.get(STAMP, ""), self.machines())
        return values

    def current(self, values: Values | None = None) -> MachineIndex:
        """What all machines are, by a register that was read; without one, it is forgotten."""
        self.known.stamp = None if values is None else self.known.stamp
        self.refreshed(values or {})
        return self.known

    def twice(self, error: type[Exception], act: Callable[[], Any]) -> Any:
        """Do something that may fail for what is not so any more."""
        try:
            return act()
        except error:
            # Hosts that others destroyed leave no trace in the register.
            self.known.stamp = None
            return act()

    def stamped(self, edit: Edit, *, refresh: bool = False) -> Edit:
        """A change after which what is known is still all there is, if it was before."""

        def stamped(values: Values) -> None:
            if refresh:
                self.refreshed(values)
            current = self.known.stamp == values.get(STAMP, "")
            edit(values)
            if current:
                self.known.stamp = values.get(STAMP, "")

        return stamped
