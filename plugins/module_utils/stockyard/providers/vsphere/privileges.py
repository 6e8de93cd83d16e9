# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The privileges that a yard needs, all of them, and the look whether they are there before
anything is made.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from ...errors import HypervisorError
from .labels import Labels
from .lookup import Lookup
from .session import Session

# By the object that they are asked on. A role with all of them, given on the cluster, on the
# datastore, on the network and on the folder of machines (with propagation), is enough. Names as in
# vSphere's API reference.
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
# What pools and volumes need beside: asked for before the first of them is made, and by the
# preflight.
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
}


def needed(labels: Labels) -> dict[str, tuple[str, ...]]:
    """The same for a yard that may have a custom attribute: to write it, and to make it when it is
    not there.
    """
    if not labels.name:
        return dict(NEEDED)
    found = {**NEEDED, "folder": (*NEEDED["folder"], "Global.SetCustomField")}
    return (
        found
        if labels.there() is not None
        else {**found, "vCenter": ("Global.ManageCustomFields",)}
    )


class Guard:
    """What this user lacks for a yard at one place."""

    def __init__(self, session: Session, lookup: Lookup, labels: Labels) -> None:
        self.session = session
        self.lookup = lookup
        self.labels = labels
        self._looking = threading.Lock()
        self._may: set[str] = set()

    def demand(self, purpose: str = "") -> None:
        """Refuse to begin what cannot be ended; looked at once.

        :param purpose: ``pools`` or ``volumes``; nothing for a yard without.
        :raises HypervisorError: naming every privilege that is missing.
        """
        with self._looking:
            found = (
                []
                if purpose in self._may
                else self._lacking(FOR[purpose] if purpose else needed(self.labels))
            )
            if not found:
                self._may.add(purpose)
        if found:
            raise HypervisorError(
                f"{len(found)} privileges are missing; nothing was made.",
                name=self.session.place.host,
                cause="; ".join(found),
                remedy="give the user a role that has them; the page on vSphere has one to copy",
            )

    def missing(self) -> list[str]:
        """Each privilege that this user has not, with the object that he has it not on, and what it
        is for.
        """
        found = self._lacking(needed(self.labels))
        for purpose, wanted in FOR.items():
            found += [f"{line}, for {purpose} alone" for line in self._lacking(wanted)]
        return found

    def _lacking(self, wanted: Mapping[str, tuple[str, ...]]) -> list[str]:
        """Of some privileges those that this user has not; in one call."""
        objects = {kind: ref for kind, ref in self._objects().items() if kind in wanted}
        names = sorted({name for kind in objects for name in wanted[kind]})
        content = self.session.content
        manager, sessions = content.authorizationManager, content.sessionManager

        def ask() -> Any:
            own = sessions.currentSession.key
            return manager.HasPrivilegeOnEntities(list(objects.values()), own, names)

        granted = {
            (answer.entity._moId, item.privId)
            for answer in self.session.ask(
                "ask for this user's privileges", self.session.place.host, ask
            )
            for item in answer.privAvailability
            if item.isGranted
        }
        return [
            f"privilege {name} is missing on the {kind}"
            for kind, ref in objects.items()
            for name in wanted[kind]
            if (ref._moId, name) not in granted
        ]

    def _objects(self) -> dict[str, Any]:
        """What is asked on. Where the yard's folder is not there yet, the one that it
        will be in.
        """
        lookup = self.lookup
        found = {
            "folder": lookup.folder() or lookup.machines_folder(),
            "pool": lookup.pool,
            "datastore": lookup.datastore(),
            "vCenter": self.session.content.rootFolder,
        }
        if lookup.place.network:
            found["network"] = lookup.network(lookup.place.network)
        return found
