# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls with passwords of registries, with stand-ins for dockerd in the machines."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from stockyard.endpoint.calls import Call, parse_call
from stockyard.endpoint.heads import parse_head
from stockyard.endpoint.machines import Fork, Machine
from stockyard.endpoint.passwords import has_password, without_passwords
from stockyard.errors import OperationRefused
from tests.helpers.endpoint_bench import Answered, Bench, play, read_head
from tests.helpers.fake_dockerd import FakeMachines

PASSWORD = "correct-horse-battery"
LOGIN = {"username": "user", "password": PASSWORD, "serveraddress": "reg:5000"}
EMPTY = {"username": "", "password": ""}
DIGEST = f"sha256:{'5' * 64}"


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


def parsed(path: str, *headers: str) -> Call:
    head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", *headers, "", ""])
    return parse_call(parse_head(head.encode()), (1, 41))


async def send(bench: Bench, path: str, login: Any = None, body: str = "") -> tuple[int, bytes]:
    """Send a call, and return the status and the whole answer."""
    peer = await bench.open()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/json\r\n" if body else ""
    head += f"X-Registry-Auth: {encoded(login)}\r\n" if login is not None else ""
    await peer.send(f"{head}\r\n{body}".encode())
    answer: Answered = await read_head(peer)
    if answer.headers.get("transfer-encoding") != "chunked":
        return answer.status, await peer.reader.readexactly(int(answer.headers["content-length"]))
    output = b""
    while size := int(await peer.reader.readuntil(b"\r\n"), 16):
        output += (await peer.reader.readexactly(size + 2))[:-2]
    return answer.status, output


def secrets_of_host(bench: Bench) -> list[str]:
    headers = "".join(bench.machines.host.received).split("\r\n")
    values = [line.split(": ")[1] for line in headers if line.lower().startswith("x-registry")]
    return [value for value in values if value not in (encoded({}), encoded(EMPTY))]


@pytest.mark.parametrize(
    ("login", "expected"),
    [
        ({}, False),
        ({"serveraddress": "reg:5000", "username": "", "password": ""}, False),
        ({"username": "user", "email": "user@example.org"}, False),
        (LOGIN, True),
        ({"Password": "x"}, True),
        ({"identitytoken": "x"}, True),
        ({"registrytoken": "x"}, True),
        ({"auth": "dXNlcjpwdw=="}, True),
    ],
)
def test_a_password_is_recognized(login: dict[str, str], expected: bool) -> None:
    path = "/images/create?fromImage=web"
    for text in (encoded(login), encoded(login).rstrip("=")):
        assert has_password(parsed(path, f"X-Registry-Auth: {text}")) is expected
    logins = encoded({"reg:5000": {}, "other:5000": login})
    assert has_password(parsed("/build", f"x-registry-config: {logins}")) is expected


@pytest.mark.parametrize("text", ["%%%", "bm90IGpzb24=", encoded(["x"]), "ew" * 40000])
def test_a_login_that_cannot_be_read_counts_as_a_password(text: str) -> None:
    assert has_password(parsed("/images/create?fromImage=web", f"X-Registry-Auth: {text}"))


def test_a_call_without_login_has_no_password() -> None:
    assert not has_password(parsed("/images/create?fromImage=web"))
    assert not has_password(parsed("/images/create?fromImage=web", "X-Registry-Auth:"))
    assert has_password(parsed("/auth"))


def test_other_headers_of_a_call_stay() -> None:
    call = parsed("/images/load", f"X-REGISTRY-AUTH: {encoded(LOGIN)}", "X-Other: X-Registry-Auth")
    request = without_passwords(call.request)
    assert (
        request.head == b"POST /images/load HTTP/1.1\r\nHost: x\r\nX-Other: X-Registry-Auth\r\n\r\n"
    )
    assert without_passwords(request) == request


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("fromImage=reg:5000/web&tag=v1", "reg:5000/web:v1"),
        ("fromImage=reg:5000/web:v1", "reg:5000/web:v1"),
        ("fromImage=reg:5000/web&tag=", "reg:5000/web:latest"),
        (f"fromImage=reg:5000/web&tag={DIGEST}", f"reg:5000/web:sha256-{'5' * 64}"),
        (f"fromImage=reg:5000/web@{DIGEST}", f"reg:5000/web:sha256-{'5' * 64}"),
        (f"fromImage=reg:5000/web:v1@{DIGEST}", f"reg:5000/web:sha256-{'5' * 64}"),
    ],
)
def test_only_the_image_of_a_pull_reaches_the_image_host(
    tmp_path: Path, query: str, name: str
) -> None:
    async def story(bench: Bench) -> None:
        before = set(bench.machines.host.images)
        status, output = await send(bench, f"/images/create?{query}", LOGIN)
        assert (status, b"done" in output, b"error" in output) == (200, True, False)
        await bench.settled(0)
        named = {n for n in bench.machines.host.images if not n.startswith("sha256:")}
        assert named - before == {name}
        assert secrets_of_host(bench) == []
        (fork,) = bench.machines.forks
        assert fork.builds
        # A container of the image needs a new generation.
        assert (await bench.create("web", {"Image": name})).status == 201
        assert bench.machines.generations == 2

    play(tmp_path, story)


