# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that end by themselves at the very moment in which they are ended, over libvirt's own
test driver.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import libvirt
import pytest

from stockyard.clock import Deadline
from stockyard.errors import HypervisorError, OperationRefused
from stockyard.hypervisor.records import decode, encode
from stockyard.providers.libvirt import power
from stockyard.providers.libvirt.domains import Domains
from stockyard.providers.libvirt.xml.domain import record_element
from stockyard.providers.libvirt.xml.element import element, serialize
from tests.helpers.samples import host_record, template_record

RECORD = host_record(name="racer")
XML = serialize(
    element(
        "domain",
        element("name", text=RECORD.domain),
        element("uuid", text=RECORD.uuid),
        element("memory", text="1024"),
        element("os", element("type", text="hvm")),
        element("metadata", record_element(encode(RECORD))),
        type="test",
    )
)


class Racer:
    """A domain that ends after it was seen running.

    :param looks: how often it is seen running before.
    """

    def __init__(self, real: Any, looks: int) -> None:
        self.real, self.looks = real, looks

    def isActive(self) -> bool:  # noqa: N802  # libvirt's name
        active = self.real.isActive()
        self.looks -= 1
        if active and self.looks == 0:
            self.real.destroy()
        return bool(active)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@pytest.fixture
def domain() -> Iterator[Any]:
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    connection = libvirt.open("test:///default")
    defined = connection.defineXML(XML)
    defined.create()
    yield defined
    if defined.isActive():
        defined.destroy()
    defined.undefine()
    connection.close()


def test_machine_that_ends_by_itself_counts_as_ended(domain: Any) -> None:
    power.off(Racer(domain, 1), "host racer")
    assert not domain.isActive()


@pytest.mark.parametrize("looks", [1, 2])
def test_machine_that_ends_before_the_order_counts_as_ended(domain: Any, looks: int) -> None:
    power.stop(Racer(domain, looks), "host racer", Deadline(0.5))
    assert not domain.isActive()


def test_machine_that_ignores_the_shutdown_is_powered_off(domain: Any) -> None:
    domain.suspend()
    power.stop(domain, "host racer", Deadline(0.3))
    assert not domain.isActive()


def test_machine_that_keeps_running_is_reported(domain: Any) -> None:
    class Stubborn(Racer):
        def destroy(self) -> None:
            self.real.create()

    with pytest.raises(HypervisorError, match="host racer"):
        power.off(Stubborn(domain, -1), "host racer")


@pytest.mark.parametrize("looks", [1, -1])
def test_a_record_is_written_though_its_machine_ends(domain: Any, looks: int) -> None:
    class Found(Domains):
        def find(self, record: Any) -> Any:
            return Racer(domain, looks)

    counting = Found(domain.connect())
    counting.replace_record(RECORD, phase="deleting")
    assert bool(domain.isActive()) == (looks < 0)
    written = decode(counting.metadata(domain) or "")
    assert (written.phase, written.version) == ("deleting", RECORD.version + 1)


@pytest.mark.parametrize(
    "record",
    [
        replace(RECORD, owner="else"),
        template_record(owner=RECORD.owner, uuid=RECORD.uuid),
    ],
    ids=["owner", "kind"],
)
def test_domain_with_the_uuid_of_a_record_and_another_marker_is_refused(
    domain: Any, record: Any
) -> None:
    domains = Domains(domain.connect())
    assert domains.find(RECORD).UUIDString() == RECORD.uuid
    with pytest.raises(OperationRefused, match="belongs to another object or owner"):
        domains.find(record)
    with pytest.raises(OperationRefused, match="belongs to another object or owner"):
        domains.find_existing(record)


def test_domain_with_the_uuid_of_a_record_and_no_marker_is_refused() -> None:
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    connection = libvirt.open("test:///default")
    stranger = connection.lookupByName("test")
    with pytest.raises(OperationRefused, match="no metadata of stockyard"):
        Domains(connection).find(replace(RECORD, uuid=stranger.UUIDString()))
    connection.close()
