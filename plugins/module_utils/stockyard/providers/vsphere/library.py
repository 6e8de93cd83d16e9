# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Items of content libraries as sources: deployed once, and cloned from then on like any other
machine.

What an item was deployed as is kept beside the yard's machines, under a name that says which
version of which item it is, with a snapshot, so that templates and linked forks of it are small. It
carries a mark, and goes when no template is made of it any more.
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
from .rest import Rest, said
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
    """One item, as it is now."""

    uuid: str
    version: str
    kind: str

    @property
    def machine(self) -> str:
        """The name of what this version of it is deployed as."""
        return NAME + hashlib.sha256(f"{self.uuid}@{self.version}".encode()).hexdigest()[:12]


def parts(source: str) -> tuple[str, str]:
    """``library:LIBRARY/ITEM`` as the two names.

    :raises InvalidInput: when it is something else.
    """
    library, slash, item = source.removeprefix(SCHEME).partition("/")
    if not (library and slash and item):
        raise InvalidInput(
            f"source: {source!a} names no item.", remedy=f"write {SCHEME}LIBRARY/ITEM"
        )
    return library, item


def find(rest: Rest, source: str) -> Item:
    """The item that a source names.

    :raises NotFound: when there is none.
    :raises InvalidInput: when there are several.
    """
    library, name = parts(source)
    owner = _one(
        rest.ask("POST", f"{LIBRARIES}?~action=find", {"spec": {"name": library}}),
        f"library {library}",
    )
    spec = {"spec": {"name": name, "library_id": owner}}
    key = _one(rest.ask("POST", f"{ITEMS}?~action=find", spec), f"item {name}")
    found = rest.ask("GET", f"{ITEMS}/id:{key}")
    return Item(key, str(found.get("content_version") or ""), str(found.get("type") or "").lower())


def _one(keys: Any, name: str) -> str:
    if not keys:
        remedy = "see content libraries in vCenter; the user has to be allowed to read them"
        raise NotFound("vCenter has no such thing in a content library.", name=name, remedy=remedy)
    if len(keys) > 1:
        raise InvalidInput(f"{len(keys)} have this name.", name=name, remedy="rename all but one")
    return str(keys[0])


class Images:
    """What items were deployed as, in one yard's folder."""

    def __init__(self, session: Session, lookup: Lookup, tasks: Tasks) -> None:
        self.session = session
        self.lookup = lookup
        self.tasks = tasks

    def ensure(self, source: str, progress: Progress, deadline: Deadline) -> Any:
        """The machine that an item is, deployed when it was not yet. Nobody else may do so
        meanwhile.

        :raises Unsupported: for an item that is no machine.
        """
        with self.session.rest() as rest:
            item = find(rest, source)
            if item.kind == "vm-template":
                return self._template(rest, item, source)
            if item.kind != "ovf":
                what = f"it is of type {item.kind or 'none'}"
                remedy = "name an item of type OVF, or a VM template"
                raise Unsupported(
                    "it cannot be made a machine.", name=source, cause=what, remedy=remedy
                )
            ref = self.lookup.child(item.machine)
            if ref is None:
                progress(f"{source}: deployed as {item.machine}")
                ref = self._deployed(rest, item, source)
                self._mark(ref, item, source, deadline)
        return self._whole(ref, item, source, deadline)

    def prune(
        self, records: Iterable[Record | UnreadableObject], older_than: float, own: frozenset[str]
    ) -> list[str]:
        """Remove the deployed items that no template of any owner is made of; returns their names.

        :param older_than: seconds since they were deployed.
        :param own: images whose items go at any age.
        """
        records, folder = list(records), self.lookup.folder()
        if folder is None or any(isinstance(r, UnreadableObject) for r in records):
            # What cannot be read may be made of any of them.
            return []
        going = self._unused(
            folder, {r.image.partition("@")[0] for r in records if isinstance(r, TemplateRecord)}
        )
        gone, uuids = [], {image.partition("@")[0] for image in own}
        for machine in (m for m, uuid, age in going if uuid in uuids or age >= older_than):
            self.tasks.run(
                "remove the image", machine.name, machine.ref.Destroy_Task, Deadline(REMOVAL)
            )
            gone.append(machine.name)
        return gone

    def _unused(self, folder: Any, used: set[str]) -> Iterator[tuple[Machine, str, float]]:
        """The deployed items that no template is made of, each with its uuid and its age.

        :param used: the uuids of machines that templates are made of.
        """
        for machine in [m for m in machines(self.session, folder) if m.name.startswith(NAME)]:
            told = properties(
                self.session, machine.ref, (option(IMAGE), "config.instanceUuid"), machine.name
            )
            mark = told.get(option(IMAGE))
            if mark is not None and told.get("config.instanceUuid") not in used:
                yield (
                    machine,
                    str(told.get("config.instanceUuid")),
                    time.time() - _made(str(mark.value)),
                )

    def _deployed(self, rest: Rest, item: Item, source: str) -> Any:
        place = {
            "resource_pool_id": self.lookup.pool._moId,
            "folder_id": self.lookup.made_folder()._moId,
        }
        store = {"default_datastore_id": self.lookup.datastore()._moId}
        spec = {"name": item.machine, "accept_all_EULA": True, **store}
        answer = (
            rest.ask("POST", DEPLOY.format(item.uuid), {"target": place, "deployment_spec": spec})
            or {}
        )
        made = answer.get("resource_id") or {}
        if not answer.get("succeeded") or made.get("type") != "VirtualMachine":
            raise HypervisorError(
                "it could not be deployed.",
                name=source,
                cause=said(answer) or f"it became a {made.get('type')}",
                remedy="deploy it by hand in vCenter, which says more",
            )
        return self._machine(str(made.get("id")))

    def _template(self, rest: Rest, item: Item, source: str) -> Any:
        """An item of this type is a template in the inventory already."""
        found = rest.ask("GET", TEMPLATES.format(item.uuid)) or {}
        if not found.get("vm_template"):
            raise NotFound(
                "vCenter does not say which machine it is.",
                name=source,
                remedy="name the VM template itself as the source: it is in the inventory",
            )
        return self._machine(str(found["vm_template"]))

    def _mark(self, ref: Any, item: Item, source: str, deadline: Deadline) -> None:
        """Say whose it is; and let a linked clone of it be possible."""
        value = f"1 {item.uuid}@{item.version} {time.time():.0f}"
        spec = specs.reconfigure({IMAGE: value})
        self.tasks.run("mark the image", source, lambda: ref.ReconfigVM_Task(spec), deadline)

    def _whole(self, ref: Any, item: Item, source: str, deadline: Deadline) -> Any:
        """See that it is ours, and end what a controller that died left undone."""
        found = properties(self.session, ref, (option(IMAGE), SNAPSHOT), source)
        if found.get(option(IMAGE)) is None:
            raise OperationRefused(
                f"a machine called {item.machine} is there, and it does not say that it is this "
                f"item.",
                name=source,
                remedy="remove it in vCenter: a controller may have been killed while it was "
                "deployed",
            )
        if found.get(SNAPSHOT) is None:
            call = ref.CreateSnapshot_Task
            self.tasks.run(
                "make a snapshot of the image",
                source,
                lambda: call("stockyard", "", False, False),
                deadline,
            )
        return ref

    def _machine(self, key: str) -> Any:
        return api.vim().VirtualMachine(key, self.session.instance._stub)


def _made(mark: str) -> float:
    try:
        return float(mark.split(" ")[2])
    except (IndexError, ValueError):
        return time.time()


def lock_of(source: str) -> str:
    """The name that is held while an item is deployed."""
    return f"image {source}"
