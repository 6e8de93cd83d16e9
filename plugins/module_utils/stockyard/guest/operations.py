# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operations of the identity agent: the version that added each one, and its names. Pure.

A host keeps the agent of its template, so a controller meets agents of all versions. The agent has
one table too, with the former names that it still answers (``FORMER_NAMES``): a test keeps both
tables in step.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST = 1
# The version that gave some operations their current names.
RENAMED = 6


@dataclass(frozen=True)
class Operation:
    """One operation of the agent.

    :param name: name in requests.
    :param purpose: the feature that needs the operation, as errors name it.
    :param since: first version of the agent that knows the operation.
    :param former_name: name in requests to agents before ``RENAMED``; empty if it did not change.
    """

    name: str
    purpose: str
    since: int = FIRST
    former_name: str = ""

    def name_for(self, version: int) -> str:
        """Return the name that an agent of this version knows."""
        return self.former_name if self.former_name and version < RENAMED else self.name


_TABLE = (
    Operation("hello", "a status"),
    Operation("draw", "random samples"),
    Operation("prepare", "playbooks in templates"),
    Operation("enable-ssh", "playbooks in templates", former_name="let-in"),
    Operation("disable-ssh", "playbooks in templates", former_name="let-out"),
    Operation("warm-up", "templates"),
    Operation("freeze", "templates"),
    Operation("identify", "identities"),
    Operation("renew-certificate", "identities", former_name="admit"),
    Operation("settle", "identities"),
    Operation("csr", "certificate renewal", 2),
    Operation("volume-probe", "volumes", 3, "volume-look"),
    Operation("volume-create", "volumes", 3, "volume-make"),
    Operation("volume-mount", "volumes", 3),
    Operation("volume-unmount", "volumes", 3),
    Operation("open", "volumes", 3),
    Operation("refresh-limits", "limits after a resize", 4, "recount"),
    Operation("set-clock", "clock corrections", 5),
    Operation("unit-failures", "reports of failed units", 5),
    Operation("docker-probe", "checks of Docker", 5),
    Operation("discard-identity", "branches", 7),
    Operation("change-containers", "branches", 7),
    Operation("reseed", "new entropy after a suspension", 7),
    Operation("volume-drop", "branches without volumes", 8),
    Operation("scrub", "templates from hosts", 9),
    Operation("key-exchange", "wrapped keys", 10),
)
OPERATIONS = {operation.name: operation for operation in _TABLE}
# The first version for each purpose. Encryption is a field of the operations on volumes, and an
# agent before version 10 keeps the keys of volumes in its memory.
NEEDED = {
    **{operation.purpose: operation.since for operation in _TABLE},
    "encrypted volumes": 4,
    "branches of hosts with encrypted data": 10,
}
