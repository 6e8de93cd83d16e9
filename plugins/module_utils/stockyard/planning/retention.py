# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects that are deleted without a request, and the objects that are skipped. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ..model.host import Host, HostRecord
from ..model.observation import Observation, OrphanedFile, Record, Template
from ..model.yard_info import SkippedObject
from . import container_machines, lease_policy

INCOMPLETE = {
    "creating": "its creation was interrupted",
    "building": "its creation was interrupted",
    "booting": "its creation was interrupted",
    "deleting": "its deletion was interrupted",
}


def why(record: Record, current_time: float, grace: float) -> str:
    """Return the reason to delete an object of this owner; empty if it stays.

    :param grace: seconds that the creation of an object can take, and that a container machine can
        be without an endpoint.
    """
    reason = INCOMPLETE.get(record.phase, "")
    if reason and (record.phase == "deleting" or current_time - record.created >= grace):
        return reason
    if not isinstance(record, HostRecord):
        return ""
    return lease_policy.deletion_reason(record, current_time) or container_machines.deletion_reason(
        record, current_time, grace
    )


def hosts(observation: Observation, current_time: float, grace: float) -> list[Host]:
    """Return the hosts to delete."""
    return [host for host in observation.hosts if why(host.record, current_time, grace)]


def templates(observation: Observation, current_time: float, grace: float) -> list[Template]:
    """Return the templates to delete."""
    return [
        template for template in observation.templates if why(template.record, current_time, grace)
    ]


def skipped_objects(
    owner: str, observation: Observation, current_time: float, grace: float
) -> list[SkippedObject]:
    """Return the objects that look deletable and are skipped, each with the reason."""
    own_names = {host.record.domain for host in observation.hosts} | {
        template.record.domain for template in observation.templates
    }
    unreadable_reasons = {machine.name: machine.reason for machine in observation.unreadable}
    skipped = [
        SkippedObject("machine", name, reason)
        for name, reason in sorted(unreadable_reasons.items())
    ]
    for name in sorted(observation.names - own_names - unreadable_reasons.keys()):
        if name.startswith(f"{owner}."):
            skipped.append(
                SkippedObject(
                    "machine",
                    name,
                    "its name matches this owner, but the machine has no metadata of stockyard",
                )
            )
        elif _like_ours(name):
            skipped.append(
                SkippedObject(
                    "machine",
                    name,
                    "its name has the form of stockyard, but it belongs to another owner or "
                    "to none",
                )
            )
    records: list[Record] = [
        *(host.record for host in observation.hosts),
        *(template.record for template in observation.templates),
    ]
    for record in records:
        if record.phase in INCOMPLETE and not why(record, current_time, grace):
            reason = (
                f"it has been {record.phase} for only "
                f"{max(0.0, current_time - record.created):.0f} s"
            )
            skipped.append(SkippedObject(record.kind, record.name, reason))
    return skipped


def files_left(files: Iterable[OrphanedFile]) -> list[SkippedObject]:
    """Return the skipped files."""
    return [SkippedObject("file", leftover.path, leftover.reason) for leftover in files]


def _like_ours(name: str) -> bool:
    parts = name.split(".")
    return len(parts) == 3 or (len(parts) == 5 and parts[2] == "template")
