# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""No suspension saves the key of an encrypted volume, over the memory hypervisor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    BranchSpec,
    Busy,
    FleetSpec,
    HostSpec,
    InvalidInput,
    OperationRefused,
    SecuritySpec,
    SingleSpec,
    TemplateSpec,
    Unsupported,
    VolumeSpec,
    VolumeUse,
    Yard,
)
from stockyard.providers.memory.volumes import FolderDisks
from stockyard.resources.hosts import host_lifecycle, idleness
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider

SECRET = "0f1e2d3c4b5a69788796a5b4c3d2e1ff"
SAFE = FleetSpec("safe", "sealed", count=2, host=HostSpec(volumes=(VolumeUse("{host}-docker"),)))
# A host without a volume.
BARE = SingleSpec("bare", "sealed")
KEY = "its memory contains the key of encrypted volume"


@pytest.fixture
def messages() -> list[str]:
    """The progress lines of the yard."""
    return []


@pytest.fixture
def sealed(
    hypervisor: FaultyProvider, clock: FakeClock, tmp_path: Path, messages: list[str]
) -> Iterator[Yard]:
    """A yard whose fleet has encrypted volumes."""
    with Yard(
        provider=hypervisor.as_provider(),
        clock=clock,
        pki_dir=str(tmp_path / "pki"),
        volume_key=SECRET,
        progress=messages.append,
    ) as yard:
        security = SecuritySpec(encrypted_data=True)
        yard.templates.apply(TemplateSpec("sealed", docker="stopped", security=security))
        yard.fleets.apply(SAFE)
        yield yard


def states(yard: Yard) -> dict[str, str]:
    return {host.name: host.state for host in yard.hosts.list()}


def refuse(change: Callable[[], object]) -> None:
    with pytest.raises(OperationRefused, match="cannot be suspended") as refusal:
        change()
    assert refusal.value.cause.startswith(f"{KEY} safe-")
    assert refusal.value.remedy.startswith("detach the volume, or shut the host down")


@pytest.mark.parametrize("check", [True, False])
def test_hosts_with_encrypted_volumes_are_refused_before_any_change(
    sealed: Yard, check: bool
) -> None:
    lease = sealed.leases.acquire("safe", holder="job", duration=600)
    refuse(lambda: sealed.hosts.suspend("safe-1", force=True, check=check))
    refuse(lambda: sealed.fleets.suspend("safe", force=True, check=check))
    refuse(lambda: sealed.leases.suspend(lease.id, check=check))
    assert set(states(sealed).values()) == {"running"}


def test_volume_that_was_attached_since_the_plan_prevents_the_suspension(sealed: Yard) -> None:
    host = sealed.context.provider.observe("stockyard").host("default", "safe-1")
    assert host is not None
    with pytest.raises(OperationRefused, match="cannot be suspended"):
        host_lifecycle.suspend(sealed.context, host.record, sealed.context.deadline(10))
    assert states(sealed)["safe-1"] == "running"


def test_host_is_suspended_after_the_detachment(sealed: Yard) -> None:
    sealed.hosts.apply(BARE)
    sealed.volumes.attach(VolumeSpec("more"), host="bare", path="/more")
    with pytest.raises(OperationRefused, match="encrypted volume more"):
        sealed.hosts.suspend("bare")
    sealed.volumes.detach("more")
    assert sealed.hosts.suspend("bare").object.state == "suspended"


def test_host_whose_memory_can_contain_a_key_is_refused_until_it_boots(
    sealed: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FolderDisks, "zeroes_freed_memory", lambda _disks: False)
    sealed.hosts.apply(BARE)
    sealed.volumes.attach(VolumeSpec("more"), host="bare", path="/more")
    sealed.volumes.detach("more")
    with pytest.raises(OperationRefused, match="does not zero memory") as refusal:
        sealed.hosts.suspend("bare")
    assert refusal.value.remedy.startswith("restart the host and run again, or shut")
    sealed.hosts.restart("bare")
    assert sealed.hosts.suspend("bare").object.state == "suspended"


def test_host_whose_agent_does_not_answer_is_refused(
    sealed: Yard, hypervisor: FaultyProvider
) -> None:
    sealed.hosts.apply(BARE)
    hypervisor.fail("channel", OperationRefused("no channel"))
    with pytest.raises(OperationRefused, match="cannot be suspended") as refusal:
        sealed.hosts.suspend("bare")
    assert "no channel" in refusal.value.cause


def test_yard_is_suspended_and_hosts_with_keys_are_shut_down_until_the_next_run(
    sealed: Yard,
) -> None:
    sealed.hosts.apply(BARE)
    uuids = {host.name: host.uuid for host in sealed.hosts.list()}
    for check in (True, False):
        assert [str(action) for action in sealed.suspend(check=check).plan.actions] == [
            "suspend host bare: the yard is suspended",
            f"stop host safe-1: the yard is suspended, and {KEY} safe-1-docker",
            f"stop host safe-2: the yard is suspended, and {KEY} safe-2-docker",
        ]
    assert states(sealed) == {"bare": "suspended", "safe-1": "off", "safe-2": "off"}
    assert not sealed.suspend().changed
    assert [action.verb for action in sealed.fleets.apply(SAFE).plan.actions] == ["start", "start"]
    assert [action.verb for action in sealed.resume().plan.actions] == ["resume"]
    assert {host.name: host.uuid for host in sealed.hosts.list() if host.ready} == uuids
    assert {volume.mounted for volume in sealed.volumes.list()} == {True}


