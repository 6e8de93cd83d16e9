# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bulk reading of machines, always by the PropertyCollector.

Each attribute access of pyvmomi is a call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ...errors import NotFound
from . import api
from .faults import is_a
from .records import RECORD, Machine, option, own_values
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
    """Return every machine under a folder, in a bounded number of calls."""

    def read() -> list[Machine]:
        view = session.session_object("view", lambda: _view(session, folder))
        objects = _collect(session, lambda: _through(view, session.paths(PROPERTIES)))
        return [machine_of(ref, values) for ref, values in objects]

    def read_again() -> list[Machine]:
        try:
            return read()
        except api.vmodl().MethodFault as fault:
            if not is_a(fault, "ManagedObjectNotFound"):
                raise
            # The view was deleted with its session or with the folder.
            session.disown("view")
            return read()

    return session.read("list the machines", "", read_again)


def machine(session: Session, ref: Any, name: str, *extra_names: str) -> Machine:
    """Return one machine.

    :param extra_names: properties to read in addition to the usual ones.
    :raises NotFound: if the machine no longer exists.
    """
    return machine_of(ref, properties(session, ref, (*PROPERTIES, *extra_names), name))


def properties(session: Session, ref: Any, names: Iterable[str], name: str) -> dict[str, Any]:
    """Return some properties of one object; unset properties are omitted.

    :raises NotFound: if the object no longer exists.
    """
    objects = together(session, [(ref, tuple(names))], name)
    if not objects:
        raise NotFound("the object no longer exists.", name=name)
    return objects[0][1]


def many(session: Session, refs: list[Any], names: Iterable[str], name: str) -> Found:
    """Return the same properties of several objects of one type; deleted objects are omitted."""
    return together(session, [(ref, tuple(names)) for ref in refs], name)


def together(session: Session, requests: Sequence[tuple[Any, tuple[str, ...]]], name: str) -> Found:
    """Return some properties of several objects in one call; one set for each type."""
    if not requests:
        return []
    collector_class = api.vmodl().query.PropertyCollector

    def spec() -> Any:
        paths_by_type = {type(ref): session.paths(names) for ref, names in requests}
        return collector_class.FilterSpec(
            propSet=[
                collector_class.PropertySpec(type=type_, pathSet=paths)
                for type_, paths in paths_by_type.items()
            ],
            objectSet=[collector_class.ObjectSpec(obj=ref) for ref, _names in requests],
        )

    return session.read("read the object", name, lambda: _collect(session, spec))


def _view(session: Session, folder: Any) -> Any:
    return session.content.viewManager.CreateContainerView(folder, [api.vim().VirtualMachine], True)


def _through(view: Any, paths: list[str]) -> Any:
    collector_class = api.vmodl().query.PropertyCollector
    members = collector_class.TraversalSpec(
        name="members", path="view", skip=False, type=api.vim().view.ContainerView
    )
    property_spec = collector_class.PropertySpec(type=api.vim().VirtualMachine, pathSet=paths)
    object_spec = collector_class.ObjectSpec(obj=view, skip=True, selectSet=[members])
    return collector_class.FilterSpec(propSet=[property_spec], objectSet=[object_spec])


def _collect(session: Session, spec: Callable[[], Any]) -> Found:
    """Return the objects that a filter matches.

    If vCenter does not accept the paths of array elements, whole arrays are requested from then on.
    """
    try:
        return _pages(session, spec())
    except api.vmodl().MethodFault as fault:
        if session.whole_arrays or not is_a(fault, "InvalidProperty"):
            raise
        session.whole_arrays = True
        return _pages(session, spec())


def _pages(session: Session, spec: Any) -> Found:
    """Return all pages of an answer. If one page fails, the whole reading fails."""
    collector = session.content.propertyCollector
    options = api.vmodl().query.PropertyCollector.RetrieveOptions(maxObjects=PAGE)
    page = collector.RetrievePropertiesEx([spec], options)
    objects = []
    while page is not None:
        objects += [
            (content.obj, {prop.name: prop.val for prop in content.propSet or []})
            for content in page.objects
            if _whole(content)
        ]
        page = collector.ContinueRetrievePropertiesEx(page.token) if page.token else None
    return objects


def _whole(content: Any) -> bool:
    """Check whether an object was read, and not deleted during the reading.

    Withheld properties are a fault like any other: a partial reading would make machines look as if
    they were off.
    """
    for missing_property in content.missingSet or []:
        if is_a(missing_property.fault, "ManagedObjectNotFound"):
            return False
        raise missing_property.fault
    return True


def machine_of(ref: Any, values: dict[str, Any]) -> Machine:
    """Return a machine from its properties."""
    host = values.get("runtime.host")
    return Machine(
        ref=ref,
        name=values.get("name", ""),
        uuid=values.get("config.uuid", ""),
        change=values.get("config.changeVersion", ""),
        values=own_values(values),
        power=str(values.get("runtime.powerState", "poweredOff")),
        connection=str(values.get("runtime.connectionState", "connected")),
        frozen=bool(values.get("runtime.instantCloneFrozen")),
        host=host._moId if host is not None else "",
        store=values.get("summary.config.vmPathName", "").partition("]")[0].removeprefix("["),
        devices=devices_of(values),
    )


def device(key: int) -> str:
    """Return the path of one device of a machine."""
    return f"{DEVICES}[{key}]"


def devices_of(values: dict[str, Any]) -> tuple[Any, ...]:
    """Return the devices that were read, as a whole array or one by one."""
    single_devices = tuple(
        value
        for path, value in values.items()
        if path.startswith(f"{DEVICES}[") and value is not None
    )
    return single_devices + tuple(values.get(DEVICES) or ())
