# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records and files of branches, over libvirt's own test driver: real domains and metadata, no
machine.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import libvirt
import pytest

from stockyard.errors import ImageError, OperationRefused, OutOfSpace
from stockyard.hypervisor.records import encode
from stockyard.model.branch import BranchRecord, MemoryModule
from stockyard.model.template import Hardware
from stockyard.providers.libvirt import branch_source, frozen
from stockyard.providers.libvirt.branches import Branches
from stockyard.providers.libvirt.disk_layers import DiskLayers
from stockyard.providers.libvirt.monitor import Monitor
from stockyard.providers.libvirt.provider import LibvirtProvider
from stockyard.providers.libvirt.store import Store
from stockyard.providers.libvirt.xml.domain import record_element
from stockyard.providers.libvirt.xml.element import (
    BRANCH_NS,
    RECORD_NS,
    element,
    serialize,
)
from tests.helpers.samples import host_record, template_record

from .test_disk_layers import disk

URI = "test:///default"
HOST = host_record(name="ci-1")
BRANCH = BranchRecord(
    owner=HOST.owner,
    tenant=HOST.tenant,
    name=HOST.name,
    uuid="77777777-8888-4999-8aaa-bbbbbbbbbbbb",
    parent=HOST.uuid,
    template=HOST.template,
    generation=HOST.generation,
    image="0" * 64,
    hardware=Hardware(),
    phase="released",
    created=1.0,
    mac=HOST.mac,
)
CHILD = replace(
    host_record(name="ci-2"), uuid="88888888-8888-4999-8aaa-bbbbbbbbbbbb", branch=BRANCH.uuid
)


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[LibvirtProvider]:
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    opened = LibvirtProvider(URI, libvirt.open(URI), Store(tmp_path / "store"))
    opened.store.prepare()
    for domain in opened.connection.listAllDomains():
        domain.destroy()
        domain.undefine()
    yield opened
    # All connections to this driver have the same domains.
    for domain in opened.connection.listAllDomains():
        domain.undefine()
    opened.close()


def defined(
    provider: LibvirtProvider, name: str, uuid: str, text: str, namespace: str = RECORD_NS
) -> Any:
    """A domain with a record."""
    shape = element(
        "domain",
        element("name", text=name),
        element("uuid", text=uuid),
        element("memory", text="1024"),
        element("os", element("type", text="hvm")),
        element("metadata", record_element(text, namespace)),
        type="test",
    )
    return provider.connection.defineXML(serialize(shape))


def recorded(provider: LibvirtProvider, record: BranchRecord = BRANCH) -> Path:
    """A branch with its files; the layer lies under the disk of its parent."""
    defined(provider, record.domain, record.uuid, encode(record), BRANCH_NS)
    folder = provider.store.branches / record.uuid
    note(provider, folder)
    layer = disk(layer_of(provider, record.uuid))
    os.link(layer, folder / "disk.qcow2")
    for name in ("ram", "state"):
        (folder / name).write_text(name)
    disk(provider.store.hosts / record.parent / f"disk-{record.uuid}.qcow2", layer)
    return folder


def note(provider: LibvirtProvider, folder: Path, owner: str = BRANCH.owner) -> None:
    folder.mkdir(parents=True)
    (folder / "owner.json").write_text(json.dumps({"uri": provider.uri, "owner": owner}))


def layer_of(provider: LibvirtProvider, name: str) -> Path:
    return DiskLayers(provider.store.disk_layers).path(name)


def host(provider: LibvirtProvider, record: Any) -> Any:
    return defined(provider, record.domain, record.uuid, encode(record))


def test_a_branch_is_deleted_with_its_last_host_and_its_layer_with_the_last_disk(
    provider: LibvirtProvider,
) -> None:
    folder, layer = recorded(provider), layer_of(provider, BRANCH.uuid)
    child = host(provider, CHILD)
    disk(provider.store.hosts / CHILD.uuid / "disk.qcow2", layer)
    provider.branches.prune(BRANCH.owner)
    assert folder.exists()
    (provider.store.hosts / CHILD.uuid / "disk.qcow2").unlink()
    child.undefine()
    provider.branches.prune(BRANCH.owner)
    assert not folder.exists()
    assert provider.branches.all() == []
    assert layer.exists()
    (provider.store.hosts / BRANCH.parent / f"disk-{BRANCH.uuid}.qcow2").unlink()
    provider.branches.prune(BRANCH.owner)
    assert not layer.exists()


