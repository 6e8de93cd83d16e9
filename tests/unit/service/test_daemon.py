# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon as a process: what it serves, how it ends, and what is left after its death."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stockyard import (
    Busy,
    ConnectionFailed,
    FleetSpec,
    InvalidInput,
    LeaseSpec,
    TemplateSpec,
    Yard,
    files,
)
from stockyard.model.service import ServiceSpec
from stockyard.resources.leases import waiting
from stockyard.service import projects
from stockyard.service.client import LeaseService
from stockyard.service.daemon import Daemon, _listen_unix, _lock_socket, serve
from stockyard.service.keeper import Keeper
from stockyard.service.projects import Project
from tests.helpers.clocks import BriskClock, QuickClock
from tests.helpers.running_daemon import PATIENCE, Running, add

DIGEST = "0" * 64


@pytest.fixture
def real(uri: str, tmp_path: Path) -> Iterator[Yard]:
    """A yard by the machine's own clock, without hosts."""
    with Yard(uri, pki_dir=str(tmp_path / "pki"), clock=BriskClock()) as yard:
        yard.templates.apply(TemplateSpec("base"))
        yield yard


def test_report_metrics_and_health_are_served(real: Yard, daemon: Running) -> None:
    real.fleets.apply(FleetSpec("ci", "base", count=1))
    daemon.start()
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o600
    daemon.wait(lambda: daemon.get("/health").status == 200)
    page = daemon.get("/")
    assert b"ci-1" in page.body
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    families = {
        family.name: family
        for family in text_string_to_metric_families(daemon.get("/metrics").body.decode())
    }
    assert families["stockyard_fleet_hosts"].samples[0].value == 1
    assert families["stockyard_serve_passes"].samples[0].value >= 1
    assert daemon.get("/other").status == 404
    post = daemon.request("/", "POST")
    assert post is not None
    assert post.status == 405
    local = daemon.raw(b"GET /health HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % daemon.port)
    assert local.startswith(b"HTTP/1.1 200")
    assert daemon.end(signal.SIGTERM) == 0
    assert not daemon.socket.exists()


def test_spares_follow_leases_and_expiry(real: Yard, daemon: Running) -> None:
    real.fleets.apply(FleetSpec("ci", "base", count=1, min_ready=1, max=4))
    lease = real.leases.acquire("ci", holder="me", duration=20)
    daemon.start("--interval", "10m")
    # The end of the lease starts a pass: no interval is over.
    daemon.wait(lambda: not real.leases.list())
    assert time.time() >= lease.until
    daemon.wait(lambda: len(real.hosts.list()) == 1)
    assert daemon.end(signal.SIGINT) == 0


def test_second_daemon_at_the_socket_is_refused(real: Yard, daemon: Running, uri: str) -> None:
    daemon.start()
    keys = str(daemon.folder / "pki")
    with pytest.raises(ConnectionFailed, match="another daemon serves at this socket"):
        serve(lambda: Yard(uri, pki_dir=keys), ServiceSpec(str(daemon.socket)))
    assert daemon.get("/health").body
    daemon.end(signal.SIGKILL)
    # The socket of a dead daemon is replaced.
    daemon.start()


REFUSED = {
    b"nonsense\r\n\r\n": b"400",
    b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n": b"421",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n" % (b"x" * 20000): b"431",
    b"POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n"
    + b"x" * 99999: b"413",
    b"GET /v1/leases HTTP/1.1\r\nHost: localhost\r\n\r\n": b"401",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n": b"401",
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n\r\n": b"401",
}


def test_request_that_is_not_allowed_is_refused(real: Yard, daemon: Running) -> None:
    add(daemon, Project("web", DIGEST, fleets=("ci",)))
    daemon.start()
    statuses = {data: daemon.raw(data).split(b" ")[1] for data in REFUSED}
    assert statuses == REFUSED
    # A client that sends nothing does not block the others.
    with socket.create_connection(("127.0.0.1", daemon.port)):
        assert daemon.get("/health").status in (200, 503)


def test_project_leases_through_the_service(real: Yard, daemon: Running) -> None:
    real.fleets.apply(FleetSpec("ci", "base", count=1, max=3))
    tokens = add(
        daemon,
        Project("web", DIGEST, fleets=("ci",), max_leases=2),
        Project("api", DIGEST, fleets=("ci",), report=True),
    )
    daemon.start()
    certificates = daemon.folder / "certificates"
    web = LeaseService(f"unix://{daemon.socket}", tokens[0], directory=certificates)
    api = LeaseService(f"http://127.0.0.1:{daemon.port}", tokens[1], directory=certificates)
    with web.acquire("ci", holder="job-1", duration="10m") as lease:
        directory = Path(lease.environment["DOCKER_CERT_PATH"])
        assert {path.name for path in directory.iterdir()} == {"ca.pem", "cert.pem", "key.pem"}
        assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}
        until = lease.until
        lease.renew("20m")
        assert lease.until > until + 500
        assert [item.holder for item in web.list()] == ["web/job-1"]
        assert api.list() == ()
        with pytest.raises(Busy, match="no host is free"):
            api.acquire("ci", holder="other")
        with api.acquire("ci", holder="other", wait="30s"):
            assert len(real.leases.list()) == 2
    assert not directory.exists()
    assert real.leases.list() == ()
    with pytest.raises(InvalidInput):
        web.get("../x")
    report = daemon.raw(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n"
        % tokens[1].encode()
    )
    assert report.startswith(b"HTTP/1.1 200")
    # A removed project can do nothing more, without a restart.
    projects.write(daemon.tokens, projects.read(daemon.tokens).without("web"))
    answer = daemon.request("/v1/leases", Authorization=f"Bearer {tokens[0]}")
    assert answer is not None
    assert answer.status == 401


