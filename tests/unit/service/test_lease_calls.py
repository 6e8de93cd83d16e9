# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lease service: what a project can lease, and what its holders get."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    Busy,
    FleetSpec,
    HostSpec,
    InvalidInput,
    LeaseExpired,
    OperationRefused,
    PoolSpec,
    StockyardError,
    Yard,
)
from stockyard.clock import Deadline
from stockyard.resources.leases import lease_lifecycle
from stockyard.service.lease_calls import LeaseCalls, queue_of
from stockyard.service.projects import Project
from stockyard.service.stoppable_clock import Stopped
from tests.helpers.clocks import FakeClock

DIGEST = "0" * 64
WEB = Project("web", DIGEST, fleets=("ci",), max_duration=7200.0, max_leases=2)
API = Project("api", DIGEST, fleets=("ci",))


@pytest.fixture
def fleet(yard: Yard) -> Yard:
    """A yard with two fleets, one of them in a pool."""
    yard.pools.apply(PoolSpec("small", hosts=4))
    yard.fleets.apply(FleetSpec("ci", "base", count=1, max=3, host=HostSpec(pool="small")))
    yard.fleets.apply(FleetSpec("secret", "base", count=1))
    return yard


def calls(yard: Yard, project: Project = WEB, stop: threading.Event | None = None) -> LeaseCalls:
    return LeaseCalls(yard.context, project, stop or threading.Event())


def take(yard: Yard, project: Project = WEB, **fields: Any) -> dict[str, Any]:
    request = {"fleet": "ci", "holder": "job-1", **fields}
    return calls(yard, project).take(request, threading.Event())


def test_holder_gets_the_certificate_of_one_host_and_no_other_key(
    fleet: Yard, tmp_path: Path
) -> None:
    lease = take(fleet)
    (info,) = fleet.leases.list()
    assert (lease["id"], info.holder) == (info.id, "web/job-1")
    assert lease["docker_host"] == info.docker.endpoint
    directory = Path(info.docker.environment["DOCKER_CERT_PATH"])
    assert lease["key"] == (directory / "key.pem").read_text()
    assert lease["certificate"] == (directory / "cert.pem").read_text()
    other_keys = {
        path.read_text()
        for path in (tmp_path / "pki").rglob("*")
        if path.is_file() and directory not in path.parents and "PRIVATE" in path.read_text()
    }
    assert other_keys
    assert not any(key in text for key in other_keys for text in map(str, lease.values()))
    assert "ssh" not in lease


def test_repeated_request_returns_the_same_lease(fleet: Yard) -> None:
    assert take(fleet)["id"] == take(fleet)["id"]
    assert len(fleet.leases.list()) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"fleet": "secret"},
        {"fleet": "", "labels": {"a": "b"}},
        {"fleet": "", "pool": "small"},
        {"duration": 7201},
        {"wait": 100000},
    ],
)
def test_request_outside_the_project_is_refused(fleet: Yard, fields: dict[str, Any]) -> None:
    with pytest.raises(OperationRefused):
        take(fleet, **fields)
    assert fleet.leases.list() == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"holder": ""},
        {"holder": "a\nb"},
        {"fleet": 1},
        {"labels": []},
        {"duration": "1h"},
        {"duration": True},
        {"duration": float("nan")},
        {"wait": float("nan")},
        {"wait": -1},
    ],
)
def test_malformed_request_is_refused(fleet: Yard, fields: dict[str, Any]) -> None:
    with pytest.raises((InvalidInput, OperationRefused)):
        take(fleet, **fields)
    assert fleet.leases.list() == ()


def test_project_of_a_pool_leases_from_it(fleet: Yard) -> None:
    project = Project("pooled", DIGEST, pools=("small",))
    assert take(fleet, project, fleet="", pool="small")["fleet"] == "ci"


def test_number_of_leases_is_limited(fleet: Yard) -> None:
    take(fleet, holder="job-1", wait=30)
    take(fleet, holder="job-2", wait=30)
    with pytest.raises(Busy, match="2 leases and 0 requests, of at most 2"):
        take(fleet, holder="job-3", wait=30)
    assert take(fleet, holder="job-2")["id"]
    # Other projects are not affected.
    assert take(fleet, API, holder="job-3", wait=30)["id"]


def test_waiting_requests_count_too(fleet: Yard) -> None:
    queues, clock = fleet.context.provider.queues, fleet.context.clock
    queue = queue_of(fleet.context, WEB)
    with (
        queues.join(queue, Deadline(60, clock)),
        queues.join(queue, Deadline(60, clock)),
        pytest.raises(Busy, match="0 leases and 2 requests"),
    ):
        take(fleet)
    assert take(fleet)["id"]


