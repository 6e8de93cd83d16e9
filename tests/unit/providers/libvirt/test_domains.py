# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading all domains: what it costs, counted call by call at a connection that is made up."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from stockyard.hypervisor.records import encode
from stockyard.providers.libvirt.domains import Domains
from stockyard.providers.libvirt.xml.element import RECORD_NS
from tests.helpers.samples import host_record

pytest.importorskip("libvirt")


class Connection:
    """A connection with a number of stockyard's hosts that counts its calls."""

    def __init__(self, count: int) -> None:
        self.calls: Counter[str] = Counter()
        self.version = 0
        self.domains = [Domain(self, host_record(name=f"ci-{n}")) for n in range(count)]

    # libvirt's name
    def getAllDomainStats(self, _kinds: int) -> list[tuple[Any, dict[str, int]]]:  # noqa: N802
        self.calls["list"] += 1
        return [(domain, {"state.state": 1}) for domain in self.domains]

    def getVersion(self) -> int:  # noqa: N802
        return self.version

    def listAllDomains(self) -> list[Any]:  # noqa: N802
        self.calls["list"] += 1
        return self.domains


class Domain:
    """Its metadata has to be fetched; name and uuid come with the listing."""

    def __init__(self, connection: Connection, record: Any) -> None:
        self.connection, self.record = connection, record

    def metadata(self, _kind: int, _namespace: str, _flags: int) -> str:
        self.connection.calls["metadata"] += 1
        return f"<r:record xmlns:r='{RECORD_NS}'>{encode(self.record)}</r:record>"

    def UUIDString(self) -> str:  # noqa: N802
        return str(self.record.uuid)

    def name(self) -> str:
        return str(self.record.domain)


@pytest.mark.parametrize(("version", "expected"), [(7002022, False), (8002000, True)])
def test_read_only_files_of_ram_are_for_qemu_8_2(version: int, expected: bool) -> None:
    connection = Connection(0)
    connection.version = version
    assert Domains(connection).map_read_only() is expected


@pytest.mark.parametrize("count", [1, 100])
def test_all_are_read_by_one_listing_and_one_reading_of_each_record(count: int) -> None:
    connection = Connection(count)
    domains, unreadable = Domains(connection).read_all()
    assert (len(domains), unreadable) == (count, [])
    # libvirt has no call that returns the metadata of many domains.
    assert connection.calls == {"list": 1, "metadata": count}
    assert len(list(Domains(connection).names())) == count
    assert connection.calls == {"list": 2, "metadata": count}
