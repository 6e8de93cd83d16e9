# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The records of branches in the register. Pure.

A branch has no files: its children share the disks of their parent, and vCenter deletes a shared
disk together with the last machine that uses it. So a record is all there is to delete.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import InvalidInput, OperationRefused
from ...hypervisor.records import decode_branch, encode
from ...model.branch import BranchRecord
from ...model.observation import UnreadableObject
from ...model.template import TemplateRecord
from ..common.stored_records import read_record, separate
from .locks import alive, key_of
from .pools import hosts_of
from .records import FORMAT
from .register import Values
from .reservations import BRANCH as KEY
from .reservations import MachineIndex


def read(values: Mapping[str, str]) -> tuple[list[BranchRecord], list[UnreadableObject]]:
    """Return all branches, and the entries that cannot be read."""
    return separate(
        _read(key.removeprefix(KEY), value)
        for key, value in sorted(values.items())
        if key.startswith(KEY)
    )


def write(values: Values, record: BranchRecord) -> None:
    """Write the record of a branch."""
    values[KEY + record.uuid] = FORMAT + encode(record)


def lock_of(record: BranchRecord) -> str:
    """Return the name that the controller of a branch holds until the release of the branch."""
    return f"branch {record.uuid}"


def prune(values: Values, index: MachineIndex, owner: str, current_time: float) -> None:
    """Delete the branches of an owner that have neither hosts nor a living controller.

    :param current_time: by vCenter's clock.
    """
    if index.has_unreadable:
        # An unreadable machine can be a host that was forked from any branch.
        return
    used = {host.branch for host in hosts_of(index, values)}
    for record in read(values)[0]:
        if (
            record.owner == owner
            and record.uuid not in used
            and not alive(values.get(key_of(lock_of(record))), current_time)
        ):
            del values[KEY + record.uuid]


def refuse_if_used(values: Mapping[str, str], template: TemplateRecord) -> None:
    """Refuse to delete a template that branches come from.

    :raises OperationRefused: with the branches.
    """
    key = (template.owner, template.tenant, template.name, template.generation)
    titles = [
        record.title
        for record in read(values)[0]
        if (record.owner, record.tenant, record.template, record.generation) == key
    ]
    if titles:
        raise OperationRefused(
            f"the disk of the template is under {', '.join(titles[:10])}.",
            name=template.title,
            remedy="delete these branches first",
        )


def _read(name: str, value: str) -> BranchRecord | UnreadableObject:
    return read_record(f"branch {name}", value, _decode, lambda record: record.uuid == name)


def _decode(value: str) -> BranchRecord:
    if not value.startswith(FORMAT):
        raise InvalidInput("the format of the record is not known.")
    return decode_branch(value[len(FORMAT) :])
