# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes on every hypervisor that has them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from stockyard.clock import Deadline
from stockyard.errors import Conflict, NotFound, OperationRefused
from stockyard.guest.client import Guest
from stockyard.hypervisor.provider import Provider
from stockyard.model.volume import Attachment, VolumeRecord
from stockyard.resources.context import Context
from stockyard.resources.hosts import host_lifecycle, suspension
from tests.contract.bench import Bench
from tests.contract.conftest import Drafts, state_of

HOLDER = Attachment("0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10", "web-1", "/data")


def later() -> Deadline:
    """Time enough, from now on: this file is read long before its tests run."""
    return Deadline(120)


class Volumes:
    """Create volumes, and delete them at the end."""

    def __init__(self, provider: Provider, owner: str) -> None:
        self.store = provider.volumes
        self.owner = owner
        self.made: list[VolumeRecord] = []

    def draft(self, name: str = "", **changes: object) -> VolumeRecord:
        own = str(uuid.uuid4())
        record = VolumeRecord(
            self.owner, "default", name or f"v-{own[:8]}", own, 1, "creating", 1.0
        )
        record = replace(record, **changes)  # type: ignore[arg-type]
        self.made.append(record)
        return record

    def __call__(
        self, name: str = "", source: VolumeRecord | None = None, **changes: object
    ) -> VolumeRecord:
        record = self.draft(name, **changes)
        self.store.create(record, source, later())
        return self.store.claim(record, phase="ready")

    def now(self, record: VolumeRecord) -> VolumeRecord | None:
        """The record of now."""
        return next(
            (v for v in self.store.observe(record.owner).volumes if v.uuid == record.uuid), None
        )

    def clean(self) -> None:
        for record in reversed(self.made):
            current = self.now(record)
            if current and current.attachment:
                self.store.claim(current, attachment=None)
            self.store.destroy(record)


@pytest.fixture
def volumes(provider: Provider, bench: Bench) -> Iterator[Volumes]:
    """The volumes of one test."""
    if not provider.capabilities.volumes:
        pytest.skip("this hypervisor has no volumes (capability volumes)")
    volumes_of_test = Volumes(provider, bench.template.owner)
    yield volumes_of_test
    volumes_of_test.clean()


def test_a_volume_is_on_record_for_all_controllers(volumes: Volumes, second: Provider) -> None:
    volume = volumes(size_gib=3)
    assert volume in second.volumes.observe(volume.owner).volumes
    assert volume not in second.volumes.observe("somebody-else").volumes
    assert second.volumes.facts(volume).allocated < 1 << 20


def test_observation_of_a_hypervisor_contains_the_volumes_of_its_owner(
    volumes: Volumes, provider: Provider
) -> None:
    record = volumes()
    observation = provider.observe(volumes.owner)
    assert record in observation.volumes.volumes
    assert observation.volumes == volumes.store.observe(volumes.owner)
    assert record not in provider.observe("somebody-else").volumes.volumes


def test_a_name_is_given_once(volumes: Volumes, second: Provider) -> None:
    volume = volumes()
    with pytest.raises(Conflict, match="exists"):
        second.volumes.create(volumes.draft(volume.name), None, later())
    assert volumes.now(volume) == volume
    volumes(volume.name, tenant="other")


def test_one_of_many_parallel_claims_succeeds(
    volumes: Volumes, provider: Provider, second: Provider
) -> None:
    volume = volumes()

    def claim(number: int) -> str:
        try:
            (provider, second)[number % 2].volumes.claim(
                volume, attachment=replace(HOLDER, host=f"h-{number}")
            )
        except Conflict:
            return ""
        return f"h-{number}"

    with ThreadPoolExecutor(max_workers=8) as pool:
        (winner,) = [name for name in pool.map(claim, range(8)) if name]
    current = volumes.now(volume)
    assert current
    assert current.attachment
    assert current.attachment.host == winner
    assert current.version == volume.version + 1


def test_attached_volume_is_neither_copied_nor_destroyed(volumes: Volumes) -> None:
    volume = volumes()
    held = volumes.store.claim(volume, attachment=HOLDER)
    with pytest.raises(OperationRefused):
        volumes.store.create(volumes.draft(), held, later())
    with pytest.raises(OperationRefused):
        volumes.store.destroy(held)
    assert volumes.now(volume) == held


