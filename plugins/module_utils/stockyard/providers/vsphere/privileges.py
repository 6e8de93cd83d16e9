# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The privileges that a yard needs, and the check of all of them before the first change."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from ...errors import HypervisorError
from .labels import Labels
from .lookup import Lookup
from .session import Session

# The privileges by the object on which they are checked. A role with all of them, given on the
# cluster, on the datastore, on the network and on the folder of machines (with propagation), is
# enough. Names as in vSphere's API reference.
NEEDED: Mapping[str, tuple[str, ...]] = {
    "folder": (
        "Folder.Create",
        "VirtualMachine.Config.AdvancedConfig",
        "VirtualMachine.Config.CPUCount",
        "VirtualMachine.Config.EditDevice",
        "VirtualMachine.Config.Memory",
        "VirtualMachine.Config.Settings",
        "VirtualMachine.Interact.DeviceConnection",
        "VirtualMachine.Interact.PowerOff",
        "VirtualMachine.Interact.PowerOn",
        "VirtualMachine.Inventory.Create",
        "VirtualMachine.Inventory.CreateFromExisting",
        "VirtualMachine.Inventory.Delete",
        "VirtualMachine.Provisioning.Clone",
        "VirtualMachine.Provisioning.DeployTemplate",
    ),
    "pool": ("Resource.AssignVMToPool",),
    "datastore": ("Datastore.AllocateSpace",),
    "network": ("Network.Assign",),
}
# Additional privileges for some purposes: checked before the first pool or volume is created and
# before the first host is suspended, and by the preflight.
FOR: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "pools": {"pool": ("Resource.CreatePool", "Resource.DeletePool", "Resource.EditPool")},
    "volumes": {
        "folder": (
            "VirtualMachine.Config.AddExistingDisk",
            "VirtualMachine.Config.DiskExtend",
            "VirtualMachine.Config.RemoveDisk",
        ),
        "datastore": ("Datastore.Browse", "Datastore.FileManagement"),
    },
    "suspension": {"folder": ("VirtualMachine.Interact.Suspend",)},
}


def needed(labels: Labels) -> dict[str, tuple[str, ...]]:
    """Return the privileges for a yard that may have a custom attribute.

    Writing the attribute needs one privilege; creating it, if it does not exist, needs another one.
    """
    if not labels.name:
        return dict(NEEDED)
    privileges = {**NEEDED, "folder": (*NEEDED["folder"], "Global.SetCustomField")}
    return (
        privileges
        if labels.existing_key() is not None
        else {**privileges, "vCenter": ("Global.ManageCustomFields",)}
    )


class Guard:
    """The check of this user's privileges for a yard at one place."""

    def __init__(self, session: Session, lookup: Lookup, labels: Labels) -> None:
        self.session = session
        self.lookup = lookup
        self.labels = labels
        self._looking = threading.Lock()
        self._may: set[str] = set()

    def demand(self, purpose: str = "") -> None:
        """Check the privileges before an operation starts that could not be completed without them.

        A successful check is not repeated.

        :param purpose: ``pools``, ``volumes`` or ``suspension``; empty for a yard without them.
        :raises HypervisorError: with every missing privilege.
        """
        with self._looking:
            missing_privileges = (
                []
                if purpose in self._may
                else self._missing_privileges(FOR[purpose] if purpose else needed(self.labels))
            )
            if not missing_privileges:
                self._may.add(purpose)
        if missing_privileges:
            raise HypervisorError(
                f"{len(missing_privileges)} privileges are missing; nothing was changed.",
                name=self.session.place.host,
                cause="; ".join(missing_privileges),
                remedy="give the user a role with these privileges; the page on vSphere "
                "contains such a role",
            )

    def missing(self) -> list[str]:
        """Return each missing privilege with its object and its purpose."""
        lines = self._missing_privileges(needed(self.labels))
        for purpose, required_privileges in FOR.items():
            lines += [
                f"{line}, only for {purpose}"
                for line in self._missing_privileges(required_privileges)
            ]
        return lines

    def _missing_privileges(self, required_privileges: Mapping[str, tuple[str, ...]]) -> list[str]:
        """Return those of some privileges that this user lacks, in one call."""
        objects = {
            kind: ref for kind, ref in self._objects().items() if kind in required_privileges
        }
        names = sorted({name for kind in objects for name in required_privileges[kind]})
        content = self.session.content
        manager, sessions = content.authorizationManager, content.sessionManager

        def ask() -> Any:
            session_key = sessions.currentSession.key
            return manager.HasPrivilegeOnEntities(list(objects.values()), session_key, names)

        granted_pairs = {
            (answer.entity._moId, item.privId)
            for answer in self.session.read(
                "read this user's privileges", self.session.place.host, ask
            )
            for item in answer.privAvailability
            if item.isGranted
        }
        return [
            f"privilege {name} is missing on the {kind}"
            for kind, ref in objects.items()
            for name in required_privileges[kind]
            if (ref._moId, name) not in granted_pairs
        ]

    def _objects(self) -> dict[str, Any]:
        """Return the objects on which privileges are checked.

        If the yard's folder does not exist yet, its future parent is checked.
        """
        lookup = self.lookup
        objects = {
            "folder": lookup.folder() or lookup.machines_folder(),
            "pool": lookup.pool,
            "datastore": lookup.datastore(),
            "vCenter": self.session.content.rootFolder,
        }
        if lookup.place.network:
            objects["network"] = lookup.network(lookup.place.network)
        return objects
