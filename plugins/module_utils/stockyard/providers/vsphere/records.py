# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records in a machine's extraConfig, and the check of their validity. Pure.

A value begins with the number of its format, so that there is a value even if the text is empty:
vSphere treats an empty value as none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ...errors import InvalidInput
from ...guest.agent.guestinfo import PREFIX as GUESTINFO
from ...hypervisor.records import decode, encode
from ...model.observation import Record, UnreadableObject
from ..common.stored_records import read_record

OURS = "stockyard."
# The setting of a machine that shows the UUIDs of its disks to its guest.
SHOWN = "disk.EnableUUID"
RECORD = f"{OURS}record"
# All of a machine's extraConfig: some hundred entries on a vCenter.
OPTIONS = "config.extraConfig"
FORMAT = "1 "
STATES = {"poweredOn": "running", "poweredOff": "off", "suspended": "suspended"}
# vCenter knows the machine, but the machine is unusable.
BROKEN = ("orphaned", "inaccessible", "invalid")


@dataclass(frozen=True)
class Machine:
    """A machine as it was read.

    :param ref: pyvmomi's reference.
    :param values: the values of stockyard in its extraConfig.
    :param host: the reference number of its ESXi host.
    :param store: the datastore of its configuration.
    :param devices: its virtual hardware, if that was requested.
    """

    ref: Any
    name: str
    uuid: str = ""
    change: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    power: str = "poweredOff"
    connection: str = "connected"
    frozen: bool = False
    host: str = ""
    store: str = ""
    devices: tuple[Any, ...] = ()

    @property
    def state(self) -> str:
        """Return the machine's state in the words for hosts."""
        return "crashed" if self.connection in BROKEN else STATES.get(self.power, "off")


def to_value(record: Record) -> str:
    """Return a record as a value."""
    return FORMAT + encode(record)


def from_value(value: str) -> Record:
    """Return the record of a value.

    :raises InvalidInput: if the format of the value is not known.
    """
    return _read(value)


# Safe to cache because the result depends on the text alone: a fleet's run reads the same records
# several times.
@lru_cache(maxsize=1 << 14)
def _read(value: str) -> Record:
    if not value.startswith(FORMAT):
        raise InvalidInput("the format of the record is not known.")
    return decode(value[len(FORMAT) :])


def option(key: str) -> str:
    """Return the path of one entry of a machine's extraConfig."""
    return f'{OPTIONS}["{key}"]'


def own_values(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the values of stockyard among the extraConfig that was read, whole or by entries."""
    entries = [
        value
        for path, value in values.items()
        if path.startswith(f"{OPTIONS}[") and value is not None
    ]
    return {
        entry.key: str(entry.value)
        for entry in (*entries, *(values.get(OPTIONS) or ()))
        if entry.key.startswith((OURS, GUESTINFO, SHOWN))
    }


def record_of(machine: Machine) -> Record | UnreadableObject | None:
    """Return the record of a machine.

    The result is an unreadable object with the reason if the record proves nothing, and ``None`` if
    the machine has no record.
    """
    value = machine.values.get(RECORD)
    if value is None:
        return None
    return read_record(
        machine.name,
        value,
        from_value,
        lambda record: (record.domain, record.uuid) == (machine.name, machine.uuid),
    )
