# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Orphaned files of the provider, with libvirt's test driver: real domains and metadata, no
machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest

from stockyard.errors import StockyardError
from stockyard.hypervisor.records import encode
from stockyard.model.host import HostRecord
from stockyard.providers.libvirt import orphaned_files, uplink
from stockyard.providers.libvirt.provider import LibvirtProvider
from stockyard.providers.libvirt.store import Store
from stockyard.providers.libvirt.xml.domain import record_element
from stockyard.providers.libvirt.xml.element import element, serialize
from tests.helpers.samples import host_record

URI = "test:///default"


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[LibvirtProvider]:
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    opened = LibvirtProvider(URI, libvirt.open(URI), Store(tmp_path / "store"))
    opened.store.prepare()
    for domain in opened.connection.listAllDomains():
        domain.destroy()
        domain.undefine()
    yield opened
    opened.close()


def files(provider: LibvirtProvider, record: HostRecord) -> Path:
    folder = provider.store.hosts / record.uuid
    folder.mkdir()
    orphaned_files.note(folder, URI, record)
    (folder / "disk.qcow2").write_text("x")
    return folder


def defined(
    provider: LibvirtProvider, record: HostRecord, text: str | None = None, name: str = ""
) -> Any:
    """A domain that carries a record, or something else in its place."""
    metadata = [element("metadata", record_element(encode(record) if text is None else text))]
    shape = element(
        "domain",
        element("name", text=name or record.domain),
        element("uuid", text=record.uuid),
        element("memory", text="1024"),
        element("os", element("type", text="hvm")),
        *([] if text == "" else metadata),
        type="test",
    )
    return provider.connection.defineXML(serialize(shape))


def test_only_files_without_a_domain_go(provider: LibvirtProvider) -> None:
    living, off, corrupt, foreign, deleted = (host_record(name=f"ci-{n}") for n in range(5))
    folders = [files(provider, record) for record in (living, off, corrupt, foreign, deleted)]
    defined(provider, living).create()
    defined(provider, off)
    defined(provider, corrupt, "not JSON")
    defined(provider, foreign, "", name="somebody-elses")
    swept = provider.sweep("stockyard", 0.0)
    assert [removed_file.path for removed_file in swept.removed] == [str(folders[-1])]
    assert swept.skipped == ()
    assert [folder.exists() for folder in folders] == [True, True, True, True, False]
    assert provider.sweep("stockyard", 0.0).removed == ()


def test_incomplete_listing_deletes_nothing(
    provider: LibvirtProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = files(provider, host_record())

    class Broken:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def listAllDomains(self) -> Any:  # noqa: N802  # libvirt's name
            raise libvirt.libvirtError("Cannot recv data: connection reset")

    real = provider.domains.connection
    provider.domains.connection = Broken()
    with pytest.raises(StockyardError, match="lost"):
        provider.sweep("stockyard", 0.0)
    assert folder.exists()


def test_host_is_deleted_completely_and_the_second_time_too(provider: LibvirtProvider) -> None:
    record = host_record()
    folder = files(provider, record)
    defined(provider, record).create()
    provider.destroy(record)
    provider.destroy(record)
    assert not folder.exists()
    assert provider.observe("stockyard").hosts == ()
    assert list(provider.store.locks.iterdir()) == []


def test_record_that_an_uplink_writes_at_its_end_is_deleted_too(
    provider: LibvirtProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = host_record(name="ci-1")
    folder = files(provider, record)
    defined(provider, record)
    delete, attempts = os.rmdir, [0]

    def write_and_delete(path: Any, **arguments: Any) -> None:
        """Write the record at the last moment, once, and delete the directory."""
        attempts[0] += 1
        if attempts[0] == 1:
            (folder / uplink.RECORD).write_text("[]")
        delete(path, **arguments)

    monkeypatch.setattr(os, "rmdir", write_and_delete)
    provider.destroy(record)
    assert attempts == [2]
    assert not folder.exists()
