# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of ours is written into a machine's extraConfig, and whether it proves anything. Pure.

A value begins with the number of its format, so that there is a value even where the text is empty:
vSphere takes an empty one for none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ...errors import InvalidInput, StockyardError
from ...guest.agent.guestinfo import PREFIX as GUESTINFO
from ...hypervisor.records import decode, encode
from ...model.observation import Record, UnreadableObject

OURS = "stockyard."
# Of a machine's settings, what lets its guest see the uuids of its disks.
SHOWN = "disk.EnableUUID"
RECORD = f"{OURS}record"
# All of a machine's extraConfig: some hundred entries on a vCenter.
OPTIONS = "config.extraConfig"
FORMAT = "1 "
STATES = {"poweredOn": "running", "poweredOff": "off", "suspended": "paused"}
# vCenter knows the machine, and nothing can be done with it.
BROKEN = ("orphaned", "inaccessible", "invalid")


@dataclass(frozen=True)
class Machine:
    """A machine as it was read.

    :param ref: pyvmomi's reference.
    :param values: what of ours its extraConfig holds.
    :param host: the ESXi host's reference number.
    :param store: the datastore that its configuration is on.
    :param devices: its virtual hardware, where that was asked for.
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
        """What hosts' states are called here."""
        return "crashed" if self.connection in BROKEN else STATES.get(self.power, "off")


def to_value(record: Record) -> str:
    """A record as a value."""
    return FORMAT + encode(record)


def from_value(value: str) -> Record:
    """The record that a value is.

    :raises InvalidInput: when it is none that we know.
    """
    return _read(value)


# Text to value, so it is safe to keep: a fleet's run reads the same records several times.
@lru_cache(maxsize=1 << 14)
def _read(value: str) -> Record:
    if not value.startswith(FORMAT):
        raise InvalidInput("the record is of a format that is not known.")
    return decode(value[len(FORMAT) :])


def option(key: str) -> str:
    """The path of one entry of a machine's extraConfig."""
    return f'{OPTIONS}["{key}"]'


def ours(values: Mapping[str, Any]) -> dict[str, str]:
    """Of what was read of a machine's extraConfig, whole or by entries, what is ours."""
    entries = [v for path, v in values.items() if path.startswith(f"{OPTIONS}[") and v is not None]
    return {
        o.key: str(o.value)
        for o in (*entries, *(values.get(OPTIONS) or ()))
        if o.key.startswith((OURS, GUESTINFO, SHOWN))
    }


def record_of(machine: Machine) -> Record | UnreadableObject | None:
    """The record of a machine; why it proves nothing; or nothing, for a machine that is
    not ours.
    """
    value = machine.values.get(RECORD)
    if value is None:
        return None
    try:
        record = from_value(value)
    except StockyardError as error:
        return UnreadableObject(machine.name, str(error))
    if record.domain != machine.name or record.uuid != machine.uuid:
        return UnreadableObject(machine.name, "its record is a copy: it names another machine.")
    return record
