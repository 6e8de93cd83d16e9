# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Orphaned files of a store, with a directory and invented domains."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stockyard.clock import Deadline
from stockyard.errors import HypervisorError
from stockyard.model.observation import Record, SweepResult, UnreadableObject
from stockyard.providers.libvirt import orphaned_files, processes
from stockyard.providers.libvirt.images import Images
from stockyard.providers.libvirt.orphaned_files import Domains
from stockyard.providers.libvirt.store import Store
from tests.helpers.samples import host_record, template_record

URI = "qemu:///session"
NONE = Domains((), (), ())


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(processes, "running", dict)
    opened_store = Store(tmp_path / "store")
    opened_store.prepare()
    return opened_store


@pytest.fixture
def sweep(store: Store) -> Callable[..., SweepResult]:
    def run(
        domains: Domains = NONE,
        *,
        owner: str = "stockyard",
        older_than: float = 0.0,
        check: bool = False,
    ) -> SweepResult:
        return orphaned_files.sweep(
            store, Images(store), domains, URI, owner, older_than, check=check
        )

    return run


def files(store: Store, record: Record, *, uri: str = URI, noted: bool = True) -> Path:
    """The directory of an object, as it is when all is made."""
    folder = (store.hosts if record.kind == "host" else store.templates) / record.uuid
    folder.mkdir()
    for name in ("disk.qcow2", "ram", "state", "console.log"):
        (folder / name).write_text("x")
    if noted:
        orphaned_files.note(folder, uri, record)
    return folder


def names(files: object) -> list[str]:
    return [Path(file.path).name for file in files]  # type: ignore[attr-defined]


def test_file_without_domain_is_deleted(store: Store, sweep: Callable[..., SweepResult]) -> None:
    orphans = [files(store, host_record()), files(store, template_record())]
    for path in (orphans[1] / "state", orphans[1] / "disk.qcow2"):
        path.chmod(0o400)
    dry = sweep(check=True)
    assert sorted(file.path for file in dry.removed) == sorted(map(str, orphans))
    assert all(path.exists() for path in orphans)
    assert sweep() == dry
    assert not any(path.exists() for path in orphans)
    assert sweep() == SweepResult((), ())


def test_file_named_in_any_part_of_a_domain_is_kept(
    store: Store, sweep: Callable[..., SweepResult]
) -> None:
    used, free = host_record(), host_record()
    folders = [files(store, used), files(store, free)]
    # A user's own machine that uses a disk of the store.
    foreign = f"<domain><name>mine</name><source file='{folders[0]}/disk.qcow2'/></domain>"
    swept = sweep(Domains((), (), (foreign,)))
    assert names(swept.removed) == [free.uuid]
    assert folders[0].exists()


def test_file_of_a_running_qemu_is_kept(
    store: Store, sweep: Callable[..., SweepResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = host_record()
    monkeypatch.setattr(processes, "running", lambda: {record.uuid: 42})
    folder = files(store, record)
    assert [file.reason for file in sweep().skipped] == ["QEMU process 42 uses the file"]
    assert folder.exists()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda store: files(store, host_record(), noted=False), "it has no record of its owner"),
        (lambda store: files(store, host_record(owner="other")), "another owner (other)"),
        (
            lambda store: files(store, host_record(), uri="qemu:///system"),
            "another hypervisor (qemu:///system)",
        ),
        (
            lambda store: files(store, host_record()).rename(store.hosts / host_record().uuid),
            "is a copy of another one",
        ),
        (
            lambda store: files(store, host_record()).rename(store.hosts / "precious"),
            "the directory does not belong to stockyard",
        ),
    ],
)
def test_file_without_proof_of_ownership_is_kept(
    store: Store, sweep: Callable[..., SweepResult], make: Callable[[Store], Path], why: str
) -> None:
    folder = make(store)
    swept = sweep()
    assert swept.removed == ()
    assert why in swept.skipped[0].reason
    assert (folder / "disk.qcow2").exists()


def test_a_link_is_not_followed(
    store: Store, sweep: Callable[..., SweepResult], tmp_path: Path
) -> None:
    record = host_record()
    elsewhere = tmp_path / "elsewhere"
    files(store, record).rename(elsewhere)
    (store.hosts / record.uuid).symlink_to(elsewhere)
    (store.hosts / "file").write_text("x")
    assert names(sweep().skipped) == sorted([record.uuid, "file"])
    assert (elsewhere / "disk.qcow2").exists()


def test_links_inside_are_not_followed(
    store: Store, sweep: Callable[..., SweepResult], tmp_path: Path
) -> None:
    (tmp_path / "precious").write_text("x")
    (files(store, host_record()) / "link").symlink_to(tmp_path)
    assert len(sweep().removed) == 1
    assert (tmp_path / "precious").exists()


def test_young_file_is_kept(store: Store, sweep: Callable[..., SweepResult]) -> None:
    folder = files(store, host_record())
    assert "s ago" in sweep(older_than=60.0).skipped[0].reason
    for path in (folder, *folder.iterdir()):
        os.utime(path, (1, 1))
    assert len(sweep(older_than=60.0).removed) == 1


def test_empty_directory_is_deleted(store: Store, sweep: Callable[..., SweepResult]) -> None:
    folder = store.templates / template_record().uuid
    folder.mkdir()
    assert "s ago" in sweep(older_than=60.0).skipped[0].reason
    assert names(sweep().removed) == [folder.name]
    assert not folder.exists()


def test_a_template_under_living_hosts_stays(
    store: Store, sweep: Callable[..., SweepResult]
) -> None:
    template = template_record()
    folder = files(store, template)
    host = host_record(name="web-1", template=template.name, generation=template.generation)
    assert sweep(Domains((host,), (), ())).skipped[0].reason == "hosts of the template exist: web-1"
    stranger = UnreadableObject("stockyard.default.web-2", "its record is not JSON")
    assert (
        "may be a host of the template (stockyard.default.web-2)"
        in sweep(Domains((), (stranger,), ())).skipped[0].reason
    )
    assert folder.exists()
    assert names(sweep().removed) == [template.uuid]


def test_workshops_of_dead_builders_and_free_locks_go(
    store: Store, sweep: Callable[..., SweepResult]
) -> None:
    dead, alive = store.images / "work-999999999-x", store.images / f"work-{os.getpid()}-x"
    image = store.images / ("a" * 64)
    for folder in (dead, alive, image):
        folder.mkdir()
    stale = store.locks / "stockyard.left.lock"
    stale.write_text("")
    with store.lock("held", Deadline(1)):
        assert sorted(names(sweep(check=True).removed)) == ["stockyard.left.lock", dead.name]
        sweep()
    assert not dead.exists()
    assert not stale.exists()
    assert alive.exists()
    assert image.exists()


def test_unreadable_storage_is_unchanged(
    store: Store, sweep: Callable[..., SweepResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = files(store, host_record())

    def broken(_path: Path) -> None:
        raise OSError("input/output error")

    monkeypatch.setattr(orphaned_files, "_in_use", lambda _record, _domains: broken(folder))
    with pytest.raises(HypervisorError, match="the storage cannot be read; nothing was deleted"):
        sweep()
    assert folder.exists()