@pytest.mark.parametrize("check", [True, False])
def test_resume_of_the_yard_starts_the_hosts_that_its_suspension_shut_down(
    sealed: Yard, hypervisor: FaultyProvider, check: bool
) -> None:
    sealed.hosts.apply(BARE)
    sealed.hosts.apply(replace(BARE, name="off"))
    off = sealed.context.provider.observe("stockyard").host("default", "off")
    assert off is not None
    hypervisor.stop(off.record, sealed.context.deadline(10))
    sealed.suspend()
    assert [str(action) for action in sealed.resume(check=check).plan.actions] == [
        "resume host bare: it is suspended",
        "start host safe-1: it is off",
        "start host safe-2: it is off",
    ]
    if not check:
        expected = {"bare": "running", "off": "off", "safe-1": "running", "safe-2": "running"}
        assert states(sealed) == expected
        assert {volume.mounted for volume in sealed.volumes.list()} == {True}
        # A host that a user shuts down later stays off.
        host = sealed.context.provider.observe("stockyard").host("default", "safe-1")
        assert host is not None
        hypervisor.stop(host.record, sealed.context.deadline(10))
        assert not sealed.resume().changed


def test_shut_down_host_is_started_although_its_controller_died(
    sealed: Yard, hypervisor: FaultyProvider
) -> None:
    hypervisor.fail("stop", KeyboardInterrupt(), after=True)
    with pytest.raises(KeyboardInterrupt):
        sealed.suspend()
    sealed.suspend()
    assert set(states(sealed).values()) == {"off"}
    assert [action.verb for action in sealed.resume().plan.actions] == ["start", "start"]


def test_controller_without_the_key_resumes_the_other_hosts(
    sealed: Yard, hypervisor: FaultyProvider, clock: FakeClock, tmp_path: Path
) -> None:
    sealed.fleets.apply(FleetSpec("plain", "sealed"))
    sealed.suspend()
    lines: list[str] = []
    with Yard(
        provider=hypervisor.as_provider(),
        clock=clock,
        pki_dir=str(tmp_path / "pki"),
        progress=lines.append,
    ) as keyless_yard:
        assert [action.name for action in keyless_yard.resume(check=True).plan.actions] == [
            "plain-1"
        ]
        lines.clear()
        assert [action.name for action in keyless_yard.resume().plan.actions] == ["plain-1"]
        assert states(keyless_yard) == {"plain-1": "running", "safe-1": "off", "safe-2": "off"}
        skipped = [line for line in lines if "not started" in line]
        assert [line.split(":")[0] for line in skipped] == ["host safe-1", "host safe-2"]
        with pytest.raises(InvalidInput, match="volume_key"):
            keyless_yard.fleets.resume("safe")
    assert [action.verb for action in sealed.resume().plan.actions] == ["start", "start"]


def test_single_host_with_a_key_is_shut_down_with_its_yard(sealed: Yard) -> None:
    sealed.fleets.delete("safe")
    sealed.hosts.apply(BARE)
    sealed.volumes.attach(VolumeSpec("more"), host="bare", path="/more")
    assert [action.verb for action in sealed.suspend().plan.actions] == ["stop"]
    assert states(sealed) == {"bare": "off"}
    assert [action.verb for action in sealed.hosts.resume("bare").plan.actions] == ["start"]
    assert sealed.volumes.get("more").mounted


def test_idle_host_with_a_key_keeps_running(
    sealed: Yard, messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idleness, "idle", lambda _ctx, _tenant, hosts, _duration: list(hosts))
    assert not sealed.fleets.apply(replace(SAFE, suspend_after=60.0)).changed
    assert sorted(line for line in messages if "not suspended" in line) == [
        f"host safe-{number}: idle, but not suspended: {KEY} safe-{number}-docker"
        for number in (1, 2)
    ]


def test_host_of_a_failed_job_is_shut_down(sealed: Yard, clock: FakeClock) -> None:
    with sealed.leases.acquire("safe", holder="job", duration=600) as held:
        host = held.keep("2h")
    assert (host.name, host.state) == (held.info.host, "off")
    assert sealed.hosts.get(host.name).lease
    clock.sleep(7300)
    sealed.reap()
    assert host.name not in states(sealed)


@pytest.mark.parametrize(
    ("save", "host"), [("suspend", "bare"), ("suspend", "safe-1"), ("branch", "bare")]
)
def test_volume_is_not_attached_while_the_memory_of_its_host_is_saved(
    sealed: Yard, hypervisor: FaultyProvider, save: str, host: str
) -> None:
    sealed.hosts.apply(BARE)
    sealed.fleets.delete("safe")
    sealed.fleets.apply(replace(SAFE, count=1, host=HostSpec()))
    saver, method = (
        (hypervisor.inner, "suspend")
        if save == "suspend"
        else (hypervisor.inner.branches, "create")
    )
    save_memory, refusals = getattr(saver, method), []

    def attach_first(*arguments: Any, **options: Any) -> Any:
        with pytest.raises(Busy) as refusal:
            sealed.volumes.attach(VolumeSpec("late"), host=host, path="/late")
        refusals.append(refusal.value)
        return save_memory(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saver, method, attach_first)
        if save == "suspend":
            sealed.hosts.suspend(host)
        else:
            sealed.hosts.branch(BranchSpec(host, names=("child",)))
    assert len(refusals) == 1
    assert sealed.volumes.get("late").host == ""


def test_volume_is_not_attached_to_a_host_that_was_suspended_since_the_plan(
    sealed: Yard, hypervisor: FaultyProvider
) -> None:
    sealed.hosts.apply(BARE)
    create = hypervisor.inner.volumes.create

    def suspend_first(*arguments: Any) -> None:
        sealed.hosts.suspend("bare")
        create(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hypervisor.inner.volumes, "create", suspend_first)
        with pytest.raises(Unsupported, match="the host is suspended"):
            sealed.volumes.attach(VolumeSpec("late"), host="bare", path="/late")
    assert sealed.volumes.get("late").host == ""
