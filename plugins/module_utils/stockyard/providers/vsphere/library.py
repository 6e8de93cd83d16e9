# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Items of content libraries as sources: deployed once, and then cloned like any other machine.

A deployed item is a machine in the yard's folder. The name is derived from the item and its
version. A snapshot keeps templates and linked forks of the machine small, and a marker identifies
the machine. The machine is deleted when no template is based on it any more.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ...clock import Deadline
from ...errors import HypervisorError, InvalidInput, NotFound, OperationRefused, Unsupported
from ...hypervisor.provider import Progress
from ...model.observation import Record, UnreadableObject
from ...model.template import TemplateRecord
from . import api, specs
from .inventory import machines, properties
from .lookup import Lookup
from .records import OURS, Machine, option
from .rest import Rest, messages
from .session import Session
from .task import Tasks

SCHEME = "library:"
IMAGE = f"{OURS}image"
NAME = "stockyard-image-"
REMOVAL = 600.0
SNAPSHOT = "snapshot.currentSnapshot"
LIBRARIES, ITEMS = "/com/vmware/content/library", "/com/vmware/content/library/item"
DEPLOY = "/com/vmware/vcenter/ovf/library-item/id:{}?~action=deploy"
TEMPLATES = "/vcenter/vm-template/library-items/{}"


@dataclass(frozen=True)
class Item:
    """The current version of one item."""

    uuid: str
    version: str
    kind: str

    @property
    def machine(self) -> str:
        """Return the name of the machine that this version is deployed as."""
        return NAME + hashlib.sha256(f"{self.uuid}@{self.version}".encode()).hexdigest()[:12]


def parts(source: str) -> tuple[str, str]:
    """Split ``library:LIBRARY/ITEM`` into the two names.

    :raises InvalidInput: if the text has another form.
    """
    library, slash, item = source.removeprefix(SCHEME).partition("/")
    if not (library and slash and item):
        raise InvalidInput(
            f"source: {source!a} does not name an item.", remedy=f"write {SCHEME}LIBRARY/ITEM"
        )
    return library, item


def find_item(rest_client: Rest, source: str) -> Item:
    """Return the item that a source names.

    :raises NotFound: if no such item exists.
    :raises InvalidInput: if several items have the name.
    """
    library, name = parts(source)
    owner = _one(
        rest_client.request("POST", f"{LIBRARIES}?~action=find", {"spec": {"name": library}}),
        f"library {library}",
    )
    spec = {"spec": {"name": name, "library_id": owner}}
    key = _one(rest_client.request("POST", f"{ITEMS}?~action=find", spec), f"item {name}")
    details = rest_client.request("GET", f"{ITEMS}/id:{key}")
    return Item(
        key, str(details.get("content_version") or ""), str(details.get("type") or "").lower()
    )


def _one(keys: Any, name: str) -> str:
    if not keys:
        remedy = "check the content libraries in vCenter; the user must be allowed to read them"
        raise NotFound("no content library of vCenter has this item.", name=name, remedy=remedy)
    if len(keys) > 1:
        raise InvalidInput(
            f"{len(keys)} items have this name.",
            name=name,
            remedy="rename the items so that the name is unique",
        )
    return str(keys[0])


