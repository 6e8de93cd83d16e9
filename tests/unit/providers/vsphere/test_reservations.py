# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records in machines and in the register: what proves anything, and what is decided before there
is a machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from stockyard import Conflict, NotFound, OperationRefused
from stockyard.hypervisor.records import encode
from stockyard.model.host import HostRecord
from stockyard.model.observation import Record, UnreadableObject
from stockyard.providers.vsphere.records import (
    FORMAT,
    RECORD,
    Machine,
    from_value,
    option,
    own_values,
    record_of,
    to_value,
)
from stockyard.providers.vsphere.reservations import (
    ADDRESS,
    HOST,
    LEAVING,
    STAMP,
    MachineIndex,
    address_of,
    addresses,
    delete,
    delete_template_mark,
    leave,
    list_records,
    prune_addresses,
    release_address,
    reserve,
    reserve_address,
)
from tests.helpers.samples import host_record, template_record

TEMPLATE = template_record()


def machine(record: Record, **changes: object) -> Machine:
    """The machine that a record is in."""
    machine_of_record = Machine(
        None, record.domain, record.uuid, "1", {RECORD: to_value(record)}, "poweredOn"
    )
    return replace(machine_of_record, **changes)  # type: ignore[arg-type]


def known(*records: Record) -> MachineIndex:
    """The knowledge of one controller."""
    index = MachineIndex()
    index.learn("", [machine(r) for r in (TEMPLATE, *records)])
    return index


def like(record: HostRecord, **changes: object) -> HostRecord:
    """Another host."""
    return replace(host_record(name="other"), **changes)  # type: ignore[arg-type]


def test_record_is_read_from_a_machine() -> None:
    record = host_record(labels={"a": "ü\"<&>'"})
    assert from_value(to_value(record)) == record
    assert record_of(machine(record)) == record


@pytest.mark.parametrize(
    "value", ["", FORMAT, "2 {}", FORMAT + "[" * 5000, FORMAT + '{"kind":"host"}', encode(TEMPLATE)]
)
def test_unreadable_record_counts_as_foreign(value: str) -> None:
    damaged = record_of(Machine(None, "x", "u", "1", {RECORD: value}))
    assert isinstance(damaged, UnreadableObject)


def test_a_copy_proves_nothing() -> None:
    record = host_record()
    for copy in (machine(record, name="copy"), machine(record, uuid="another")):
        assert isinstance(record_of(copy), UnreadableObject)


def test_machine_without_a_record_is_foreign() -> None:
    assert record_of(Machine(None, "theirs")) is None


def test_only_stockyard_keys_of_extra_config_are_kept() -> None:
    class Option:
        def __init__(self, key: str) -> None:
            self.key, self.value = key, "v"

    keys = ("stockyard.record", "guestinfo.stockyard.answer", "guestinfo.metadata")
    whole = own_values({"config.extraConfig": [Option(key) for key in keys], "name": "vm"})
    single = own_values(
        {option(key): Option(key) for key in keys} | {option("stockyard.none"): None}
    )
    assert set(whole) == set(single) == {"stockyard.record", "guestinfo.stockyard.answer"}


@pytest.mark.parametrize(
    ("power", "connection", "state"),
    [
        ("poweredOn", "connected", "running"),
        ("poweredOff", "connected", "off"),
        ("suspended", "connected", "suspended"),
        ("poweredOn", "orphaned", "crashed"),
        ("poweredOn", "disconnected", "running"),
    ],
)
def test_states(power: str, connection: str, state: str) -> None:
    assert Machine(None, "x", power=power, connection=connection).state == state


def test_reservation_is_listed_until_its_machine_exists() -> None:
    values: dict[str, str] = {}
    host = host_record(phase="creating")
    reserve(values, known(), host, TEMPLATE)
    assert list_records(values, []) == [(host, None)]
    registered = machine(host)
    assert list_records(values, [registered]) == [(host, registered)]
    delete(values, host)
    assert list_records(values, []) == []


def test_every_change_leaves_a_new_stamp() -> None:
    values: dict[str, str] = {}
    host = host_record()
    stamps = []
    acts: tuple[Callable[[], object], ...] = (
        lambda: reserve(values, known(), host, TEMPLATE),
        lambda: delete(values, host),
        lambda: leave(values, TEMPLATE, list),
        lambda: delete_template_mark(values, TEMPLATE),
    )
    for act in acts:
        act()
        stamps.append(values[STAMP])
    assert len(set(stamps)) == 4


