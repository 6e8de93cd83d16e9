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
from tests.contract.bench import Bench
from tests.contract.conftest import Drafts

HOLDER = Attachment("0b0a4a86-9c3b-4b0e-9a5e-1c1c7a5a1f10", "web-1", "/data")


def later() -> Deadline:
    """Time enough, from now on: this file is read long before its tests run."""
    return Deadline(120)


class Volumes:
    """Makes volumes, and takes away whatever became of them."""

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
            there = self.now(record)
            if there and there.attachment:
                self.store.claim(there, attachment=None)
            self.store.destroy(record)


@pytest.fixture
def volumes(provider: Provider, bench: Bench) -> Iterator[Volumes]:
    """The volumes of one test."""
    if not provider.capabilities.volumes:
        pytest.skip("this hypervisor has no volumes (capability volumes)")
    made = Volumes(provider, bench.template.owner)
    yield made
    made.clean()


def test_a_volume_is_on_record_for_all_controllers(volumes: Volumes, second: Provider) -> None:
    made = volumes(size_gib=3)
    assert made in second.volumes.observe(made.owner).volumes
    assert made not in second.volumes.observe("somebody-else").volumes
    assert second.volumes.facts(made).allocated < 1 << 20


def test_observation_of_a_hypervisor_contains_the_volumes_of_its_owner(
    volumes: Volumes, provider: Provider
) -> None:
    record = volumes()
    observation = provider.observe(volumes.owner)
    assert record in observation.volumes.volumes
    assert observation.volumes == volumes.store.observe(volumes.owner)
    assert record not in provider.observe("somebody-else").volumes.volumes


def test_a_name_is_given_once(volumes: Volumes, second: Provider) -> None:
    made = volumes()
    with pytest.raises(Conflict, match="exists"):
        second.volumes.create(volumes.draft(made.name), None, later())
    assert volumes.now(made) == made
    volumes(made.name, tenant="other")


def test_of_many_who_claim_one_gets_it(
    volumes: Volumes, provider: Provider, second: Provider
) -> None:
    made = volumes()

    def claim(number: int) -> str:
        try:
            (provider, second)[number % 2].volumes.claim(
                made, attachment=replace(HOLDER, host=f"h-{number}")
            )
        except Conflict:
            return ""
        return f"h-{number}"

    with ThreadPoolExecutor(max_workers=8) as pool:
        (winner,) = [name for name in pool.map(claim, range(8)) if name]
    there = volumes.now(made)
    assert there
    assert there.attachment
    assert there.attachment.host == winner
    assert there.version == made.version + 1


def test_what_somebody_has_is_neither_copied_nor_destroyed(volumes: Volumes) -> None:
    made = volumes()
    held = volumes.store.claim(made, attachment=HOLDER)
    with pytest.raises(OperationRefused):
        volumes.store.create(volumes.draft(), held, later())
    with pytest.raises(OperationRefused):
        volumes.store.destroy(held)
    assert volumes.now(made) == held


def test_a_destroyed_volume_is_gone_and_is_so_again(volumes: Volumes, bench: Bench) -> None:
    made = volumes()
    disk = volumes.store.facts(made).disk
    assert bench.has_disk(disk)
    for _time in range(2):
        volumes.store.destroy(made)
    assert volumes.now(made) is None
    assert not bench.has_disk(disk)
    with pytest.raises(NotFound):
        volumes.store.claim(made, phase="ready")


def test_copies_outlive_what_they_are_copies_of(volumes: Volumes, bench: Bench) -> None:
    first = volumes()
    one, other = volumes(source=first), volumes(source=first)
    frozen = volumes(source=first, snapshot=True)
    late = volumes(source=frozen)
    volumes.store.destroy(first)
    for copy in (one, other, late):
        assert bench.has_disk(volumes.store.facts(copy).disk)
    volumes(source=one)
    swept = volumes.store.sweep(volumes.owner, 0.0)
    assert swept.removed == ()


def test_it_grows(volumes: Volumes) -> None:
    made = volumes()
    for _time in range(2):
        volumes.store.grow(made, 2, later())


def test_it_is_in_a_running_machine_and_out_again(
    volumes: Volumes, provider: Provider, drafts: Drafts, deadline: Deadline
) -> None:
    host = drafts.forked(deadline)
    made = volumes()
    held = volumes.store.claim(made, attachment=replace(HOLDER, uuid=host.uuid))
    with Guest(provider.channel(host, deadline), host.title, deadline) as guest:
        for _time in range(2):
            volumes.store.plug(host, held, deadline)
        assert guest.volume_probe(made.serial).kind == "blank"
        for _time in range(2):
            volumes.store.unplug(host, held, deadline)


def test_the_end_of_a_host_is_not_the_end_of_its_volume(
    volumes: Volumes, bench: Bench, provider: Provider, drafts: Drafts, deadline: Deadline
) -> None:
    host = drafts.forked(deadline)
    made = volumes()
    held = volumes.store.claim(made, attachment=replace(HOLDER, uuid=host.uuid))
    volumes.store.plug(host, held, deadline)
    provider.destroy(host)
    provider.sweep(host.owner, 0.0)
    assert volumes.now(made) == held
    assert bench.has_disk(volumes.store.facts(made).disk)


def test_what_cannot_be_read_is_reported_and_left_alone(volumes: Volumes, bench: Bench) -> None:
    made = volumes()
    disk = volumes.store.facts(made).disk
    whole = bench.note(disk)
    try:
        for text in (
            "",
            "{",
            whole.replace(made.uuid, str(uuid.uuid4())),
            '{"uri": 1}',
            whole[:-20],
        ):
            bench.scrawl(disk, text)
            found = volumes.store.observe(volumes.owner)
            assert [s.name for s in found.unreadable] == [f"volume {made.uuid}"]
            with pytest.raises(OperationRefused):
                volumes.store.destroy(made)
            with pytest.raises(OperationRefused):
                volumes.store.create(volumes.draft(made.name), None, later())
            assert not any(
                made.uuid in p.path for p in volumes.store.sweep(volumes.owner, 0.0).removed
            )
            assert bench.has_disk(disk)
    finally:
        bench.scrawl(disk, whole)
