# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A custom attribute that shows users of vCenter the owner of a machine.

No decision depends on the attribute.
"""

from __future__ import annotations

import threading
from typing import Any

from ...model.host import HostRecord
from ...model.observation import Record
from . import api
from .faults import is_a
from .inventory import properties
from .session import Session


def text(record: Record) -> str:
    """Return the attribute's value: owner, tenant, and fleet, host or template."""
    kind = (
        f"fleet {record.fleet}" if isinstance(record, HostRecord) and record.fleet else record.title
    )
    return f"{record.owner}/{record.tenant}: {kind}"


class Labels:
    """The attribute with one name; none if the name is empty."""

    def __init__(self, session: Session, name: str) -> None:
        self.session = session
        self.name = name
        self._key: int | None = None
        self._looking = threading.Lock()

    def write(self, record: Record, ref: Any) -> None:
        """Write the attribute of a machine."""
        if not self.name:
            return
        key, manager = self._attribute_key(), self.session.content.customFieldsManager
        self.session.read(
            "write the attribute", record.title, lambda: manager.SetField(ref, key, text(record))
        )

    def existing_key(self) -> int | None:
        """Return the attribute's key, if the attribute exists."""
        values = properties(
            self.session, self.session.content.customFieldsManager, ("field",), self.name
        )
        kinds = (None, api.vim().VirtualMachine)
        fields = (
            field
            for field in values.get("field") or []
            if field.name == self.name and field.managedObjectType in kinds
        )
        return next((int(field.key) for field in fields), None)

    def _attribute_key(self) -> int:
        with self._looking:
            if self._key is None:
                self._key = self.existing_key()
            if self._key is None:
                self._key = self.session.change(
                    "create the attribute", self.name, self._create_attribute
                )
            return self._key

    def _create_attribute(self) -> int:
        try:
            definition = self.session.content.customFieldsManager.AddFieldDefinition(
                self.name, api.vim().VirtualMachine
            )
        except api.vmodl().MethodFault as fault:
            existing_key = self.existing_key() if is_a(fault, "DuplicateName") else None
            if existing_key is None:
                raise
            # Another controller created it first.
            return existing_key
        return int(definition.key)