def test_error_does_not_name_other_holders(fleet: Yard) -> None:
    take(fleet, API, holder="private-name")
    with pytest.raises(Busy, match="no host is free") as caught:
        take(fleet)
    assert "private-name" not in str(caught.value)


def test_lease_of_another_project_is_unknown(fleet: Yard) -> None:
    number = take(fleet, API)["id"]
    with pytest.raises(LeaseExpired):
        calls(fleet).get(number)
    with pytest.raises(LeaseExpired):
        calls(fleet).renew(number, {})
    calls(fleet).release(number)
    assert [info.id for info in fleet.leases.list()] == [number]
    assert calls(fleet).list_all() == {"leases": []}
    # A name that begins with the name of the project is another project.
    assert calls(fleet, Project("ap", DIGEST, fleets=("ci",))).list_all() == {"leases": []}


def test_renewals_end_at_the_longest_duration(fleet: Yard, clock: FakeClock) -> None:
    number = take(fleet, duration=3600)["id"]
    clock.time += 1800
    assert calls(fleet).renew(number, {"duration": 5000})["until"] == clock.time + 5000
    with pytest.raises(OperationRefused, match="ends after 7200 s at the latest"):
        calls(fleet).renew(number, {"duration": 7000})


def test_released_host_is_deleted_and_the_last_one_replaced(fleet: Yard) -> None:
    first, second = take(fleet, holder="job-1"), take(fleet, holder="job-2", wait=30)
    calls(fleet).release(first["id"])
    assert first["host"] not in [host.name for host in fleet.hosts.list()]
    calls(fleet).release(second["id"])
    calls(fleet).release(second["id"])
    assert [host.fleet for host in fleet.hosts.list()].count("ci") == 1
    assert fleet.leases.list() == ()


def test_wait_ends_when_the_client_leaves_or_the_daemon_stops(fleet: Yard) -> None:
    fleet.fleets.apply(FleetSpec("ci", "base", count=1, max=1, host=HostSpec(pool="small")))
    take(fleet, API)
    departed, stop = threading.Event(), threading.Event()
    departed.set()
    request = {"fleet": "ci", "holder": "job-1", "wait": 60}
    with pytest.raises(Stopped):
        calls(fleet).take(request, departed)
    stop.set()
    with pytest.raises(Stopped):
        calls(fleet, stop=stop).take(request, threading.Event())
    queue = queue_of(fleet.context, WEB)
    assert fleet.context.provider.queues.length(queue, fleet.context.clock.now()) == 0


def test_host_for_a_client_that_left_is_released(
    fleet: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    departed = threading.Event()
    grant = lease_lifecycle._claim_host

    def leave(*arguments: Any) -> Any:
        departed.set()
        return grant(*arguments)

    monkeypatch.setattr(lease_lifecycle, "_claim_host", leave)
    with pytest.raises(Stopped):
        calls(fleet).take({"fleet": "ci", "holder": "job-1"}, departed)
    assert fleet.leases.list() == ()


def test_operator_error_is_not_hidden(fleet: Yard) -> None:
    with pytest.raises(StockyardError, match=r"no host is free|no host matches"):
        take(fleet, Project("web", DIGEST, fleets=("missing",)), fleet="missing")


def test_host_that_resumes_slowly_does_not_exceed_the_limit(
    fleet: Yard, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = lease_lifecycle._claim_host

    def resume(*arguments: Any) -> Any:
        monkeypatch.setattr(lease_lifecycle, "_claim_host", grant)
        clock.sleep(200.0)
        assert take(fleet, API, holder="fast", wait=30)["id"]
        return grant(*arguments)

    fleet.fleets.apply(FleetSpec("ci", "base", count=2, max=3, host=HostSpec(pool="small")))
    monkeypatch.setattr(lease_lifecycle, "_claim_host", resume)
    with pytest.raises(Busy, match="the project has 1 leases and 0 requests, of at most 1"):
        take(fleet, API, holder="slow")
    assert [lease.holder for lease in fleet.leases.list()] == ["api/fast"]


def test_host_that_resumes_slowly_is_leased_within_the_limit(
    fleet: Yard, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = lease_lifecycle._claim_host

    def resume(*arguments: Any) -> Any:
        clock.sleep(200.0)
        return grant(*arguments)

    monkeypatch.setattr(lease_lifecycle, "_claim_host", resume)
    assert take(fleet, API, holder="slow")["id"]
