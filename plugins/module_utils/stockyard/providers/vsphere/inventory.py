# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading machines in bulk, by the PropertyCollector and nothing else: an attribute of pyvmomi's is
a call each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ...errors import NotFound
from . import api
from .faults import is_a
from .records import RECORD, Machine, option, ours
from .session import Session

PROPERTIES = (
    "name",
    "config.uuid",
    "config.changeVersion",
    option(RECORD),
    "runtime.powerState",
    "runtime.connectionState",
    "runtime.instantCloneFrozen",
    "runtime.host",
    "summary.config.vmPathName",
)
DEVICES = "config.hardware.device"
PAGE = 1000
Found = list[tuple[Any, dict[str, Any]]]


def machines(session: Session, folder: Any) -> list[Machine]:
    """Every machine under a folder, in a bounded number of calls."""

    def read() -> list[Machine]:
        view = session.own("view", lambda: _view(session, folder))
        found = _collect(session, lambda: _through(view, session.paths(PROPERTIES)))
        return [machine_of(ref, values) for ref, values in found]

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
    found = together(session, [(ref, tuple(names))], name)
    if not found:
        raise NotFound("it is not there any more.", name=name)
    return found[0][1]


def many(session: Session, refs: list[Any], names: Iterable[str], name: str) -> Found:
    """The same of several objects of one type; those that are gone are left out."""
    return together(session, [(ref, tuple(names)) for ref in refs], name)


def together(session: Session, wanted: Sequence[tuple[Any, tuple[str, ...]]], name: str) -> Found:
    """Some properties of several objects, in one call; those of one type have the same
    ones read.
    """
    if not wanted:
        return []
    collect = api.vmodl().query.PropertyCollector

    def spec() -> Any:
        what = {type(ref): session.paths(names) for ref, names in wanted}
        return collect.FilterSpec(
            propSet=[
                collect.PropertySpec(type=type_, pathSet=paths) for type_, paths in what.items()
            ],
            objectSet=[collect.ObjectSpec(obj=ref) for ref, _names in wanted],
        )

    return session.ask("read the object", name, lambda: _collect(session, spec))


def _view(session: Session, folder: Any) -> Any:
    return session.content.viewManager.CreateContainerView(folder, [api.vim().VirtualMachine], True)


def _through(view: Any, paths: list[str]) -> Any:
    collect = api.vmodl().query.PropertyCollector
    members = collect.TraversalSpec(
        name="members", path="view", skip=False, type=api.vim().view.ContainerView
    )
    what = collect.PropertySpec(type=api.vim().VirtualMachine, pathSet=paths)
    where = collect.ObjectSpec(obj=view, skip=True, selectSet=[members])
    return collect.FilterSpec(propSet=[what], objectSet=[where])


def _collect(session: Session, spec: Callable[[], Any]) -> Found:
    """What a filter finds. A vCenter that knows no paths of elements is asked for whole arrays from
    then on.
    """
    try:
        return _pages(session, spec())
    except api.vmodl().MethodFault as fault:
        if session.whole_arrays or not is_a(fault, "InvalidProperty"):
            raise
        session.whole_arrays = True
        return _pages(session, spec())


def _pages(session: Session, spec: Any) -> Found:
    """All pages of an answer; a page that fails makes the whole fail, so that nothing
    is half read.
    """
    collector = session.content.propertyCollector
    options = api.vmodl().query.PropertyCollector.RetrieveOptions(maxObjects=PAGE)
    page = collector.RetrievePropertiesEx([spec], options)
    found = []
    while page is not None:
        found += [
            (o.obj, {p.name: p.val for p in o.propSet or []}) for o in page.objects if _whole(o)
        ]
        page = collector.ContinueRetrievePropertiesEx(page.token) if page.token else None
    return found


def _whole(content: Any) -> bool:
    """Whether an object was read; not one that went away meanwhile.

    What was kept back is a fault like any other: half a reading would look like machines that are
    off.
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
        values=ours(values),
        power=str(values.get("runtime.powerState", "poweredOff")),
        connection=str(values.get("runtime.connectionState", "connected")),
        frozen=bool(values.get("runtime.instantCloneFrozen")),
        host=host._moId if host is not None else "",
        store=values.get("summary.config.vmPathName", "").partition("]")[0].removeprefix("["),
        devices=devices_of(values),
    )


def device(key: int) -> str:
    """The path of one device of a machine's."""
    return f"{DEVICES}[{key}]"


def devices_of(values: dict[str, Any]) -> tuple[Any, ...]:
    """The devices that were read, all of them or one by one."""
    single = tuple(
        v for path, v in values.items() if path.startswith(f"{DEVICES}[") and v is not None
    )
    return single + tuple(values.get(DEVICES) or ())