def test_request_survives_the_death_of_the_daemon(real: Yard, daemon: Running) -> None:
    real.fleets.apply(FleetSpec("ci", "base", count=1, max=1))
    (token,) = add(daemon, Project("web", DIGEST, fleets=("ci",), max_leases=5))
    daemon.start()
    service = LeaseService(
        f"unix://{daemon.socket}", token, directory=daemon.folder / "certificates"
    )
    first_lease = service.acquire("ci", holder="first")
    hosts: list[str] = []

    def work(number: int) -> None:
        with service.acquire("ci", holder=f"job-{number}", wait=60) as lease:
            hosts.append(lease.host)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for _kill in range(2):
        time.sleep(0.5)
        daemon.end(signal.SIGKILL)
        daemon.start()
    first_lease.release()
    for thread in threads:
        thread.join(PATIENCE)
    assert hosts == ["ci-1"] * 3
    assert real.leases.list() == ()


def test_hundred_leases_wait_while_the_daemon_is_killed_five_times(
    real: Yard, daemon: Running, uri: str
) -> None:
    """They are served in the order of their arrival, none is lost, and no host has two holders."""
    real.fleets.apply(FleetSpec("ci", "base", count=11))
    # A fleet without any host is not created again.
    long_lease = real.leases.acquire("ci", holder="long", duration=3600)
    for _number in range(10):
        # Nothing releases these hosts: their leases expire.
        real.leases.acquire("ci", holder="first", duration=20)
    queues = real.context.provider.queues
    queue = waiting.queue_of(real.context, LeaseSpec("me", "ci"))
    keys = str(daemon.folder / "pki")
    served: list[tuple[int, str]] = []
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with (
                Yard(uri, pki_dir=keys, clock=QuickClock()) as yard,
                yard.leases.acquire("ci", holder=f"job-{number}", wait=300) as lease,
            ):
                hosts = yard.context.provider.observe("stockyard").hosts
                uuid = next(host.record.uuid for host in hosts if host.name == lease.host)
                served.append((number, uuid))
                assert len(hosts) <= 11
        except BaseException as error:  # noqa: BLE001  # the main thread reports it
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(100)]
    for number, thread in enumerate(threads):
        thread.start()
        while queues.length(queue, time.time()) <= number and not errors and not served:
            time.sleep(0.002)
    for _kill in range(5):
        daemon.start()
        daemon.end(signal.SIGKILL)
    daemon.start()
    for thread in threads:
        thread.join(PATIENCE * 5)
    assert errors == []
    assert sorted(number for number, _uuid in served) == list(range(100))
    assert len({uuid for _number, uuid in served}) == 100
    # Requests of one round can be served in any order.
    assert max(abs(number - place) for place, (number, _uuid) in enumerate(served)) < 20
    assert queues.length(queue, time.time()) == 0
    daemon.wait(lambda: len(real.hosts.list()) == 11)
    assert daemon.end(signal.SIGTERM) == 0
    assert [lease.id for lease in real.leases.list()] == [long_lease.id]
    assert {host.phase for host in real.hosts.list()} == {"ready"}


