# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Failures that other servers of the Docker API had with real clients."""

from __future__ import annotations

import asyncio
import json
import re
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote

import pytest

from stockyard.endpoint.routes import CONTAINER, ROUTES
from stockyard.endpoint.server import LONGEST_BODY
from stockyard.guest.security.reader.streams import LIMIT
from tests.helpers.endpoint_bench import BUSYBOX, Answered, Bench, play, read_head

MISSING = "c0ffee"


async def raw(bench: Bench, text: str) -> Answered:
    """Send the bytes of a request on a new connection, and return the head of the answer."""
    peer = await bench.open()
    await peer.send(text.encode())
    return await read_head(peer)


def calls_about_containers() -> list[tuple[str, str]]:
    about_one = [
        route
        for route in ROUTES
        if route.pattern.startswith("/containers/{}")
        and (route.kind == CONTAINER or route.handler in ("rename", "create_exec", "wait"))
    ]
    return [
        (method, route.pattern.format(MISSING))
        for route in about_one
        for method in route.methods.split()
        if method != "HEAD"
    ]


@pytest.mark.parametrize(
    ("method", "path"), [*calls_about_containers(), ("DELETE", "/containers/c0ffee")]
)
def test_a_missing_container_has_dockers_words(tmp_path: Path, method: str, path: str) -> None:
    async def story(bench: Bench) -> None:
        answer = await bench.call(method, path, {} if method == "POST" else None)
        assert (answer.status, answer.message) == (404, f"No such container: {MISSING}")

    play(tmp_path, story)


