# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets that suspend idle hosts, over the memory hypervisor."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stockyard import (
    Conflict,
    FleetSpec,
    ImageSpec,
    InvalidInput,
    LeaseSpec,
    OutOfSpace,
    StockyardError,
    TemplateSpec,
    Yard,
)
from stockyard.model.host import Host
from stockyard.resources.hosts import docker_api, idleness
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider

FLEET = FleetSpec("ci", "base", count=2, suspend_after=1800.0)
LEASE = LeaseSpec(holder="job", fleet="ci", duration=600)
REASON = "it ran no container for 1800 s"


def lines(result: Any) -> list[str]:
    return [str(action) for action in result.plan.actions]


def states(yard: Yard) -> dict[str, str]:
    return {host.name: host.state for host in yard.hosts.list()}


@pytest.fixture
def idle_names(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the hosts that are idle."""
    names: set[str] = set()

    def idle(_ctx: Any, _tenant: str, hosts: list[Host], _duration: float) -> list[Host]:
        return [
            host
            for host in hosts
            if host.serving and host.record.name in names and not host.record.lease
        ]

    monkeypatch.setattr(idleness, "idle", idle)
    return names


def test_idle_host_is_suspended_and_stays_so(yard: Yard, idle_names: set[str]) -> None:
    yard.fleets.apply(FLEET)
    idle_names.add("ci-2")
    for check in (True, False):
        assert lines(yard.fleets.apply(FLEET, check=check)) == [f"suspend host ci-2: {REASON}"]
    assert states(yard) == {"ci-1": "running", "ci-2": "suspended"}
    assert not yard.fleets.apply(FLEET).changed


def test_idle_host_is_resumed_by_a_lease_if_no_other_runs(yard: Yard, idle_names: set[str]) -> None:
    yard.fleets.apply(FLEET)
    idle_names.add("ci-2")
    yard.fleets.apply(FLEET)
    assert yard.leases.ensure(LEASE).object.host == "ci-1"
    assert yard.leases.ensure(replace(LEASE, holder="other")).object.host == "ci-2"
    assert states(yard) == {"ci-1": "running", "ci-2": "running"}
    assert {host.ready for host in yard.hosts.list()} == {True}
    assert not yard.fleets.apply(replace(FLEET, count=2)).changed


def test_idle_host_whose_resume_fails_is_not_leased(
    yard: Yard, idle_names: set[str], hypervisor: FaultyProvider
) -> None:
    yard.fleets.apply(replace(FLEET, count=1))
    idle_names.add("ci-1")
    yard.fleets.apply(replace(FLEET, count=1))
    hypervisor.fail("start", StockyardError("no"))
    with pytest.raises(StockyardError, match="is free"):
        yard.leases.ensure(LEASE)
    assert yard.hosts.list()[0].lease is None
    assert lines(yard.fleets.apply(replace(FLEET, count=1))) == [
        "resume host ci-1: its resume was interrupted"
    ]


def test_idle_hosts_without_space_for_their_memory_continue(
    yard: Yard, idle_names: set[str], hypervisor: FaultyProvider
) -> None:
    yard.fleets.apply(FLEET)
    idle_names.add("ci-2")
    hypervisor.fail("check_suspend", OutOfSpace("full"))
    assert not yard.fleets.apply(FLEET).changed


def test_idle_host_that_is_leased_during_the_run_is_not_suspended(
    yard: Yard, idle_names: set[str], hypervisor: FaultyProvider
) -> None:
    yard.fleets.apply(FLEET)
    idle_names.add("ci-2")
    hypervisor.fail("claim", Conflict("its record changed"))
    yard.fleets.apply(FLEET)
    assert states(yard) == {"ci-1": "running", "ci-2": "running"}


def test_host_that_was_suspended_by_name_is_resumed_by_its_fleet(
    yard: Yard, idle_names: set[str]
) -> None:
    assert not idle_names
    yard.fleets.apply(FLEET)
    yard.hosts.suspend("ci-1")
    assert lines(yard.fleets.apply(FLEET)) == ["resume host ci-1: it is suspended"]


def test_fleet_without_the_option_resumes_idle_hosts(yard: Yard, idle_names: set[str]) -> None:
    yard.fleets.apply(FLEET)
    idle_names.add("ci-2")
    yard.fleets.apply(FLEET)
    idle_names.clear()
    always = replace(FLEET, suspend_after=0.0)
    assert lines(yard.fleets.apply(always)) == ["resume host ci-2: it is suspended"]


def test_outdated_idle_host_is_replaced_without_a_resume(
    yard: Yard, idle_names: set[str], clock: FakeClock, hypervisor: FaultyProvider
) -> None:
    yard.fleets.apply(FLEET)
    idle_names.update({"ci-1", "ci-2"})
    yard.fleets.apply(FLEET)
    clock.sleep(1)
    yard.templates.apply(TemplateSpec("base", image=ImageSpec(packages=("busybox",))))
    idle_names.clear()
    starts = hypervisor.calls["start"]
    plan = yard.fleets.apply(replace(FLEET, update=replace(FLEET.update, grace=0.0))).plan
    assert [action.verb for action in plan.actions] == ["delete", "delete", "create", "create"]
    assert hypervisor.calls["start"] == starts


def test_duration_is_checked() -> None:
    with pytest.raises(InvalidInput, match="suspend_after"):
        replace(FLEET, suspend_after=5.0)


# The hosts that are asked


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch, hypervisor: FaultyProvider) -> list[Any]:
    """The periods that each host was asked for; none was used."""
    calls: list[Any] = []

    def was_used(address: str, _tls: Any, since: float, until: float, _timeout: float) -> bool:
        calls.append((address, since, until))
        return False

    monkeypatch.setattr(idleness, "was_used", was_used)
    monkeypatch.setattr(idleness, "tls", lambda _client: None)
    inner: Any = hypervisor.inner
    inner.capabilities = replace(inner.capabilities, endpoints=True)
    return calls


def idle_now(yard: Yard, duration: float = 1800.0, progress: list[str] | None = None) -> list[str]:
    hosts = yard.context.provider.observe(yard.context.owner).hosts
    lines = [] if progress is None else progress
    context = replace(yard.context, progress=lines.append)
    return [h.record.name for h in idleness.idle(context, "default", hosts, duration)]


def test_host_is_idle_only_after_the_whole_duration(
    yard: Yard, clock: FakeClock, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "stockyard.resources.hosts.host_lifecycle.wait_for_docker", lambda *_arguments: None
    )
    monkeypatch.setattr("stockyard.resources.hosts.health.unhealthy", lambda *_arguments: {})
    yard.fleets.apply(replace(FLEET, suspend_after=0.0))
    lease = yard.leases.ensure(LEASE).object
    assert idle_now(yard) == []
    clock.sleep(1805)
    assert idle_now(yard) == []
    clock.sleep(10)
    (name,) = idle_now(yard)
    assert name != lease.host
    assert requests[-1][1:] == (clock.now() - 1810, clock.now() - 10)
    assert idle_now(yard, 0.0) == []
    yard.hosts.suspend(name)
    yard.hosts.resume(name)
    assert idle_now(yard) == []
    clock.sleep(1815)
    assert name in idle_now(yard)


def test_host_that_does_not_answer_counts_as_used(
    yard: Yard, clock: FakeClock, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "stockyard.resources.hosts.host_lifecycle.wait_for_docker", lambda *_arguments: None
    )
    yard.fleets.apply(replace(FLEET, suspend_after=0.0))
    clock.sleep(4000)

    def silent(*_arguments: Any) -> bool:
        raise ConnectionError("refused")

    monkeypatch.setattr(idleness, "was_used", silent)
    progress: list[str] = []
    assert idle_now(yard, progress=progress) == []
    assert not requests
    assert sorted(line.partition(": warning: not examined")[0] for line in progress) == [
        "host ci-1",
        "host ci-2",
    ]
    assert all(line.endswith("refused") for line in progress)


def test_certificate_that_cannot_be_used_is_reported(
    yard: Yard, clock: FakeClock, requests: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "stockyard.resources.hosts.host_lifecycle.wait_for_docker", lambda *_arguments: None
    )
    yard.fleets.apply(replace(FLEET, suspend_after=0.0))
    certificates = yard.context.pki("default").client_directory
    (certificates / "key.pem").unlink()
    monkeypatch.setattr(idleness, "tls", docker_api.tls)
    progress: list[str] = []
    assert idle_now(yard, progress=progress) == []
    assert not progress
    clock.sleep(4000)
    assert idle_now(yard, progress=progress) == []
    (line,) = progress
    assert "idle hosts are not suspended" in line
    assert str(certificates) in line
    assert line.endswith("Not examined: ci-1, ci-2")
    assert not requests


@pytest.mark.parametrize(
    ("containers", "events", "used"),
    [
        (b"[]", b"", False),
        (b"[]", b'{"status":"die"}\n', True),
        (b'[{"Id":"1","Names":["/a"]}]', b"", True),
    ],
)
def test_host_was_used_if_a_container_runs_or_docker_did_anything(
    containers: bytes, events: bytes, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths: list[str] = []

    def get(_address: str, path: str, _tls: Any, _timeout: float) -> bytes:
        paths.append(path)
        return containers if path == "/containers/json" else events

    monkeypatch.setattr(docker_api, "_get", get)
    tls: Any = None
    assert docker_api.was_used("127.0.0.1", tls, 10.4, 20.0, 5.0) is used
    assert used or paths[-1] == "/events?since=10&until=20"
