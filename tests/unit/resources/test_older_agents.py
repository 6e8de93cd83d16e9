# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A yard whose hosts run the agent of an older template (version 4, of commit b376502)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from stockyard import (
    FleetSpec,
    HostSpec,
    LeaseSpec,
    SingleSpec,
    TemplateSpec,
    VolumeSpec,
    VolumeUse,
    Yard,
)
from stockyard.clock import Deadline
from stockyard.errors import GuestError, HypervisorError, Unsupported
from stockyard.model.host import HostRecord
from stockyard.model.security import SecuritySpec
from stockyard.resources import guest_status
from stockyard.resources.hosts.identity import unit_failures
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.older_agents import use_agent_of_version_4

FLEET = FleetSpec(
    "web", "base", count=2, host=HostSpec(volumes=(VolumeUse("data-{host}", "/data", 1),))
)
KEY = "0123456789abcdef" * 4


@pytest.fixture
def older(bare: Yard, monkeypatch: pytest.MonkeyPatch) -> Yard:
    """A yard with a fleet whose agents have version 4."""
    use_agent_of_version_4(monkeypatch)
    bare.templates.apply(TemplateSpec("base", max_memory_mib=2048))
    bare.fleets.apply(FLEET)
    return bare


def record_of(yard: Yard, name: str) -> HostRecord:
    observation = yard.context.provider.observe(yard.context.owner)
    return next(host.record for host in observation.hosts if host.record.name == name)


def actions(result: Any) -> list[str]:
    return [f"{action.verb} {action.kind} {action.name}" for action in result.plan.actions]


def test_fleet_with_volumes_is_created_and_then_unchanged(older: Yard) -> None:
    record = record_of(older, "web-1")
    with older.context.guest(record, Deadline(5)) as guest:
        hello = guest.hello()
    assert (hello.agent, hello.uuid, hello.missing) == (4, record.uuid, ())
    assert not older.fleets.apply(FLEET).changed
    volumes = older.context.provider.volumes.observe(older.context.owner).volumes
    assert [volume.attachment and volume.attachment.mounted for volume in volumes] == [True, True]


def test_certificate_is_renewed(older: Yard, clock: FakeClock) -> None:
    before = record_of(older, "web-1").identity
    clock.time += timedelta(days=365).total_seconds()
    assert actions(older.fleets.apply(FLEET)) == ["renew host web-1", "renew host web-2"]
    after = record_of(older, "web-1").identity
    assert before
    assert after
    assert after.certificate != before.certificate
    assert after.ssh_host_key == before.ssh_host_key


def test_host_is_resized_leased_restarted_replaced_and_deleted(older: Yard) -> None:
    larger = replace(FLEET, host=replace(FLEET.host, memory_mib=1280))
    assert actions(older.fleets.apply(larger)) == ["resize host web-1", "resize host web-2"]
    with older.leases.acquire("web", holder="job"):
        pass
    older.fleets.apply(larger)
    older.hosts.restart("web-2")
    older.hosts.replace("web-2")
    older.fleets.delete("web")
    observation = older.context.provider.observe(older.context.owner)
    assert observation.hosts == ()
    volumes = older.context.provider.volumes.observe(older.context.owner).volumes
    assert [volume.attachment for volume in volumes] == [None] * len(volumes)


def test_volume_is_attached_grown_and_detached(older: Yard) -> None:
    older.volumes.attach(VolumeSpec("more", size_gib=1), host="web-1", path="/more")
    older.volumes.apply(VolumeSpec("more", size_gib=2))
    older.volumes.detach("more")
    assert not older.fleets.apply(FLEET).changed


def test_encrypted_volume_is_created_and_mounted_after_a_boot(
    hypervisor: FaultyProvider, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_agent_of_version_4(monkeypatch)
    encrypted = TemplateSpec("base", docker="stopped", security=SecuritySpec(encrypted_data=True))
    with Yard(
        provider=hypervisor.as_provider(), pki_dir=str(tmp_path / "pki"), volume_key=KEY
    ) as yard:
        yard.templates.apply(encrypted)
        yard.hosts.apply(SingleSpec("web", "base", host=FLEET.host))
        yard.hosts.restart("web")
        (volume,) = yard.context.provider.volumes.observe(yard.context.owner).volumes
        assert volume.encryption_id
        assert volume.attachment
        assert volume.attachment.mounted


def test_clock_is_read_and_set_by_the_hypervisor(
    older: Yard, hypervisor: FaultyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    class HypervisorClock:
        ahead_seconds = -400.0

        def ahead(self, record: HostRecord, now: float) -> float:
            return self.ahead_seconds

        def set(self, record: HostRecord, now: float) -> None:
            self.ahead_seconds = 0.0

    hypervisor.inner.guest_clock = clock = HypervisorClock()
    older.leases.ensure(LeaseSpec(holder="job", fleet="web", duration=600))
    assert clock.ahead_seconds == 0.0
    monkeypatch.setattr(clock, "ahead", lambda _record, _now: fail())
    guest_status.synchronize(older.context, record_of(older, "web-1"), Deadline(5))


def fail() -> float:
    raise HypervisorError("the guest does not answer.")


def test_operation_that_the_agent_lacks_is_refused_with_a_remedy(older: Yard) -> None:
    with older.context.guest(record_of(older, "web-1"), Deadline(5)) as guest:
        assert unit_failures(guest) == ""
        with pytest.raises(Unsupported, match="too old for clock corrections") as caught:
            guest.require("clock corrections")
        assert "replace the host" in caught.value.remedy
        guest.require("encrypted volumes")
    with older.context.guest(record_of(older, "web-1"), Deadline(5)) as guest:
        with pytest.raises(GuestError, match="docker-probe"):
            guest.docker_probe()
        # The agent answers further requests.
        assert guest.hello().agent == 4


def test_current_agent_takes_over_a_yard_of_older_agents(
    older: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Disks and records that older agents wrote are read by the current agent and controller."""
    monkeypatch.undo()
    assert not older.fleets.apply(FLEET).changed
    older.hosts.restart("web-1")
    with older.context.guest(record_of(older, "web-1"), Deadline(5)) as guest:
        assert guest.supports("clock corrections")
        assert guest.hello().missing == ()