def test_an_image_that_was_pulled_by_its_digest_is_used_by_it(tmp_path: Path) -> None:
    reference = f"reg:5000/web@{DIGEST}"

    async def story(bench: Bench) -> None:
        await send(bench, f"/images/create?fromImage=reg:5000/web&tag={DIGEST}", LOGIN)
        name = f"reg:5000/web:sha256-{'5' * 64}"
        for quoted in (reference, reference.replace("@", "%40").replace(":", "%3A")):
            inspected = await bench.call("GET", f"/images/{quoted}/json")
            assert inspected.json["Id"] == bench.machines.host.images[name]
        assert (await bench.create("web", {"Image": reference})).status == 201
        missing = await bench.create("db", {"Image": f"db@{DIGEST}"})
        assert (missing.status, missing.message) == (404, f"No such image: db@{DIGEST}")

    play(tmp_path, story)


def test_a_known_image_is_not_copied(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        status, _output = await send(bench, "/images/create?fromImage=stable&tag=1", LOGIN)
        assert status == 200
        await bench.settled(0)
        assert "POST /images/load" not in bench.machines.host.calls

    play(tmp_path, story, "stable:1")


def test_a_failed_pull_returns_nothing(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        before = dict(bench.machines.host.images)
        path = "/images/create?fromImage=reg:5000/missing&tag=1"
        status, output = await send(bench, path, LOGIN)
        assert (status, b"errorDetail" in output) == (200, True)
        await bench.settled(0)
        assert bench.machines.host.images == before
        bench.machines.failures.append(OperationRefused("the pool is full."))
        status, output = await send(bench, path, LOGIN)
        assert (status, json.loads(output)["message"]) == (409, "the pool is full.")

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("path", "body", "outcome"),
    [
        ("/v1.41/auth", json.dumps(LOGIN), b"Login Succeeded"),
        ("/v1.41/images/busybox/push?tag=latest", "", b"pushed"),
    ],
)
def test_logins_and_pushes_reach_no_image_host(
    tmp_path: Path, path: str, body: str, outcome: bytes
) -> None:
    async def story(bench: Bench) -> None:
        status, output = await send(bench, path, None if body else LOGIN, body)
        assert (status, outcome in output) == (200, True)
        await bench.settled(0)
        assert len(bench.machines.forks) == 1
        assert not any(PASSWORD in text for text in bench.machines.host.received)
        assert not any(call.endswith(("/auth", "/push")) for call in bench.machines.host.calls)

    play(tmp_path, story)


def test_a_build_with_passwords_has_a_machine_of_its_own(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        logins = encoded({"reg:5000": LOGIN})
        for version, forks in ((2, 0), (1, 1)):
            peer = await bench.open()
            head = f"POST /v1.41/build?t=web&version={version} HTTP/1.1\r\nHost: x\r\n"
            head += f"X-Registry-Config: {logins}\r\nContent-Length: 0\r\n\r\n"
            await peer.send(head.encode())
            assert (await read_head(peer)).status == 200
            assert len(bench.machines.forks) == forks
            peer.abort()
        await bench.settled(0)
        assert secrets_of_host(bench) == []

    play(tmp_path, story)


def test_an_import_with_a_login_stays_on_the_image_host(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        status, _output = await send(bench, "/images/create?fromSrc=-&repo=new", LOGIN, "archive")
        assert status == 200
        assert "POST /images/create" in bench.machines.host.calls
        assert (bench.machines.forks, secrets_of_host(bench)) == ([], [])

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("query", "trusted", "status"),
    [
        ("fromSrc=http://127.0.0.1:9/x", False, 403),
        ("fromSrc=-&fromSrc=http://127.0.0.1:9/x", False, 403),
        ("fromImage=&fromSrc=127.0.0.1:9", False, 403),
        ("fromSrc=-", False, 200),
        ("fromSrc=http://127.0.0.1:9/x", True, 200),
    ],
)
def test_docker_fetches_no_archive_from_the_network_of_a_shared_image_host(
    tmp_path: Path, query: str, trusted: bool, status: int
) -> None:
    async def story(bench: Bench) -> None:
        bench.machines.is_trusted = trusted
        assert (await send(bench, f"/images/create?{query}&repo=new", None, "x"))[0] == status
        passed = "POST /images/create" in bench.machines.host.calls
        assert passed is (status == 200)

    play(tmp_path, story)


def test_a_machine_that_lists_no_images_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork = FakeMachines.fork

    async def fork_without_list(machines: FakeMachines, request: Fork) -> Machine:
        machine = await fork(machines, request)
        machines.running[machine.name].refused_paths.append("/images/json")
        return machine

    monkeypatch.setattr(FakeMachines, "fork", fork_without_list)

    async def story(bench: Bench) -> None:
        status, output = await send(bench, "/images/create?fromImage=reg:5000/web&tag=1", LOGIN)
        message = "Docker in the machine of the call has no images."
        assert (status, json.loads(output)["message"]) == (502, message)
        await bench.settled(0)

    play(tmp_path, story)


def test_calls_without_a_password_stay_on_the_image_host(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        for login in (None, {}, EMPTY):
            assert (await send(bench, "/images/create?fromImage=web&tag=1", login))[0] == 200
            # Docker refuses a push without the header.
            assert (await send(bench, "/images/web/push?tag=1", login))[0] == 200
        for login in ({}, EMPTY):
            received = [text for text in bench.machines.host.received if encoded(login) in text]
            assert len(received) == 2
        assert bench.machines.forks == []
        assert secrets_of_host(bench) == []

    play(tmp_path, story)
