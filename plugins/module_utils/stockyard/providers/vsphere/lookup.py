# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lookup of vCenter's objects by name.

The objects are cluster, pool, folder, datastore, network, and the sources of templates.
"""

from __future__ import annotations

from typing import Any

from ...errors import InvalidInput, NotFound
from ...model.host import HostRecord
from ...model.observation import Record
from ...model.pool import pool_domain
from . import api
from .faults import is_a
from .inventory import many, properties
from .place import Place
from .session import Session


class Lookup:
    """The objects of a yard's place, on the vCenter of one session. Each object is looked up once.

    :param storage: the name of a datastore; empty for the datastore with the most free space.
    """

    def __init__(self, session: Session, place: Place, storage: str) -> None:
        self.session = session
        self.place = place
        self.storage = storage
        base = place.datacenter
        self.datacenter = self._find_one(base, "datacenter", place.datacenter, api.vim().Datacenter)
        self.cluster = self._find_one(
            f"{base}/host/{place.cluster}", "cluster", place.cluster, api.vim().ComputeResource
        )
        pool = f"{base}/host/{place.cluster}/Resources/{place.pool}".rstrip("/")
        self.pool = self._find_one(pool, "pool", place.pool or "Resources", api.vim().ResourcePool)
        self._folder: Any = None
        self._datastore: Any = None
        self._hosts: dict[str, str] = {}
        self._stores: dict[str, Any] = {}
        self._pools: dict[str, Any] = {}
        self.folder()

    def folder(self) -> Any | None:
        """Return the yard's folder, if it exists."""
        if self._folder is None:
            folder = self._path(f"{self.place.datacenter}/vm/{self.place.folder}")
            if folder is not None and not isinstance(folder, api.vim().Folder):
                raise InvalidInput(
                    f"folder: {self.place.folder} is not a folder of vCenter.",
                    remedy="choose another folder",
                )
            self._folder = folder
        return self._folder

    def made_folder(self) -> Any:
        """Return the yard's folder, and create it if it does not exist."""
        if self.folder() is None:
            parent = self.machines_folder()
            for name in self.place.folder.split("/"):
                parent = self._subfolder(parent, name)
            self._folder = parent
        return self._folder

    def machines_folder(self) -> Any:
        """Return the folder that contains all of the datacenter's machines."""
        return self._find_one(f"{self.place.datacenter}/vm", "folder", "vm", api.vim().Folder)

    def datastore(self) -> Any:
        """Return the datastore for the yard's disks."""
        if self._datastore is None:
            self._datastore = self._named_store() if self.storage else self._roomiest()
        return self._datastore

    def datastore_called(self, name: str) -> Any:
        """Return a datastore of the cluster by its name."""
        if name not in self._stores:
            self._stores[name] = self._one_of("datastore", name)
        return self._stores[name]

    def pool_of(self, record: Record) -> Any:
        """Return the resource pool for a machine: that of its pool, or the yard's own.

        :raises NotFound: if the resource pool no longer exists.
        """
        if not isinstance(record, HostRecord) or not record.spec.pool:
            return self.pool
        name = pool_domain(record.owner, record.tenant, record.spec.pool)
        pool = self.pool_below(name)
        if pool is None:
            raise NotFound(
                f"the resource pool {name} no longer exists.",
                name=record.title,
                remedy="create the pool again",
            )
        return pool

    def pool_below(self, name: str) -> Any | None:
        """Return the resource pool with this name under the yard's own, at any depth."""
        if name not in self._pools:
            refs = self.session.read("list the resource pools", name, self._pools_below)
            self._pools = {
                values.get("name", ""): ref
                for ref, values in many(self.session, refs, ("name",), name)
            }
        return self._pools.get(name)

    def forget_pools(self) -> None:
        """Discard the known resource pools, so that the next call reads them again."""
        self._pools = {}

    def child(self, name: str) -> Any | None:
        """Return a machine in the yard's folder, if it exists."""
        folder = self.folder()
        if folder is None:
            return None
        machine = self.session.read(
            "look up the machine", name, lambda: self._index().FindChild(folder, name)
        )
        return machine if isinstance(machine, api.vim().VirtualMachine) else None

    def by_uuid(self, uuid: str) -> Any | None:
        """Return a machine anywhere in the datacenter by its UUID in vCenter, if it exists."""
        return self.session.read(
            "look up the source",
            uuid,
            lambda: self._index().FindByUuid(self.datacenter, uuid, True, True),
        )

    def source(self, name: str) -> Any:
        """Return a machine or template of the datacenter by its name or its path.

        A path is relative to the datacenter's folder of machines.

        :raises NotFound: if no such machine exists.
        :raises InvalidInput: if several machines have the name.
        """
        machine = self._path(f"{self.place.datacenter}/vm/{name}")
        if isinstance(machine, api.vim().VirtualMachine):
            return machine
        candidates = [ref for ref, values in self._all_machines() if values.get("name") == name]
        if len(candidates) > 1:
            raise InvalidInput(
                f"source: {len(candidates)} machines have the name {name}.",
                remedy="declare the path, FOLDER/NAME",
            )
        if not candidates:
            raise NotFound(
                "the machine or template to clone does not exist.",
                name=name,
                remedy="check the source in vCenter",
            )
        return candidates[0]

    def network(self, name: str) -> Any:
        """Return a port group of the cluster."""
        return self._one_of("network", name)

    def host_name(self, key: str) -> str:
        """Return the name of an ESXi host by the number of its reference.

        The names of all of the cluster's hosts are read at once.
        """
        if key and key not in self._hosts:
            refs = properties(self.session, self.cluster, ("host",), self.place.cluster).get(
                "host", []
            )
            hosts = many(self.session, refs, ("name",), self.place.cluster)
            self._hosts = {key: "", **{ref._moId: values.get("name", "") for ref, values in hosts}}
        return self._hosts.get(key, "")

    def _all_machines(self) -> list[tuple[Any, dict[str, Any]]]:
        views = self.session.content.viewManager

        def read() -> list[Any]:
            view = views.CreateContainerView(self.datacenter, [api.vim().VirtualMachine], True)
            try:
                return list(view.view)
            finally:
                view.DestroyView()

        return many(
            self.session, self.session.read("list the machines", "", read), ("name",), "source"
        )

    def _pools_below(self) -> list[Any]:
        view = self.session.content.viewManager.CreateContainerView(
            self.pool, [api.vim().ResourcePool], True
        )
        try:
            return list(view.view)
        finally:
            view.DestroyView()

    def _one_of(self, kind: str, name: str) -> Any:
        refs = properties(self.session, self.cluster, (kind,), self.place.cluster).get(kind, [])
        refs_by_name = {}
        for ref in refs:
            refs_by_name[properties(self.session, ref, ("name",), name).get("name")] = ref
        if name not in refs_by_name:
            names = ", ".join(sorted(str(candidate) for candidate in refs_by_name)[:20])
            raise NotFound(
                f"the cluster does not have this {kind}.",
                name=f"{kind} {name}",
                cause=f"the cluster has {names or 'none'}",
                remedy="name one of these",
            )
        return refs_by_name[name]

    def _named_store(self) -> Any:
        return self._one_of("datastore", self.storage)

    def _roomiest(self) -> Any:
        refs = properties(self.session, self.cluster, ("datastore",), self.place.cluster).get(
            "datastore", []
        )
        datastores = many(
            self.session,
            refs,
            ("summary.accessible", "summary.freeSpace", "summary.name"),
            self.place.cluster,
        )
        accessible_stores = [
            (values.get("summary.freeSpace", 0), values.get("summary.name", ""), ref)
            for ref, values in datastores
            if values.get("summary.accessible")
        ]
        if not accessible_stores:
            raise NotFound(
                "the cluster has no reachable datastore.",
                name=f"cluster {self.place.cluster}",
            )
        return max(accessible_stores, key=lambda item: item[:2])[2]

    def _subfolder(self, parent: Any, name: str) -> Any:
        folder = self.session.read(
            "look up the folder", name, lambda: self._index().FindChild(parent, name)
        )
        return folder or self.session.change(
            "create the folder", name, lambda: self._make_folder(parent, name)
        )

    def _make_folder(self, parent: Any, name: str) -> Any:
        try:
            return parent.CreateFolder(name)
        except api.vmodl().MethodFault as fault:
            if not is_a(fault, "DuplicateName"):
                raise
            # Another controller created it first.
            return self._index().FindChild(parent, name)

    def _find_one(self, path: str, kind: str, name: str, type_: Any) -> Any:
        entity = self._path(path)
        if not isinstance(entity, type_):
            raise NotFound(
                f"vCenter does not have this {kind}, or this user cannot see it.",
                name=f"{kind} {name}",
                cause=f"no {path}",
                remedy="compare the hypervisor's URI with vCenter's inventory",
            )
        return entity

    def _path(self, path: str) -> Any | None:
        return self.session.read(
            "look up the object", path, lambda: self._index().FindByInventoryPath(path)
        )

    def _index(self) -> Any:
        return self.session.content.searchIndex
