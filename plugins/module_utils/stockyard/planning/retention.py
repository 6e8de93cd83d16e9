# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be taken away although nobody says so, and what is left alone. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..model.host import Host, HostRecord
from ..model.observation import Observation, OrphanedFile, Record, Template
from . import lease_policy

HALF = {
    "creating": "half-made",
    "building": "half-made",
    "booting": "half-made",
    "deleting": "half-destroyed",
}


@dataclass(frozen=True)
class SkippedObject:
    """Something that is left alone.

    :param kind: ``machine``, ``host``, ``template``, ``volume``, ``fleet`` or ``file``.
    """

    kind: str
    name: str
    reason: str


def why(record: Record, now: float, grace: float) -> str:
    """Why a thing of ours is to go; empty when it is not.

    :param grace: seconds that something may take to be made.
    """
    half = HALF.get(record.phase, "")
    if half and (record.phase == "deleting" or now - record.created >= grace):
        return f"it was left {half}"
    return lease_policy.why_over(record, now) if isinstance(record, HostRecord) else ""


def hosts(seen: Observation, now: float, grace: float) -> list[Host]:
    """The hosts that are to go."""
    return [h for h in seen.hosts if why(h.record, now, grace)]


def templates(seen: Observation, now: float, grace: float) -> list[Template]:
    """The templates that are to go."""
    return [t for t in seen.templates if why(t.record, now, grace)]


def left_alone(owner: str, seen: Observation, now: float, grace: float) -> list[SkippedObject]:
    """What looks like something that might go, and why it does not."""
    ours = {h.record.domain for h in seen.hosts} | {t.record.domain for t in seen.templates}
    unreadable = {s.name: s.reason for s in seen.unreadable}
    found = [SkippedObject("machine", name, reason) for name, reason in sorted(unreadable.items())]
    for name in sorted(seen.names - ours - unreadable.keys()):
        if name.startswith(f"{owner}."):
            found.append(
                SkippedObject(
                    "machine",
                    name,
                    "it has a name like ours, and nothing in it says that it is ours",
                )
            )
        elif _like_ours(name):
            found.append(
                SkippedObject(
                    "machine", name, "it belongs to another owner, or to nobody whom we know"
                )
            )
    records: list[Record] = [*(h.record for h in seen.hosts), *(t.record for t in seen.templates)]
    for record in records:
        if record.phase in HALF and not why(record, now, grace):
            reason = f"it has been {record.phase} for {max(0.0, now - record.created):.0f} s only"
            found.append(SkippedObject(record.kind, record.name, reason))
    return found


def files_left(found: Iterable[OrphanedFile]) -> list[SkippedObject]:
    """Files that are left alone."""
    return [SkippedObject("file", leftover.path, leftover.reason) for leftover in found]


def _like_ours(name: str) -> bool:
    parts = name.split(".")
    return len(parts) == 3 or (len(parts) == 5 and parts[2] == "template")