def test_hypervisor_that_is_away_is_reported_and_comes_back(
    real: Yard, daemon: Running, tmp_path: Path
) -> None:
    real.fleets.apply(FleetSpec("ci", "base", count=1))
    daemon.start()
    daemon.wait(lambda: daemon.get("/health").status == 200)
    state = tmp_path / "hypervisor"
    text = state.read_bytes()
    state.write_bytes(b"damaged")
    daemon.wait(lambda: daemon.get("/health").status == 503)
    assert daemon.get("/metrics").status in (500, 503)
    assert "error" in json.loads(daemon.get("/metrics").body)
    state.write_bytes(text)
    daemon.wait(lambda: daemon.get("/health").status == 200)
    daemon.end(signal.SIGTERM)
    assert sum("the yard was not kept" in line for line in daemon.lines) == 1
    assert any("the yard is in order again" in line for line in daemon.lines)


def test_connection_is_open_until_its_requests_end(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yards: list[Yard] = []
    closed: list[Yard] = []

    def close(closed_yard: Yard) -> None:
        closed.append(closed_yard)

    monkeypatch.setattr(Yard, "close", close)

    def open_yard() -> Yard:
        yards.append(Yard(uri, pki_dir=str(tmp_path / "pki")))
        return yards[-1]

    daemon = Daemon(open_yard, ServiceSpec())
    monkeypatch.setattr(daemon.requests, "_running", 1)
    daemon._reopen()
    daemon._close_former_yards()
    assert daemon.context().provider is yards[1].context.provider
    assert closed == []
    monkeypatch.setattr(daemon.requests, "_running", 0)
    daemon._close_former_yards()
    assert closed == yards[:1]


def test_fleet_without_its_hosts_is_not_healthy(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = Daemon(lambda: Yard(uri, pki_dir=str(tmp_path / "pki")), ServiceSpec())

    def run_pass(keeper: Keeper) -> float:
        keeper.problems.append("fleet ci: no host was created: no memory is left.")
        daemon.stop.set()
        return 0.0

    monkeypatch.setattr(Keeper, "run_pass", run_pass)
    daemon._keep()
    healthy, figures = daemon.status.health()
    assert (healthy, figures["failures"], figures["passes"]) == (False, 1, 0)


def test_failed_connection_does_not_end_the_daemon(uri: str, tmp_path: Path) -> None:
    yards = iter([Yard(uri, pki_dir=str(tmp_path / "pki"))])

    def open_yard() -> Yard:
        try:
            return next(yards)
        except StopIteration:
            raise PermissionError("the storage cannot be read") from None

    daemon = Daemon(open_yard, ServiceSpec())
    provider = daemon.context().provider
    daemon._reopen()
    assert daemon.context().provider is provider


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"address": "0.0.0.0"}, "not a loopback address"),  # noqa: S104  # refused
        ({"address": "192.0.2.1"}, "not a loopback address"),
        ({"address": "name"}, "not a loopback address"),
        ({"tokens": "x"}, "no place to send requests to"),
        ({"interval": 0.0}, "is not between 1 s and one day"),
        ({"socket": "x", "port": 0}, "port"),
    ],
)
def test_invalid_declaration_is_refused(facts: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        ServiceSpec(**facts)


def test_daemon_that_starts_at_the_same_time_is_refused(
    tmp_path: Path, uri: str, real: Yard
) -> None:
    """A daemon that has not bound its socket yet has the place already."""
    path = tmp_path / "serve.sock"
    handle = files.lock(path)
    assert handle is not None
    with pytest.raises(ConnectionFailed, match="another daemon serves at this socket"):
        serve(lambda: Yard(uri, pki_dir=str(tmp_path / "pki")), ServiceSpec(str(path)))
    assert not path.exists()
    os.close(handle)


def test_one_of_several_daemons_gets_the_socket(tmp_path: Path) -> None:
    path = tmp_path / "run" / "serve.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        path.parent.mkdir()
        stale.bind(str(path))

    def start(_number: int) -> int | None:
        try:
            return _lock_socket(path)
        except ConnectionFailed:
            return None

    with ThreadPoolExecutor(8) as pool:
        handles = [handle for handle in pool.map(start, range(8)) if handle is not None]
    assert len(handles) == 1
    with _listen_unix(path) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.listen()
        client.connect(str(path))
    os.close(handles[0])