def test_deletion_of_a_branch_leaves_the_overlay_of_another_one(provider: LibvirtProvider) -> None:
    """The parent may be switched to it at this moment."""
    recorded(provider)
    parent = element(
        "domain",
        element("name", text="parent"),
        element("uuid", text=BRANCH.parent),
        element("memory", text="1024"),
        element("os", element("type", text="hvm")),
        element(
            "devices",
            element(
                "disk",
                element("source", file=str(provider.store.hosts / BRANCH.parent / "top.qcow2")),
                element("target", dev="vda"),
                type="file",
            ),
        ),
        type="test",
    )
    provider.connection.defineXML(serialize(parent))
    folder = provider.store.hosts / BRANCH.parent
    other_overlay = disk(folder / "disk-99999999-8888-4999-8aaa-bbbbbbbbbbbb.qcow2")
    provider.branches.prune(BRANCH.owner)
    assert other_overlay.exists()
    assert not (folder / f"disk-{BRANCH.uuid}.qcow2").exists()


def test_a_twin_runs_until_the_release(
    provider: LibvirtProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The children are forked before."""
    written: list[str] = []
    monkeypatch.setattr(Branches, "_write", lambda _self, record: written.append(record.phase))
    folder = recorded(provider, replace(BRANCH, phase="frozen"))
    cast(Branches, provider.branches).locks.hold(folder)
    twin = provider.connection.lookupByUUIDString(BRANCH.uuid)
    twin.create()
    host(provider, CHILD)
    provider.branches.prune(BRANCH.owner)
    assert twin.isActive()
    provider.branches.release(BRANCH)
    assert not twin.isActive()
    assert written == ["released"]


def test_a_twin_of_a_dead_controller_is_ended(provider: LibvirtProvider) -> None:
    folder = recorded(provider, replace(BRANCH, phase="frozen"))
    twin = provider.connection.lookupByUUIDString(BRANCH.uuid)
    twin.create()
    host(provider, CHILD)
    provider.branches.prune(BRANCH.owner)
    assert not twin.isActive()
    assert folder.exists()


def test_deleting_the_last_host_deletes_the_branch(provider: LibvirtProvider) -> None:
    folder = recorded(provider)
    host(provider, CHILD)
    provider.destroy(CHILD)
    assert not folder.exists()


@pytest.mark.parametrize("phase", ["creating", "frozen"])
def test_a_branch_stays_as_long_as_its_controller_lives(
    provider: LibvirtProvider, phase: str
) -> None:
    folder = recorded(provider, replace(BRANCH, phase=phase))
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    provider.branches.prune(BRANCH.owner)
    assert folder.exists()
    os.close(lock)
    provider.branches.prune(BRANCH.owner)
    assert not folder.exists()
    assert list(provider.store.branches.iterdir()) == []


def test_branches_are_kept_while_a_host_cannot_be_read(provider: LibvirtProvider) -> None:
    folder = recorded(provider)
    defined(provider, "unreadable", CHILD.uuid, "not JSON")
    provider.branches.prune(BRANCH.owner)
    assert folder.exists()


def test_host_is_deleted_despite_an_unreadable_branch(
    provider: LibvirtProvider,
) -> None:
    folder = provider.store.branches / BRANCH.uuid
    note(provider, folder)
    defined(provider, BRANCH.domain, BRANCH.uuid, "not JSON", BRANCH_NS)
    host(provider, CHILD)
    provider.destroy(CHILD)
    assert provider.observe(BRANCH.owner).hosts == ()
    assert folder.exists()


def test_a_branch_of_another_owner_stays(provider: LibvirtProvider) -> None:
    folder = recorded(provider)
    provider.branches.prune("another")
    assert folder.exists()


def test_an_observation_contains_no_branch(provider: LibvirtProvider) -> None:
    recorded(provider)
    observation = provider.observe(BRANCH.owner)
    assert (observation.hosts, observation.templates, observation.unreadable) == ((), (), ())
    assert BRANCH.domain in observation.names


def test_template_under_a_branch_is_not_deleted(provider: LibvirtProvider) -> None:
    recorded(provider)
    template = template_record(name=BRANCH.template, generation=BRANCH.generation)
    with pytest.raises(OperationRefused, match="under branch 77777777 of host ci-1"):
        provider.destroy(template)


def test_a_sweep_deletes_directories_without_a_branch_of_this_owner(
    provider: LibvirtProvider,
) -> None:
    folder = recorded(provider, replace(BRANCH, phase="frozen"))
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    own, foreign = (
        provider.store.branches / f"{digit * 8}-1111-4111-8111-111111111111" for digit in "ab"
    )
    note(provider, own)
    note(provider, foreign, "another")
    for check in (True, False):
        result = provider.sweep(BRANCH.owner, 0.0, check=check)
        assert [orphan.path for orphan in result.removed] == [str(own)]
        assert [orphan.path for orphan in result.skipped] == [str(foreign)]
        assert own.exists() == check
    assert folder.exists()
    assert foreign.exists()
    os.close(lock)


PARTS = ("state", "ram", "disk.qcow2")


@pytest.fixture
def sealed(tmp_path: Path) -> BranchRecord:
    """A branch whose files are in the temporary directory."""
    for part in PARTS:
        (tmp_path / part).write_text(part)
    return replace(BRANCH, checksums=frozen.seal_branch(tmp_path, PARTS))


def test_the_files_of_a_branch_are_read_only_except_ram(
    tmp_path: Path, sealed: BranchRecord
) -> None:
    modes = [(tmp_path / part).stat().st_mode & 0o777 for part in PARTS]
    assert modes == [0o400, 0o600, 0o400]
    frozen.verify_branch(tmp_path, sealed, PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_a_changed_file_of_a_branch_is_noticed(
    tmp_path: Path, sealed: BranchRecord, part: str
) -> None:
    os.utime(tmp_path / part, (1, 1))
    with pytest.raises(ImageError, match=f"{part} was changed or deleted"):
        frozen.verify_branch(tmp_path, sealed, PARTS)


def test_a_missing_file_of_a_branch_is_noticed(tmp_path: Path, sealed: BranchRecord) -> None:
    (tmp_path / "ram").unlink()
    with pytest.raises(ImageError, match="ram was changed or deleted"):
        frozen.verify_branch(tmp_path, sealed, PARTS)


def test_a_branch_needs_space_for_all_of_its_memory(tmp_path: Path) -> None:
    size_mib = 1 << 21
    record = replace(BRANCH, modules=(MemoryModule(0, size_mib, 0, 0),) * 64)
    with pytest.raises(OutOfSpace, match=f"{1024 + 64 * size_mib} MiB are needed"):
        branch_source.check_space(record, Store(tmp_path), "host ci-1")


def test_a_template_from_a_host_needs_space_for_two_memories_and_all_layers(tmp_path: Path) -> None:
    files = [tmp_path / "disk.qcow2", tmp_path / "layer.qcow2"]
    for path in files:
        path.write_bytes(b"x" * (2 << 20))
    branch_source.check_template_space(1, files, Store(tmp_path), "host ci-1")
    memory_mib = 1 << 30
    needed = f"no space for a template.*{2 * memory_mib + 4} MiB are needed"
    with pytest.raises(OutOfSpace, match=needed):
        branch_source.check_template_space(memory_mib, files, Store(tmp_path), "host ci-1")


def test_the_layers_under_a_disk_are_facts_of_a_host(provider: LibvirtProvider) -> None:
    defined(provider, HOST.domain, HOST.uuid, encode(HOST))
    defined(provider, CHILD.domain, CHILD.uuid, encode(CHILD))
    store = provider.store
    template = disk(store.templates / "t/disk.qcow2")
    layer = disk(DiskLayers(store.disk_layers).path(BRANCH.uuid), template)
    assert provider.facts(CHILD).disk_layers is None
    disk(store.hosts / CHILD.uuid / "disk.qcow2", layer)
    assert provider.facts(CHILD).disk_layers == 1
    disk(store.hosts / HOST.uuid / "disk.qcow2", template)
    assert provider.facts(HOST).disk_layers == 0


@pytest.mark.parametrize(
    ("kvm", "major", "misses"), [(True, 7, False), (False, 7, True), (False, 9, False)]
)
def test_only_an_emulated_host_of_an_old_qemu_is_stopped_first(
    kvm: bool, major: int, misses: bool
) -> None:
    class OldOrNew:
        def command(self, execute: str) -> dict[str, Any]:
            version = {"major": major, "minor": 2, "micro": 0}
            answers: dict[str, dict[str, Any]] = {
                "query-kvm": {"enabled": kvm},
                "query-version": {"qemu": version},
            }
            return answers[execute]

    assert branch_source.misses_writes(cast(Monitor, OldOrNew())) is misses