def test_a_missing_exec_instance_has_dockers_words(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        for method, action in (("GET", "json"), ("POST", "resize?h=1&w=1"), ("POST", "start")):
            answer = await bench.call(method, f"/exec/{MISSING}/{action}", None)
            assert (answer.status, answer.message) == (404, f"No such exec instance: {MISSING}")

    play(tmp_path, story)


def test_ids_have_64_digits(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        identifier = (await bench.create("web")).json["Id"]
        assert re.fullmatch("[0-9a-f]{64}", identifier)
        (entry,) = (await bench.call("GET", "/containers/json?all=1")).json
        assert entry["Id"] == identifier

    play(tmp_path, story)


@pytest.mark.parametrize("port", ["0", "", None])
def test_any_port_is_a_real_one(tmp_path: Path, port: str | None) -> None:
    async def story(bench: Bench) -> None:
        target = {} if port is None else {"HostPort": port}
        host = {"PortBindings": {"80/tcp": [target], "81": [{"HostPort": "0"}]}}
        assert (await bench.create("web", BUSYBOX | {"HostConfig": host})).status == 201
        bindings = bench.machines.bindings("machine-1")
        assert bindings["80/tcp"][0]["HostPort"] not in ("0", "")

    play(tmp_path, story)


@pytest.mark.parametrize("path", ["/containers/web/attach", "/exec/{}/start"])
def test_a_stream_has_dockers_content_type(tmp_path: Path, path: str) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("web")
        number = (await bench.call("POST", "/containers/web/exec", {})).json["Id"]
        lines = [f"POST {path.format(number)} HTTP/1.1", "Host: x", "Upgrade: tcp", "", ""]
        answer = await raw(bench, "\r\n".join(lines))
        assert answer.status == 101
        assert answer.headers["content-type"] == "application/vnd.docker.raw-stream"

    play(tmp_path, story)


def test_a_detached_exec_returns(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("web")
        number = (await bench.call("POST", "/containers/web/exec", {})).json["Id"]
        started = await bench.call("POST", f"/exec/{number}/start", {"Detach": True, "Tty": True})
        assert (started.status, started.body) == (200, b"")
        # The connection serves further calls.
        assert (await bench.call("GET", f"/exec/{number}/json")).status == 200

    play(tmp_path, story)


def test_programs_start_at_once_after_create(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        for name in ("a1", "a2", "a3"):
            created = (await bench.create(name)).json["Id"]
            assert (await bench.call("POST", f"/containers/{created}/start")).status == 204
            assert (await bench.call("POST", f"/containers/{name}/exec", {})).status == 201

    play(tmp_path, story)


def test_simultaneous_creates_and_starts_all_succeed(tmp_path: Path) -> None:
    async def run(bench: Bench, number: int) -> list[int]:
        created = await bench.create(f"c{number}")
        started = await bench.call("POST", f"/containers/c{number}/start")
        return [created.status, started.status]

    async def story(bench: Bench) -> None:
        answers = await asyncio.gather(*(run(bench, number) for number in range(12)))
        assert answers == [[201, 204]] * 12
        starts = [bench.call("POST", "/containers/c0/start") for _number in range(5)]
        assert {answer.status for answer in await asyncio.gather(*starts)} == {204}
        assert len((await bench.call("GET", "/containers/json")).json) == 12

    play(tmp_path, story)


def test_forks_of_several_containers_overlap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = most = 0

    async def story(bench: Bench) -> None:
        fork = bench.machines.fork

        async def slow_fork(request: object) -> object:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.1)
            running -= 1
            return await fork(request)  # type: ignore[arg-type]

        monkeypatch.setattr(bench.machines, "fork", slow_fork)
        await asyncio.gather(*(bench.create(f"c{number}") for number in range(5)))
        assert most == 5

    play(tmp_path, story)


def test_the_ends_of_a_container_need_no_power_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unused_state(name: str) -> str:
        raise AssertionError(name)

    async def story(bench: Bench) -> None:
        monkeypatch.setattr(bench.machines, "state", unused_state)
        for call, status in (("stop", 204), ("kill", 204), ("wait", 200)):
            await bench.create(call)
            await bench.call("POST", f"/containers/{call}/start")
            daemon = bench.machines.running[max(bench.machines.running)]
            calling = asyncio.create_task(bench.call("POST", f"/containers/{call}/{call}"))
            if call == "wait":
                await asyncio.sleep(0.05)
                daemon.exit(next(iter(daemon.containers)))
            assert (await calling).status == status
        assert bench.lines == []

    play(tmp_path, story)


def test_networks_are_listed_while_containers_vanish(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.call("POST", "/networks/create", {"Name": "backend"})
        statuses = set()

        async def poll() -> None:
            while True:
                for path in ("/networks", "/networks/backend", "/containers/json?all=1", "/info"):
                    statuses.add((await bench.call("GET", path)).status)

        polling = asyncio.create_task(poll())
        config = BUSYBOX | {"HostConfig": {"NetworkMode": "backend", "AutoRemove": True}}
        for number in range(5):
            identifier = (await bench.create(f"c{number}", config)).json["Id"]
            await bench.call("POST", f"/containers/c{number}/start")
            daemon = next(iter(bench.machines.running.values()))
            daemon.exit(identifier)
            await asyncio.sleep(0.02)
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        assert statuses == {200}

    play(tmp_path, story)


@pytest.mark.parametrize("path", ["/containers/web/logs?follow=1", "/containers/web/attach"])
def test_a_client_that_cancels_ends_its_stream_in_docker(tmp_path: Path, path: str) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("web")
        (daemon,) = bench.machines.running.values()
        method = "GET" if "logs" in path else "POST"
        before = len(daemon.tasks)
        peer = await bench.open()
        await peer.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\n\r\n".encode())
        await read_head(peer)
        peer.abort()
        async with asyncio.timeout(5):
            while len(daemon.tasks) > before:
                await asyncio.sleep(0.01)
        assert (await bench.call("POST", "/containers/web/start")).status == 204

    play(tmp_path, story)


def test_a_stream_of_events_ends_as_clients_expect(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("web")
        peer = await bench.open()
        await peer.send(b"GET /events?since=0&until=9 HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await read_head(peer)
        assert head.headers["content-type"] == "application/json"
        assert (await peer.reader.readuntil(b"0\r\n\r\n")).endswith(b"}\n\r\n0\r\n\r\n")

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1.24/_ping", 200),
        ("/v1.41/_ping", 200),
        ("/_ping", 200),
        ("/v1.23/_ping", 400),
        ("/v1.42/_ping", 400),
        ("/v2.0/_ping", 400),
        ("/v0.1/_ping", 400),
        ("/v1.41.1/_ping", 404),
        ("/v1/_ping", 404),
        ("/v99999.1/_ping", 404),
        ("/v1.41/v1.41/_ping", 404),
        ("/v1.41", 404),
        ("//_ping", 404),
    ],
)
def test_each_version_in_a_path_has_an_answer(tmp_path: Path, path: str, status: int) -> None:
    async def story(bench: Bench) -> None:
        assert (await bench.call("GET", path)).status == status

    play(tmp_path, story)


def test_a_system_prune_removes_only_what_nothing_uses(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        for name in ("used", "unused"):
            await bench.call("POST", "/networks/create", {"Name": name})
            await bench.call("POST", "/volumes/create", {"Name": name})
        host = {"NetworkMode": "used", "Binds": ["used:/data"]}
        await bench.create("web", BUSYBOX | {"HostConfig": host})
        await bench.call("POST", "/containers/web/start")
        stopped = (await bench.create("old")).json["Id"]
        # In the order of Docker's client.
        pruned = {
            kind: (await bench.call("POST", f"/v1.41/{kind}/prune")).json
            for kind in ("containers", "networks", "volumes", "images")
        }
        assert (await bench.call("POST", "/v1.41/build/prune")).status == 200
        assert pruned["containers"]["ContainersDeleted"] == [stopped]
        assert pruned["networks"]["NetworksDeleted"] == ["unused"]
        assert pruned["volumes"]["VolumesDeleted"] == ["unused"]
        assert list(bench.machines.host.images) == ["busybox"]
        filters = quote(json.dumps({"name": ["x"]}))
        refused = await bench.call("POST", f"/v1.41/networks/prune?filters={filters}")
        assert refused.status == 400

    play(tmp_path, story, "busybox", "debian")


@pytest.mark.parametrize(
    "text",
    [
        "GET /containers/json?filters={{not json HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /containers/json?filters=[1] HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /containers/json?limit=many HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /events?since=yesterday HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /images/%2e%2e%2f%2e%2e/json HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /containers/create?name=%0d%0aX HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
        "POST /containers/create?name=%ff%fe HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
        "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n[]",
        "POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nnot jsons",
        f"POST /commit HTTP/1.1\r\nHost: x\r\nContent-Length: {LONGEST_BODY + 1}\r\n\r\n",
        f"GET /_ping HTTP/1.1\r\nHost: x\r\nX-Long: {'x' * LIMIT}\r\n\r\n",
        "GET /_ping HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "GET /_ping HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "GET _ping HTTP/1.1\r\nHost: x\r\n\r\n",
        "\x16\x03\x01\r\n\r\n",
    ],
)
def test_an_odd_request_is_refused(tmp_path: Path, text: str) -> None:
    async def story(bench: Bench) -> None:
        answer = await raw(bench, text)
        assert HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR
        assert bench.lines == []
        assert bench.machines.forks == []
        assert (await bench.call("GET", "/_ping")).status == 200

    play(tmp_path, story)


@pytest.mark.parametrize(
    "config",
    [
        {"Image": 5},
        {"Image": ["x"]},
        {"Image": None},
        {"Image": "a b"},
        {"Image": "x" * 5000},
        {"Image": "../../secrets"},
        {"Image": "busybox", "HostConfig": {"Binds": "text"}},
        {"Image": "busybox", "HostConfig": {"Binds": 5}},
        {"Image": "busybox", "HostConfig": {"Mounts": [5]}},
        {"Image": "busybox", "HostConfig": {"Mounts": {"Type": "bind"}}},
        {"Image": "busybox", "HostConfig": {"PortBindings": [1]}},
        {"Image": "busybox", "HostConfig": {"PortBindings": {"80/tcp": [5]}}},
        {"Image": "busybox", "HostConfig": {"PortBindings": {"80/tcp": 5}}},
        {"Image": "busybox", "HostConfig": {"VolumesFrom": 5}},
        {"Image": "busybox", "HostConfig": {"Links": 5}},
        {"Image": "busybox", "NetworkingConfig": []},
        {"Image": "busybox", "NetworkingConfig": {"EndpointsConfig": [1]}},
    ],
)
def test_an_odd_configuration_is_refused(tmp_path: Path, config: dict[str, object]) -> None:
    async def story(bench: Bench) -> None:
        answer = await bench.create("web", config)
        assert HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR
        assert bench.lines == []
        assert (await bench.create("web")).status == 201

    play(tmp_path, story)


@pytest.mark.parametrize(
    "config",
    [
        {"image": "busybox"},
        {"Image": "busybox", "hostconfig": {"Binds": ["/etc:/x"]}},
        {"Image": "busybox", "HostConfig": {"binds": ["/etc:/x"]}},
        {"Image": "busybox", "HostConfig": {"memory": 1 << 40}},
    ],
)
def test_a_field_in_another_spelling_is_refused(tmp_path: Path, config: dict[str, object]) -> None:
    async def story(bench: Bench) -> None:
        refused = await bench.create("web", config)
        assert (refused.status, "is written" in refused.message) == (400, True)
        assert bench.machines.forks == []

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/containers/create"),
        ("POST", "/containers/web/update"),
        ("POST", "/volumes/create"),
        ("POST", "/networks/backend/connect"),
        ("GET", f"/containers/json?filters={'[' * 20000}"),
    ],
)
def test_deep_json_is_refused(tmp_path: Path, method: str, path: str) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("web")
        body = "[" * 100000 if method == "POST" else ""
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        assert (await raw(bench, head + body)).status == 400
        assert bench.lines == []

    play(tmp_path, story)
