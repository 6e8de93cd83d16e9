# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes belong to one host at a time, a plan changes none, and none is left incomplete."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from stockyard import FleetSpec, HypervisorError, OperationRefused, VolumeSpec, Yard
from stockyard.model.volume import Attachment, VolumeRecord
from stockyard.providers.common.volume_files import VolumeFiles
from stockyard.providers.memory.provider import MemoryProvider
from stockyard.resources.volumes.attachment import record_attachment
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.values import present

DATA = VolumeSpec("data", size_gib=2)


@pytest.fixture
def two(yard: Yard) -> Yard:
    """The yard with two hosts, and a detached volume."""
    yard.fleets.apply(FleetSpec("ci", "base", count=2))
    yard.volumes.apply(DATA)
    return yard


def observed(yard: Yard) -> VolumeRecord:
    """The record of the volume."""
    volumes = yard.context.provider.volumes.observe("stockyard")
    return present(volumes.find("default", "data"))


def files_of(hypervisor: FaultyProvider) -> VolumeFiles:
    assert isinstance(hypervisor.inner, MemoryProvider)
    return hypervisor.inner.volumes.files


def claim_of(yard: Yard, name: str) -> Attachment:
    (host,) = (host for host in yard.hosts.list() if host.name == name)
    return Attachment(host.uuid, name, "/data")


def test_volume_that_another_host_took_after_the_plan_stays_with_that_host(two: Yard) -> None:
    planned = observed(two)
    assert planned.attachment is None
    two.volumes.attach(DATA, host="ci-2", path="/data")
    with pytest.raises(OperationRefused, match="host ci-2"):
        record_attachment(two.context, planned, claim_of(two, "ci-1"))
    assert present(observed(two).attachment).host == "ci-2"
    assert present(observed(two).attachment).mounted


def test_volume_of_a_former_host_can_be_claimed(two: Yard) -> None:
    former_claim = Attachment(str(uuid.uuid4()), "gone", "/data")
    planned = two.context.provider.volumes.claim(observed(two), attachment=former_claim)
    record_attachment(two.context, planned, claim_of(two, "ci-1"))
    assert present(observed(two).attachment).host == "ci-1"


def test_dry_run_of_the_reaper_detaches_nothing(two: Yard) -> None:
    former_claim = Attachment(str(uuid.uuid4()), "gone", "/data")
    record = two.context.provider.volumes.claim(observed(two), attachment=former_claim)
    action = "detach volume data: its host no longer exists"
    assert action in map(str, two.reap(dry_run=True).plan.actions)
    assert observed(two) == record
    assert action in map(str, two.reap().plan.actions)
    assert observed(two).attachment is None


def test_dry_run_of_the_reaper_deletes_no_incomplete_volume(two: Yard) -> None:
    record = two.context.provider.volumes.claim(observed(two), phase="deleting")
    action = "delete volume data: its deletion was interrupted"
    assert [str(planned) for planned in two.reap(dry_run=True).plan.actions] == [action]
    assert observed(two) == record
    assert [str(performed) for performed in two.reap().plan.actions] == [action]
    assert two.volumes.list() == ()


def test_dry_run_of_the_reaper_removes_no_directory_of_a_volume(
    two: Yard, hypervisor: FaultyProvider
) -> None:
    folder = files_of(hypervisor).folder / str(uuid.uuid4())
    folder.mkdir()
    dry = two.reap(dry_run=True, grace=0)
    assert any(str(folder) in str(action) for action in dry.plan.actions)
    assert folder.exists()
    two.reap(grace=0)
    assert not folder.exists()
    assert [volume.name for volume in two.volumes.list()] == ["data"]


@pytest.mark.parametrize("method", ["create", "claim"])
def test_volume_whose_creation_fails_is_removed(
    yard: Yard, hypervisor: FaultyProvider, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    store, files = hypervisor.inner.volumes, files_of(hypervisor)
    real = getattr(store, method)

    def fail(*arguments: Any, **options: Any) -> None:
        real(*arguments, **options)
        raise HypervisorError("the disk is on fire.")

    with monkeypatch.context() as patched:
        patched.setattr(store, method, fail)
        with pytest.raises(HypervisorError, match="on fire"):
            yard.volumes.apply(DATA)
    assert yard.volumes.list() == ()
    assert list(files.folder.iterdir()) == []
    assert yard.volumes.apply(DATA).changed