def clashes() -> Iterable[tuple[str, HostRecord]]:
    first = host_record()
    yield "name", like(first, name=first.name)
    yield "address", like(first, address=first.address)
    yield "MAC address", like(first, mac=first.mac)


@pytest.mark.parametrize("where", ["reserved", "made"])
@pytest.mark.parametrize("value", ["name", "address", "mac"])
def test_nothing_is_given_twice(where: str, value: str) -> None:
    first = host_record(owner="theirs" if value != "name" else "stockyard")
    values: dict[str, str] = {}
    rival = host_record(
        **{value: getattr(first, value)}, **({} if value == "name" else {"name": "other"})
    )
    has = known(first) if where == "made" else known()
    if where == "reserved":
        reserve(values, has, first, TEMPLATE)
    before = dict(values)
    with pytest.raises(Conflict, match="address" if value != "name" else "name"):
        reserve(values, has, rival, TEMPLATE)
    assert values == before


def test_a_host_needs_its_template() -> None:
    with pytest.raises(NotFound):
        reserve({}, MachineIndex("", set()), host_record(), TEMPLATE)
    with pytest.raises(NotFound):
        reserve({LEAVING + TEMPLATE.uuid: "1"}, known(), host_record(), TEMPLATE)


@pytest.mark.parametrize("where", ["reserved", "made"])
def test_a_template_that_is_lived_on_does_not_go(where: str) -> None:
    values: dict[str, str] = {}
    host = host_record(template=TEMPLATE.name, generation=TEMPLATE.generation)
    if where == "reserved":
        reserve(values, known(), host, TEMPLATE)
    machines = [machine(host)] if where == "made" else []
    with pytest.raises(OperationRefused, match="ci-1"):
        leave(values, TEMPLATE, lambda: machines)


def test_template_under_an_unreadable_machine_is_kept() -> None:
    broken = Machine(None, "x", "u", "1", {RECORD: "?"})
    with pytest.raises(OperationRefused, match="cannot be read"):
        leave({}, TEMPLATE, lambda: [broken])
    with pytest.raises(OperationRefused, match="cannot be read"):
        leave({HOST + "a.b.c": "?"}, TEMPLATE, list)


def test_unreadable_reservation_is_unchanged() -> None:
    host = host_record()
    values = {HOST + host.domain: "?"}
    with pytest.raises(OperationRefused):
        delete(values, host)
    with pytest.raises(Conflict):
        reserve(values, known(), host, TEMPLATE)
    assert values == {HOST + host.domain: "?"}


def test_another_host_of_the_name_keeps_its_reservation() -> None:
    values: dict[str, str] = {}
    old, new = host_record(), host_record()
    reserve(values, known(), new, TEMPLATE)
    delete(values, old)
    assert list_records(values, []) == [(new, None)]


def test_address_of_a_template_is_given_to_no_host() -> None:
    values: dict[str, str] = {}
    first_host, host = host_record(), host_record(name="other")
    assert address_of(values, TEMPLATE) == ""
    reserve_address(values, TEMPLATE, host.address)
    assert address_of(values, TEMPLATE) == host.address
    assert set(addresses(values, known(first_host))) == {first_host.address, host.address}
    with pytest.raises(Conflict, match="in use by a template"):
        reserve(values, known(first_host), host, TEMPLATE)
    release_address(values, TEMPLATE)
    reserve(values, known(first_host), host, TEMPLATE)
    assert set(addresses(values, known(first_host))) == {first_host.address, host.address}


def test_address_of_a_template_is_released_with_the_template() -> None:
    values: dict[str, str] = {}
    reserve_address(values, TEMPLATE, "192.0.2.1")
    delete_template_mark(values, TEMPLATE)
    assert ADDRESS + TEMPLATE.uuid not in values
    deleted = template_record(name="deleted")
    reserve_address(values, TEMPLATE, "192.0.2.1")
    reserve_address(values, deleted, "192.0.2.2")
    unreadable = known()
    unreadable.has_unreadable = True
    prune_addresses(values, unreadable)
    assert address_of(values, deleted) == "192.0.2.2"
    prune_addresses(values, known())
    assert (address_of(values, TEMPLATE), address_of(values, deleted)) == ("192.0.2.1", "")
