# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finding things by their names: cluster, pool, folder, datastore, network, and what a template is
made of.
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
    """What a yard's place is, on the vCenter of one session. Each thing is looked for once.

    :param storage: the name of a datastore; empty for the one with the most room.
    """

    def __init__(self, session: Session, place: Place, storage: str) -> None:
        self.session = session
        self.place = place
        self.storage = storage
        base = place.datacenter
        self.datacenter = self._need(base, "datacenter", place.datacenter, api.vim().Datacenter)
        self.cluster = self._need(
            f"{base}/host/{place.cluster}", "cluster", place.cluster, api.vim().ComputeResource
        )
        pool = f"{base}/host/{place.cluster}/Resources/{place.pool}".rstrip("/")
        self.pool = self._need(pool, "pool", place.pool or "Resources", api.vim().ResourcePool)
        self._folder: Any = None
        self._datastore: Any = None
        self._hosts: dict[str, str] = {}
        self._stores: dict[str, Any] = {}
        self._pools: dict[str, Any] = {}
        self.folder()

    def folder(self) -> Any | None:
        """The yard's folder, if it is there."""
        if self._folder is None:
            found = self._path(f"{self.place.datacenter}/vm/{self.place.folder}")
            if found is not None and not isinstance(found, api.vim().Folder):
                raise InvalidInput(
                    f"folder: {self.place.folder} is not a folder.", remedy="name another folder"
                )
            self._folder = found
        return self._folder

    def made_folder(self) -> Any:
        """The yard's folder, made if it is not there."""
        if self.folder() is None:
            parent = self.machines_folder()
            for name in self.place.folder.split("/"):
                parent = self._subfolder(parent, name)
            self._folder = parent
        return self._folder

    def machines_folder(self) -> Any:
        """The folder that all of the datacenter's machines are under."""
        return self._need(f"{self.place.datacenter}/vm", "folder", "vm", api.vim().Folder)

    def datastore(self) -> Any:
        """The datastore that the yard's disks are on."""
        if self._datastore is None:
            self._datastore = self._named_store() if self.storage else self._roomiest()
        return self._datastore

    def datastore_called(self, name: str) -> Any:
        """A datastore of the cluster."""
        if name not in self._stores:
            self._stores[name] = self._one_of("datastore", name)
        return self._stores[name]

    def pool_of(self, record: Record) -> Any:
        """The resource pool that a machine is made in: its pool's, or the yard's own.

        :raises NotFound: when it is gone.
        """
        if not isinstance(record, HostRecord) or not record.spec.pool:
            return self.pool
        name = pool_domain(record.owner, record.tenant, record.spec.pool)
        found = self.pool_below(name)
        if found is None:
            raise NotFound(
                f"its resource pool {name} is gone.",
                name=record.title,
                remedy="create the pool again",
            )
        return found

    def pool_below(self, name: str) -> Any | None:
        """A resource pool of this name under the yard's own, however deep."""
        if name not in self._pools:
            refs = self.session.ask("list the resource pools", name, self._pools_below)
            self._pools = {
                v.get("name", ""): ref for ref, v in many(self.session, refs, ("name",), name)
            }
        return self._pools.get(name)

    def forget_pools(self) -> None:
        """Look again next time."""
        self._pools = {}

    def child(self, name: str) -> Any | None:
        """A machine in the yard's folder."""
        folder = self.folder()
        if folder is None:
            return None
        found = self.session.ask(
            "look up the machine", name, lambda: self._index().FindChild(folder, name)
        )
        return found if isinstance(found, api.vim().VirtualMachine) else None

    def by_uuid(self, uuid: str) -> Any | None:
        """A machine anywhere in the datacenter, by vCenter's own uuid of it."""
        return self.session.ask(
            "look up the source",
            uuid,
            lambda: self._index().FindByUuid(self.datacenter, uuid, True, True),
        )

    def source(self, name: str) -> Any:
        """A machine or template of the datacenter, by its name or its path under the datacenter's
        machines.

        :raises NotFound: when there is none.
        :raises InvalidInput: when there are several.
        """
        found = self._path(f"{self.place.datacenter}/vm/{name}")
        if isinstance(found, api.vim().VirtualMachine):
            return found
        alike = [ref for ref, values in self._all_machines() if values.get("name") == name]
        if len(alike) > 1:
            raise InvalidInput(
                f"source: {len(alike)} machines are called {name}.",
                remedy="give its path, FOLDER/NAME",
            )
        if not alike:
            raise NotFound(
                "there is no such machine or template to clone.",
                name=name,
                remedy="see source in vCenter",
            )
        return alike[0]

    def network(self, name: str) -> Any:
        """A port group of the cluster."""
        return self._one_of("network", name)

    def host_name(self, key: str) -> str:
        """The name of an ESXi host by its reference's number; all of the cluster's are read at
        once.
        """
        if key and key not in self._hosts:
            refs = properties(self.session, self.cluster, ("host",), self.place.cluster).get(
                "host", []
            )
            found = many(self.session, refs, ("name",), self.place.cluster)
            self._hosts = {key: "", **{ref._moId: values.get("name", "") for ref, values in found}}
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
            self.session, self.session.ask("list the machines", "", read), ("name",), "source"
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
        known = {}
        for ref in refs:
            known[properties(self.session, ref, ("name",), name).get("name")] = ref
        if name not in known:
            listed = ", ".join(sorted(str(n) for n in known)[:20])
            raise NotFound(
                f"the cluster has no such {kind}.",
                name=f"{kind} {name}",
                cause=f"it has {listed or 'none'}",
                remedy="name one of these",
            )
        return known[name]

    def _named_store(self) -> Any:
        return self._one_of("datastore", self.storage)

    def _roomiest(self) -> Any:
        refs = properties(self.session, self.cluster, ("datastore",), self.place.cluster).get(
            "datastore", []
        )
        found = many(
            self.session,
            refs,
            ("summary.accessible", "summary.freeSpace", "summary.name"),
            self.place.cluster,
        )
        open_ = [
            (v.get("summary.freeSpace", 0), v.get("summary.name", ""), ref)
            for ref, v in found
            if v.get("summary.accessible")
        ]
        if not open_:
            raise NotFound(
                "the cluster has no datastore that can be reached.",
                name=f"cluster {self.place.cluster}",
            )
        return max(open_, key=lambda item: item[:2])[2]

    def _subfolder(self, parent: Any, name: str) -> Any:
        found = self.session.ask(
            "look up the folder", name, lambda: self._index().FindChild(parent, name)
        )
        return found or self.session.tell(
            "make the folder", name, lambda: self._make_folder(parent, name)
        )

    def _make_folder(self, parent: Any, name: str) -> Any:
        try:
            return parent.CreateFolder(name)
        except api.vmodl().MethodFault as fault:
            if not is_a(fault, "DuplicateName"):
                raise
            # Another controller was quicker.
            return self._index().FindChild(parent, name)

    def _need(self, path: str, kind: str, name: str, type_: Any) -> Any:
        found = self._path(path)
        if not isinstance(found, type_):
            raise NotFound(
                f"vCenter has no such {kind}, or this user may not see it.",
                name=f"{kind} {name}",
                cause=f"no {path}",
                remedy="compare the hypervisor's URI with vCenter's inventory",
            )
        return found

    def _path(self, path: str) -> Any | None:
        return self.session.ask(
            "look up the object", path, lambda: self._index().FindByInventoryPath(path)
        )

    def _index(self) -> Any:
        return self.session.content.searchIndex
