# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading machines in bulk, by the PropertyCollector and nothing else: an attribute of pyvmomi's is a call each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...errors import NotFound
from . import api
from .faults import is_a
from .records import Machine, ours
from .session import Session

PROPERTIES = (
    "name", "config.uuid", "config.changeVersion", "config.extraConfig", "runtime.powerState",
    "runtime.connectionState", "runtime.instantCloneFrozen", "runtime.host", "summary.config.vmPathName",
)  # fmt: skip
DEVICES = "config.hardware.device"
PAGE = 1000


def machines(session: Session, folder: Any) -> list[Machine]:
    """Every machine under a folder, in a bounded number of calls."""

    def read() -> list[Machine]:
        view = session.own("view", lambda: _view(session, folder))
        return [machine_of(ref, values) for ref, values in _collect(session, _through(view))]

    def read_again() -> list[Machine]:
        try:
            return read()
        except api.vmodl().MethodFault as fault:
            if not is_a(fault, "ManagedObjectNotFound"):
                raise
            # The view went with its session or with the folder.
            session.disown("view")
            return read()

    return session.ask("list the machines", "", read_again)


def machine(session: Session, ref: Any, name: str, *more: str) -> Machine:
    """One machine.

    :param more: properties to read beside the usual ones.
    :raises NotFound: when it is gone.
    """
    return machine_of(ref, properties(session, ref, (*PROPERTIES, *more), name))


def properties(session: Session, ref: Any, names: Iterable[str], name: str) -> dict[str, Any]:
    """Some properties of one object; those that are not set are left out.

    :raises NotFound: when it is gone.
    """
    collect = api.vmodl().query.PropertyCollector
    what = collect.PropertySpec(type=type(ref), pathSet=list(names))
    spec = collect.FilterSpec(propSet=[what], objectSet=[collect.ObjectSpec(obj=ref)])
    found = session.ask("read the object", name, lambda: _collect(session, spec))
    if not found:
        raise NotFound("it is not there any more.", name=name)
    return found[0][1]


def many(session: Session, refs: list[Any], names: Iterable[str], name: str) -> list[tuple[Any, dict[str, Any]]]:
    """The same of several objects of one type."""
    if not refs:
        return []
    collect = api.vmodl().query.PropertyCollector
    what = collect.PropertySpec(type=type(refs[0]), pathSet=list(names))
    spec = collect.FilterSpec(propSet=[what], objectSet=[collect.ObjectSpec(obj=ref) for ref in refs])
    return session.ask("read the objects", name, lambda: _collect(session, spec))


def _view(session: Session, folder: Any) -> Any:
    return session.content.viewManager.CreateContainerView(folder, [api.vim().VirtualMachine], True)


def _through(view: Any) -> Any:
    collect = api.vmodl().query.PropertyCollector
    members = collect.TraversalSpec(name="members", path="view", skip=False, type=api.vim().view.ContainerView)
    what = collect.PropertySpec(type=api.vim().VirtualMachine, pathSet=list(PROPERTIES))
    where = collect.ObjectSpec(obj=view, skip=True, selectSet=[members])
    return collect.FilterSpec(propSet=[what], objectSet=[where])


def _collect(session: Session, spec: Any) -> list[tuple[Any, dict[str, Any]]]:
    """All pages of an answer; a page that fails makes the whole fail, so that nothing is half read."""
    collector = session.content.propertyCollector
    options = api.vmodl().query.PropertyCollector.RetrieveOptions(maxObjects=PAGE)
    page = collector.RetrievePropertiesEx([spec], options)
    found = []
    while page is not None:
        found += [(o.obj, {p.name: p.val for p in o.propSet or []}) for o in page.objects if _whole(o)]
        page = collector.ContinueRetrievePropertiesEx(page.token) if page.token else None
    return found


def _whole(content: Any) -> bool:
    """Whether an object was read; not one that went away meanwhile.

    What was kept back is a fault like any other: half a reading would look like machines that are off.
    """
    for missing in content.missingSet or []:
        if is_a(missing.fault, "ManagedObjectNotFound"):
            return False
        raise missing.fault
    return True


def machine_of(ref: Any, values: dict[str, Any]) -> Machine:
    """A machine out of its properties."""
    host = values.get("runtime.host")
    return Machine(
        ref=ref,
        name=values.get("name", ""),
        uuid=values.get("config.uuid", ""),
        change=values.get("config.changeVersion", ""),
        values=ours(values.get("config.extraConfig") or []),
        power=str(values.get("runtime.powerState", "poweredOff")),
        connection=str(values.get("runtime.connectionState", "connected")),
        frozen=bool(values.get("runtime.instantCloneFrozen")),
        host=host._moId if host is not None else "",
        store=values.get("summary.config.vmPathName", "").partition("]")[0].removeprefix("["),
        devices=tuple(values.get(DEVICES) or ()),
    )
