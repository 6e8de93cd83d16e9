# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that go, and hosts that do not answer: real TLS on loopback addresses, a stand-in for
dockerd behind it.
"""

from __future__ import annotations

import http.server
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stockyard import FleetSpec, TemplateSpec, UpdateSpec, Yard
from stockyard.clock import Deadline
from stockyard.hypervisor.capabilities import Capabilities
from stockyard.hypervisor.provider import Channel
from stockyard.model.host import DOCKER_PORT, Host, HostRecord
from stockyard.pki.authority import Authority
from stockyard.planning.declaration import Declaration, FleetTerm, TemplateTerm
from stockyard.providers.open import open_provider
from stockyard.resources.hosts import health
from stockyard.resources.hosts.drain import drain
from tests.helpers import hostile_servers
from tests.helpers.faulty_provider import FaultyProvider

Answer = Callable[[str], tuple[int, bytes]]


class Docker(http.server.BaseHTTPRequestHandler):
    """Answers as its server says."""

    def do_GET(self) -> None:
        status, body = self.server.answer(self.path)  # type: ignore[attr-defined]
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        return


class Front(http.server.ThreadingHTTPServer):
    """Keeps what failed handshakes have to say to itself."""

    answer: Answer

    def handle_error(self, request: object, client_address: object) -> None:
        return


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def yard(
    uri: str, tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Yard]:
    """A yard of one fleet whose hosts can be reached, once something stands in for their Docker."""
    monkeypatch.setattr(health, "PATIENCE", 0.3)
    monkeypatch.setattr(health, "ATTEMPT", 0.3)
    monkeypatch.setattr("stockyard.resources.hosts.drain.POLL", 0.02)
    provider = FaultyProvider(open_provider(uri))
    with Yard(
        provider=provider.as_provider(), pki_dir=str(tmp_path / "pki"), progress=lines.append
    ) as yard:
        yard.templates.apply(TemplateSpec("base"))
        yard.fleets.apply(FleetSpec("ci", "base", count=2))
        monkeypatch.setattr(provider, "capabilities", Capabilities(("instant",), 2))
        yield yard


@pytest.fixture
def serve(yard: Yard, tmp_path: Path) -> Iterator[Callable[..., Front]]:
    running: list[Front] = []

    def start(host: Host, answer: Answer, signer: Authority | None = None) -> Front:
        front = Front((host.record.address, DOCKER_PORT), Docker)
        front.answer = answer
        tenant_authority = signer or yard.context.pki("default").authority(datetime.now(UTC))
        front.socket = _context(tenant_authority, host.record, tmp_path).wrap_socket(
            front.socket, server_side=True
        )
        threading.Thread(
            target=front.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        running.append(front)
        return front

    yield start
    for front in running:
        front.shutdown()
        front.server_close()


def _context(signer: Authority, record: HostRecord, folder: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .sign(key, hashes.SHA256())
    )
    pem = request.public_bytes(serialization.Encoding.PEM).decode()
    form = (
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    certificate = signer.sign_server(pem, record.name, record.address, datetime.now(UTC)).pem
    (folder / "front.pem").write_text(certificate + key.private_bytes(*form).decode())
    (folder / "front-ca.pem").write_text(signer.pem())
    context = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "front-ca.pem")
    )
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(folder / "front.pem")
    return context


def members(yard: Yard) -> list[Host]:
    return sorted(yard.context.provider.observe("stockyard").hosts, key=lambda h: h.record.name)


def well(path: str) -> tuple[int, bytes]:
    return 200, b"[]" if "containers" in path else b"OK"


# Draining


def busy(*answers: list[dict[str, Any]]) -> Answer:
    """Lists these containers, one list after the other, the last one for ever."""
    remaining_answers = list(answers)

    def answer(path: str) -> tuple[int, bytes]:
        if "containers" not in path:
            return 200, b"OK"
        return 200, json.dumps(
            remaining_answers.pop(0) if len(remaining_answers) > 1 else remaining_answers[0]
        ).encode()

    return answer


def drained(yard: Yard, host: Host, grace: float) -> float:
    """How long it took."""
    begin = yard.context.clock.monotonic()
    record = drain(yard.context, host, UpdateSpec(grace=grace), yard.context.deadline(60))
    assert record.phase == "draining"
    assert not members(yard)[0].serving
    return yard.context.clock.monotonic() - begin


def test_containers_that_run_are_waited_for(yard: Yard, serve: Any, lines: list[str]) -> None:
    job = [{"Id": "f00", "Names": ["/build"]}]
    serve(members(yard)[0], busy(job, job, job, []))
    assert drained(yard, members(yard)[0], 30) < 10
    assert any("waiting up to 30 s for build" in line for line in lines)


def test_they_are_not_waited_for_longer_than_the_grace_period(
    yard: Yard, serve: Any, lines: list[str]
) -> None:
    serve(members(yard)[0], busy([{"Id": "f00"}]))
    assert 0.3 <= drained(yard, members(yard)[0], 0.3) < 10
    assert any("still running at the end of the wait: f00" in line for line in lines)


def test_host_without_container_list_is_deleted_after_its_grace_period(
    yard: Yard, serve: Any
) -> None:
    serve(members(yard)[0], lambda _path: (200, b"<html>"))
    assert 0.2 <= drained(yard, members(yard)[0], 0.2) < 10


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'[{"Names": ["/\\ud800"]}]',
        b'[{"Names": ["/\\u001b]0;owned\\u0007\\r\\nhost ci-2: ready"]}]',
        b'[{"Id": 5}]',
        b'[{"Names": {}}]',
        b"[7]",
        b"{}",
        b"\xff",
    ],
    ids=range(8),
)
def test_host_with_an_invalid_container_list_is_deleted_after_its_grace_period(
    yard: Yard, serve: Any, lines: list[str], body: bytes
) -> None:
    serve(members(yard)[0], lambda _path: (200, body))
    assert 0.2 <= drained(yard, members(yard)[0], 0.2) < 10
    assert any("the list of containers is not valid" in line for line in lines)
    assert {line.isprintable() for line in lines} == {True}


def test_site_with_a_host_that_answers_slowly_ends_in_time(
    yard: Yard, serve: Any, tmp_path: Path
) -> None:
    slow, second = members(yard)
    serve(second, well)
    context = _context(
        yard.context.pki("default").authority(datetime.now(UTC)), slow.record, tmp_path
    )
    fleet = FleetTerm(FleetSpec("ci", "base", count=2))
    with hostile_servers.served(
        hostile_servers.slow_head, context, slow.record.address, DOCKER_PORT
    ):
        begin = yard.context.clock.monotonic()
        yard.apply(Declaration((TemplateTerm(TemplateSpec("base")),), (fleet,)), check=True)
        assert yard.context.clock.monotonic() - begin < 10


def test_hosts_without_grace_period_are_not_queried(yard: Yard) -> None:
    assert drained(yard, members(yard)[0], 0) < 1


# Health


def silent(yard: Yard) -> dict[str, str]:
    return health.unhealthy(yard.context, "default", members(yard))


def test_answering_host_is_healthy_and_silent_host_is_named(yard: Yard, serve: Any) -> None:
    serve(members(yard)[0], well)
    silent_host = silent(yard)
    assert list(silent_host) == ["ci-2"]
    assert "refused" in silent_host["ci-2"]


@pytest.mark.parametrize("answer", [lambda _path: (500, b""), lambda _path: (0, b"")])
def test_front_without_docker_is_unhealthy(yard: Yard, serve: Any, answer: Answer) -> None:
    serve(members(yard)[0], answer)
    serve(members(yard)[1], well)
    assert list(silent(yard)) == ["ci-1"]


def test_hosts_after_the_deadline_are_not_judged(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "ALL", 0.2)
    monkeypatch.setattr(health, "AT_ONCE", 1)
    assert list(silent(yard)) == ["ci-1"]


def test_a_host_that_hangs_is_unhealthy(yard: Yard, serve: Any) -> None:
    serve(members(yard)[1], well)
    with socket.create_server((members(yard)[0].record.address, DOCKER_PORT)):
        assert list(silent(yard)) == ["ci-1"]


@pytest.fixture
def inside(yard: Yard, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """The answers of agents about their Docker, by name of the host; others do not know the
    question.
    """
    answers: dict[str, dict[str, Any]] = {}
    open_channel = yard.context.provider.channel

    def channel(record: HostRecord, deadline: Deadline) -> Channel:
        opened = open_channel(record, deadline)
        if record.name in answers:
            reply = answers[record.name]
            monkeypatch.setattr(
                opened, "request", lambda message, _deadline: {**reply, "asked": message["op"]}
            )
        return opened

    monkeypatch.setattr(yard.context.provider, "channel", channel)
    return answers


def test_host_with_a_full_front_is_kept_and_reported(
    yard: Yard, inside: dict[str, dict[str, Any]], lines: list[str]
) -> None:
    inside["ci-1"] = {"answers": True}
    inside["ci-2"] = {"answers": False}
    assert list(silent(yard)) == ["ci-2"]
    assert [line for line in lines if "ci-1" in line and "answers inside the host" in line]
    plan = yard.fleets.apply(FleetSpec("ci", "base", count=2), check=True).plan
    assert [(a.verb, a.name) for a in plan.actions] == [("create", "ci-3"), ("delete", "ci-2")]


def test_host_whose_agent_makes_no_sense_is_unhealthy(
    yard: Yard, inside: dict[str, dict[str, Any]]
) -> None:
    inside["ci-1"] = {"answers": "yes"}
    assert "ci-1" in silent(yard)


def test_host_with_another_authority_is_not_judged(yard: Yard, serve: Any) -> None:
    """A controller with other keys than the hosts' sees strangers, not corpses."""
    for host in members(yard):
        serve(host, well, Authority.create("another", datetime.now(UTC)))
    assert silent(yard) == {}


def test_without_keys_no_host_is_judged(yard: Yard, tmp_path: Path) -> None:
    with Yard(provider=yard.context.provider, pki_dir=str(tmp_path / "empty")) as stranger:
        assert silent(stranger) == {}
        assert not (tmp_path / "empty").exists()


def test_an_unhealthy_host_is_in_the_plan(yard: Yard, serve: Any) -> None:
    serve(members(yard)[0], well)
    plan = yard.fleets.apply(FleetSpec("ci", "base", count=2), check=True).plan
    assert [(a.verb, a.name) for a in plan.actions] == [("create", "ci-3"), ("delete", "ci-2")]
    assert "Docker does not answer" in plan.actions[1].reason
    assert not yard.fleets.apply(FleetSpec("ci", "base", count=2), check=True, wait=False).changed