def test_volume_is_destroyed_idempotently(volumes: Volumes, bench: Bench) -> None:
    volume = volumes()
    disk = volumes.store.facts(volume).disk
    assert bench.has_disk(disk)
    for _time in range(2):
        volumes.store.destroy(volume)
    assert volumes.now(volume) is None
    assert not bench.has_disk(disk)
    with pytest.raises(NotFound):
        volumes.store.claim(volume, phase="ready")


def test_copies_outlive_their_source(volumes: Volumes, bench: Bench) -> None:
    first = volumes()
    clone, second_clone = volumes(source=first), volumes(source=first)
    frozen = volumes(source=first, snapshot=True)
    late = volumes(source=frozen)
    volumes.store.destroy(first)
    for copy in (clone, second_clone, late):
        assert bench.has_disk(volumes.store.facts(copy).disk)
    volumes(source=clone)
    swept = volumes.store.sweep(volumes.owner, 0.0)
    assert swept.removed == ()


def test_volume_grows(volumes: Volumes) -> None:
    volume = volumes()
    for _time in range(2):
        volumes.store.grow(volume, 2, later())


def test_volume_is_attached_to_a_running_machine_and_detached(
    volumes: Volumes, provider: Provider, drafts: Drafts, deadline: Deadline
) -> None:
    host = drafts.forked(deadline)
    volume = volumes()
    held = volumes.store.claim(volume, attachment=replace(HOLDER, uuid=host.uuid))
    with Guest(provider.channel(host, deadline), host.title, deadline) as guest:
        for _time in range(2):
            volumes.store.plug(host, held, deadline)
        assert guest.volume_probe(volume.serial).kind == "blank"
        for _time in range(2):
            volumes.store.unplug(host, held, deadline)


def test_the_end_of_a_host_is_not_the_end_of_its_volume(
    volumes: Volumes, bench: Bench, provider: Provider, drafts: Drafts, deadline: Deadline
) -> None:
    host = drafts.forked(deadline)
    volume = volumes()
    held = volumes.store.claim(volume, attachment=replace(HOLDER, uuid=host.uuid))
    volumes.store.plug(host, held, deadline)
    provider.destroy(host)
    provider.sweep(host.owner, 0.0)
    assert volumes.now(volume) == held
    assert bench.has_disk(volumes.store.facts(volume).disk)


def test_unreadable_object_is_reported_and_unchanged(volumes: Volumes, bench: Bench) -> None:
    volume = volumes()
    disk = volumes.store.facts(volume).disk
    whole = bench.note(disk)
    try:
        for text in (
            "",
            "{",
            whole.replace(volume.uuid, str(uuid.uuid4())),
            '{"uri": 1}',
            whole[:-20],
        ):
            bench.scrawl(disk, text)
            observation = volumes.store.observe(volumes.owner)
            assert [s.name for s in observation.unreadable] == [f"volume {volume.uuid}"]
            with pytest.raises(OperationRefused):
                volumes.store.destroy(volume)
            with pytest.raises(OperationRefused):
                volumes.store.create(volumes.draft(volume.name), None, later())
            assert not any(
                volume.uuid in p.path for p in volumes.store.sweep(volumes.owner, 0.0).removed
            )
            assert bench.has_disk(disk)
    finally:
        bench.scrawl(disk, whole)


def test_host_with_an_encrypted_volume_is_shut_down_and_never_suspended(
    context: Context, provider: Provider, drafts: Drafts, volumes: Volumes, deadline: Deadline
) -> None:
    record = drafts.reserved(encrypted=True)
    provider.fork(record, drafts.template, provider.capabilities.modes[0], deadline)
    record = provider.claim(record, phase="ready")
    attachment = Attachment(record.uuid, record.name, "/data")
    volume = provider.volumes.claim(volumes(), attachment=attachment)
    host = provider.observe(record.owner).host(record.tenant, record.name)
    assert host is not None
    for refused in (
        lambda: suspension.plan(context, [host], "declared"),
        lambda: host_lifecycle.suspend(context, record, deadline),
    ):
        with pytest.raises(OperationRefused, match="cannot be suspended"):
            refused()
    assert state_of(provider, record) == "running"
    todo = suspension.plan(context, [host], "declared", shut_down=True)
    assert [action.verb for action in todo.actions] == ["stop"]
    host_lifecycle.shut_down(context, record, deadline)
    assert state_of(provider, record) == "off"
    assert volumes.now(volume) == volume