class Images:
    """The deployed items in one yard's folder."""

    def __init__(self, session: Session, lookup: Lookup, tasks: Tasks) -> None:
        self.session = session
        self.lookup = lookup
        self.tasks = tasks

    def ensure(self, source: str, progress: Progress, deadline: Deadline) -> Any:
        """Return the machine of an item, and deploy the item first if necessary.

        The caller must hold the lock of the source, so that no other controller deploys the item at
        the same time.

        :raises Unsupported: if the item is not a machine.
        """
        with self.session.rest() as rest_client:
            item = find_item(rest_client, source)
            if item.kind == "vm-template":
                return self._template(rest_client, item, source)
            if item.kind != "ovf":
                cause = f"the item has type {item.kind or 'none'}"
                remedy = "declare an item of type OVF, or a VM template"
                raise Unsupported(
                    "the item cannot be deployed as a machine.",
                    name=source,
                    cause=cause,
                    remedy=remedy,
                )
            ref = self.lookup.child(item.machine)
            if ref is None:
                progress(f"{source}: deployed as {item.machine}")
                ref = self._deployed(rest_client, item, source)
                self._mark(ref, item, source, deadline)
        return self._complete(ref, item, source, deadline)

    def prune(
        self,
        records: Iterable[Record | UnreadableObject],
        older_than: float,
        own: frozenset[str],
        *,
        check: bool = False,
    ) -> list[str]:
        """Delete the deployed items that no template of any owner uses; return their names.

        :param older_than: seconds since they were deployed.
        :param own: images that are deleted at any age.
        :param check: whether nothing is deleted.
        """
        records, folder = list(records), self.lookup.folder()
        if folder is None or any(isinstance(record, UnreadableObject) for record in records):
            # An unreadable object may be based on any of them.
            return []
        unused_images = self._unused(
            folder,
            {
                record.image.partition("@")[0]
                for record in records
                if isinstance(record, TemplateRecord)
            },
        )
        removed_names, uuids = [], {image.partition("@")[0] for image in own}
        for machine in (
            candidate
            for candidate, uuid, age in unused_images
            if uuid in uuids or age >= older_than
        ):
            if not check:
                self.tasks.run(
                    "remove the image", machine.name, machine.ref.Destroy_Task, Deadline(REMOVAL)
                )
            removed_names.append(machine.name)
        return removed_names

    def _unused(self, folder: Any, used_uuids: set[str]) -> Iterator[tuple[Machine, str, float]]:
        """Return the deployed items that no template is based on, each with its UUID and age.

        :param used_uuids: the UUIDs of machines that templates are based on.
        """
        for machine in [
            candidate
            for candidate in machines(self.session, folder)
            if candidate.name.startswith(NAME)
        ]:
            values = properties(
                self.session, machine.ref, (option(IMAGE), "config.instanceUuid"), machine.name
            )
            mark = values.get(option(IMAGE))
            if mark is not None and values.get("config.instanceUuid") not in used_uuids:
                yield (
                    machine,
                    str(values.get("config.instanceUuid")),
                    time.time() - _created(str(mark.value)),
                )

    def _deployed(self, rest_client: Rest, item: Item, source: str) -> Any:
        target = {
            "resource_pool_id": self.lookup.pool._moId,
            "folder_id": self.lookup.made_folder()._moId,
        }
        store = {"default_datastore_id": self.lookup.datastore()._moId}
        spec = {"name": item.machine, "accept_all_EULA": True, **store}
        answer = (
            rest_client.request(
                "POST", DEPLOY.format(item.uuid), {"target": target, "deployment_spec": spec}
            )
            or {}
        )
        resource = answer.get("resource_id") or {}
        if not answer.get("succeeded") or resource.get("type") != "VirtualMachine":
            raise HypervisorError(
                "the item could not be deployed.",
                name=source,
                cause=messages(answer) or f"the deployment returned a {resource.get('type')}",
                remedy="deploy the item manually in vCenter, which reports details",
            )
        return self._machine(str(resource.get("id")))

    def _template(self, rest_client: Rest, item: Item, source: str) -> Any:
        """Return the machine of an item of type VM template, which is in the inventory already."""
        template = rest_client.request("GET", TEMPLATES.format(item.uuid)) or {}
        if not template.get("vm_template"):
            raise NotFound(
                "vCenter does not report the deployed machine.",
                name=source,
                remedy="declare the VM template itself as the source, by its name in the inventory",
            )
        return self._machine(str(template["vm_template"]))

    def _mark(self, ref: Any, item: Item, source: str, deadline: Deadline) -> None:
        """Write the marker."""
        value = f"1 {item.uuid}@{item.version} {time.time():.0f}"
        spec = specs.reconfigure({IMAGE: value})
        self.tasks.run("mark the image", source, lambda: ref.ReconfigVM_Task(spec), deadline)

    def _complete(self, ref: Any, item: Item, source: str, deadline: Deadline) -> Any:
        """Check the marker, and complete a deployment that another controller left unfinished."""
        values = properties(self.session, ref, (option(IMAGE), SNAPSHOT), source)
        if values.get(option(IMAGE)) is None:
            raise OperationRefused(
                f"machine {item.machine} exists, and is not marked as this item.",
                name=source,
                remedy="delete the machine in vCenter: a controller may have been killed "
                "during the deployment",
            )
        if values.get(SNAPSHOT) is None:
            call = ref.CreateSnapshot_Task
            self.tasks.run(
                "create a snapshot of the image",
                source,
                lambda: call("stockyard", "", False, False),
                deadline,
            )
        return ref

    def _machine(self, key: str) -> Any:
        return api.vim().VirtualMachine(key, self.session.instance._stub)


def _created(mark: str) -> float:
    try:
        return float(mark.split(" ")[2])
    except (IndexError, ValueError):
        return time.time()


def lock_of(source: str) -> str:
    """Return the name of the lock that is held while an item is deployed."""
    return f"image {source}"
