# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The privileges that a yard needs, all of them, and the look whether they are there before anything is made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import HypervisorError
from .lookup import Lookup
from .session import Session

# By the object that they are asked on. A role with all of them, given on the cluster, on the datastore, on the network
# and on the folder of machines (with propagation), is enough. Names as in vSphere's API reference.
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


def missing(session: Session, lookup: Lookup) -> list[str]:
    """Each privilege that this user has not, with the object that he has it not on; in one call."""
    objects = _objects(lookup)
    names = sorted({name for kind in objects for name in NEEDED[kind]})
    manager, sessions = session.content.authorizationManager, session.content.sessionManager

    def ask() -> Any:
        own = sessions.currentSession.key
        return manager.HasPrivilegeOnEntities(list(objects.values()), own, names)

    granted = {
        (answer.entity._moId, item.privId)
        for answer in session.ask("ask for this user's privileges", session.place.host, ask)
        for item in answer.privAvailability
        if item.isGranted
    }
    return [
        f"privilege {name} is missing on the {kind}"
        for kind, ref in objects.items()
        for name in NEEDED[kind]
        if (ref._moId, name) not in granted
    ]


def demand(session: Session, lookup: Lookup) -> None:
    """Refuse to begin what cannot be ended.

    :raises HypervisorError: naming every privilege that is missing.
    """
    found = missing(session, lookup)
    if found:
        raise HypervisorError(
            f"{len(found)} privileges are missing; nothing was made.", name=session.place.host, cause="; ".join(found),
            remedy="give the user a role that has them; the page on vSphere has one to copy",
        )  # fmt: skip


def _objects(lookup: Lookup) -> dict[str, Any]:
    """What is asked on. Where the yard's folder is not there yet, the one that it will be in."""
    found = {
        "folder": lookup.folder() or lookup.machines_folder(), "pool": lookup.pool, "datastore": lookup.datastore(),
    }  # fmt: skip
    if lookup.place.network:
        found["network"] = lookup.network(lookup.place.network)
    return found
