# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The endpoint over a real socket, with stand-ins for dockerd in its machines."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from stockyard.endpoint import answer_heads
from stockyard.endpoint.server import Endpoint
from stockyard.errors import PoolQuotaExceeded
from tests.helpers.endpoint_bench import BUSYBOX, Bench, call, play, read_head
from tests.helpers.fake_dockerd import FakeDockerd


def test_the_version_of_the_api_is_negotiated(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        for method in ("GET", "HEAD"):
            ping = await bench.call(method, "/_ping")
            assert (ping.status, ping.headers["api-version"]) == (200, "1.41")
        for path in ("/version", "/v1.24/version", "/v1.41/version"):
            assert (await bench.call("GET", path)).json["ApiVersion"] == "1.41"
        new = await bench.call("GET", "/v1.42/version")
        assert (new.status, new.message) == (
            400,
            "client version 1.42 is too new. Maximum supported API version is 1.41",
        )
        old = await bench.call("GET", "/v1.23/version")
        assert (
            "client version 1.23 is too old. Minimum supported API version is 1.24" in old.message
        )

    play(tmp_path, story)


def test_only_its_user_can_open_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Other threads create files at the same time, to which a umask would apply.
    monkeypatch.setattr(os, "umask", None)
    with socket.socket(socket.AF_UNIX) as earlier:
        earlier.bind(str(tmp_path / "endpoint.sock"))

    async def story(bench: Bench) -> None:
        assert bench.socket.stat().st_mode & 0o777 == 0o600

    play(tmp_path, story)


def test_each_container_has_a_machine_until_it_is_removed(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        first, second = await bench.create("web"), await bench.create()
        assert (first.status, second.status, len(bench.machines.running)) == (201, 201, 2)
        assert bench.machines.forks[0].container == "web"
        listed = (await bench.call("GET", "/containers/json?all=1")).json
        assert {entry["Id"] for entry in listed} == {first.json["Id"], second.json["Id"]}
        assert listed[0]["Created"] >= listed[1]["Created"]
        assert len((await bench.call("GET", "/containers/json?limit=1")).json) == 1
        for key, expected in (("before", [first]), ("since", [])):
            filters = json.dumps({key: [second.json["Id"]]})
            path = f"/containers/json?all=1&filters={quote(filters)}"
            ids = [entry["Id"] for entry in (await bench.call("GET", path)).json]
            assert ids == [answer.json["Id"] for answer in expected]
        for reference in ("web", first.json["Id"], first.json["Id"][:12]):
            inspected = await bench.call("GET", f"/containers/{reference}/json")
            assert inspected.json["Id"] == first.json["Id"]
        assert (await bench.call("DELETE", "/containers/web")).status == 204
        await bench.settled(1)
        missing = await bench.call("GET", "/containers/web/json")
        assert (missing.status, missing.message) == (404, "No such container: web")

    play(tmp_path, story)


def test_names_belong_to_the_endpoint(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        answers = await asyncio.gather(*(bench.create("web") for _number in range(3)))
        assert sorted(answer.status for answer in answers) == [201, 409, 409]
        identifier = next(answer.json["Id"] for answer in answers if answer.status == 201)
        refusal = await bench.create("web")
        assert refusal.message == (
            f'Conflict. The container name "/web" is already in use by container "{identifier}". '
            "You have to remove (or rename) that container to be able to reuse that name."
        )
        assert (await bench.create("-web")).message.startswith("Invalid container name (-web)")
        assert (await bench.call("POST", "/containers/web/rename?name=db")).status == 204
        assert (await bench.create("web")).status == 201
        assert (await bench.call("POST", "/containers/web/rename?name=db")).status == 409
        await bench.settled(2)

    play(tmp_path, story)


def test_a_container_that_removes_itself_leaves_no_machine(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        created = await bench.create("job", BUSYBOX | {"HostConfig": {"AutoRemove": True}})
        (daemon,) = bench.machines.running.values()
        peer = await bench.open()
        await peer.send(b"POST /containers/job/attach HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\n\r\n")
        assert (await read_head(peer)).status == 101
        await asyncio.sleep(0.05)
        daemon.exit(created.json["Id"])
        # The machine waits for its client, and the name is free.
        assert (await bench.create("job")).status == 201
        await bench.settled(2)
        peer.end()
        assert await peer.reader.read() == b"read: "
        await bench.settled(1)

    play(tmp_path, story)


def test_the_sides_of_a_hijacked_stream_end_separately(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("web")
        peer = await bench.open()
        head = "POST /containers/web/attach?stdin=1 HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\n\r\n"
        await peer.send(head.encode())
        assert (await read_head(peer)).status == 101
        await peer.send(b"in" * 99999)
        peer.end()
        assert await peer.reader.read(6) == b"read: "
        assert await peer.reader.readexactly(2 * 99999) == b"in" * 99999
        assert await peer.reader.read() == b""
        # The machine can be used further.
        assert (await bench.call("POST", "/containers/web/start")).status == 204

    play(tmp_path, story)


def test_a_stream_begins_after_the_client_has_read_the_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docker-py would lose the start of a stream that arrives together with the head."""
    head = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"

    async def burst(
        _daemon: FakeDockerd, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        writer.write(head + b"hello")
        await writer.drain()
        return False

    def attach(path: Path) -> list[bytes]:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(path))
            client.sendall(
                b"POST /containers/web/attach HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\n\r\n"
            )
            blocks = [client.recv(1, socket.MSG_PEEK)]
            # The whole stream has arrived at the endpoint.
            time.sleep(0.2)
            while block := client.recv(1000):
                blocks.append(block)
        return blocks[1:]

    monkeypatch.setattr(FakeDockerd, "_echo", burst)
    monkeypatch.setattr(answer_heads, "HEAD_READ", 20)

    async def story(bench: Bench) -> None:
        await bench.create("web")
        assert await asyncio.to_thread(attach, bench.socket) == [head, b"hello"]
        # A client that does not read gets everything in the end.
        monkeypatch.setattr(answer_heads, "HEAD_READ", 0.01)
        assert b"".join(await asyncio.to_thread(attach, bench.socket)) == head + b"hello"

    play(tmp_path, story)


def test_a_changed_image_host_is_frozen_before_the_next_container(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("a1")
        await bench.create("a2")
        assert bench.machines.generations == 1
        missing = await bench.create("a3", {"Image": "debian"})
        assert (missing.status, missing.message) == (404, "No such image: debian:latest")
        await bench.settled(2)
        await bench.call("POST", "/images/create?fromImage=debian")
        assert (await bench.create("a3", {"Image": "debian"})).status == 201
        assert bench.machines.generations == 2

    play(tmp_path, story)


def test_a_shared_machine_gets_images_that_are_newer(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("web")
        shared = {"HostConfig": {"NetworkMode": "container:web"}}
        missing = await bench.create("db", shared | {"Image": "debian"})
        assert (missing.status, missing.message) == (404, "No such image: debian:latest")
        for image in ("debian", "busybox"):
            await bench.call("POST", f"/images/create?fromImage={image}")
            assert (await bench.create(image, shared | {"Image": image})).status == 201
        assert bench.machines.running["machine-1"].images == bench.machines.host.images

    play(tmp_path, story)


def test_an_image_of_a_container_is_not_removed(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        created = await bench.create("web")
        refused = await bench.call("DELETE", "/images/busybox")
        assert (refused.status, created.json["Id"][:12] in refused.message) == (409, True)
        await bench.call("DELETE", "/containers/web")
        assert (await bench.call("DELETE", "/images/busybox")).status == 200

    play(tmp_path, story)


def test_a_failed_create_leaves_no_machine(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        failed = await bench.create("web", BUSYBOX | {"Cmd": ["nonsense"]})
        assert (failed.status, failed.message) == (400, "nonsense")
        await bench.settled(0)
        bench.machines.failures.append(PoolQuotaExceeded("the pool is full."))
        assert (await bench.create("web")).message == "the pool is full."
        bench.machines.failures.append(ValueError("a defect"))
        assert (await bench.create("web")).message == "the endpoint failed"
        assert bench.lines == ["POST /containers/create: ValueError('a defect')"]
        assert (await bench.create("web")).status == 201

    play(tmp_path, story)


def test_containers_that_share_are_in_one_machine(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        web = (await bench.create("web")).json["Id"]
        for number, host in enumerate(
            (
                {"NetworkMode": f"container:{web}"},
                {"VolumesFrom": ["web:ro"]},
                {"Links": ["web:db"]},
            )
        ):
            shared = await bench.create(f"s{number}", BUSYBOX | {"HostConfig": host})
            assert shared.status == 201
        assert len(bench.machines.running) == 1
        await bench.create("other")
        both = BUSYBOX | {"HostConfig": {"VolumesFrom": ["web", "other"]}}
        assert (await bench.create("both", both)).status == 501
        unknown = BUSYBOX | {"HostConfig": {"VolumesFrom": ["nothing"]}}
        assert (await bench.create("unknown", unknown)).message == "No such container: nothing"

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ({"Binds": ["/etc:/x"]}, 400),
        ({"Binds": ["da*ta:/x"]}, 400),
        ({"Binds": ["data:/x"], "VolumeDriver": "nfs"}, 404),
        ({"Mounts": [{"Type": "bind", "Source": "/etc", "Target": "/x"}]}, 400),
        ({"NetworkMode": "backend"}, 400),
        ({"PortBindings": {"80/tcp": [{"HostPort": "8010-8000"}]}}, 400),
        ({"PortBindings": {"80/tcp": [{"HostPort": "8000-"}]}}, 400),
        ({"PortBindings": {"80/tcp": [{"HostPort": "1-2-3"}]}}, 400),
        ({"PortBindings": {"80/tcp": [{"HostPort": "65536"}]}}, 400),
        ({"PortBindings": {"80/udp": [{"HostPort": "80"}]}}, 501),
    ],
)
def test_a_container_that_no_machine_can_have_is_refused(
    tmp_path: Path, host: dict[str, Any], status: int
) -> None:
    async def story(bench: Bench) -> None:
        assert (await bench.create("web", BUSYBOX | {"HostConfig": host})).status == status
        assert bench.machines.forks == []

    play(tmp_path, story)


def test_a_free_port_of_a_range_is_published(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        config = BUSYBOX | {"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8000-8001"}]}}}
        for number in (1, 2):
            await bench.create("", config)
            assert bench.machines.forks[-1].ports == (7999 + number,)
            bindings = bench.machines.bindings(f"machine-{number}")
            assert bindings["80/tcp"][0]["HostPort"] == str(7999 + number)
        refusal = await bench.create("", config)
        assert (refusal.status, len(bench.machines.forks)) == (409, 2)
        assert "from 8000 to 8001" in refusal.message

    play(tmp_path, story)


def test_an_image_that_a_container_uses_is_not_pruned(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("web")
        assert (await bench.call("POST", "/images/prune")).status == 200
        assert list(bench.machines.host.images) == ["busybox"]
        assert bench.machines.host.containers == {}
        # The next machine has what the image host had without placeholders.
        await bench.create("db", {"Image": "busybox"})
        assert bench.machines.generations == 2

    play(tmp_path, story, "busybox", "debian")


def test_published_ports_are_requested_from_the_hypervisor(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        everywhere = {"HostIp": "0.0.0.0", "HostPort": "8080"}  # noqa: S104  # of a container
        inside = {"HostIp": "127.0.0.1", "HostPort": "8082"}
        host = {"PortBindings": {"80/tcp": [everywhere], "81/tcp": None, "82/tcp": [inside]}}
        await bench.create("web", BUSYBOX | {"HostConfig": host})
        assert bench.machines.forks[0].ports == (8080, 8082)
        # Clients compare the address with the one that they sent.
        bindings = bench.machines.bindings("machine-1")
        assert bindings["80/tcp"] == [everywhere]
        # The hypervisor cannot connect to the loopback of a machine.
        assert bindings["82/tcp"] == [{"HostIp": "", "HostPort": "8082"}]
        config = BUSYBOX | {"ExposedPorts": {"80/tcp": {}}, "HostConfig": {"PublishAllPorts": True}}
        await bench.create("db", config)
        assert bench.machines.forks[1].ports == (30001,)
        bindings = bench.machines.bindings("machine-2")
        assert bindings == {"80/tcp": [{"HostIp": "", "HostPort": "30001"}]}
        # The image exposes port 5000.
        await bench.call("POST", "/images/create?fromImage=exposing")
        await bench.create("registry", {"Image": "exposing", "HostConfig": {"PublishAllPorts": 1}})
        assert list(bench.machines.bindings("machine-3")) == ["5000/tcp"]

    play(tmp_path, story)


def test_ports_are_added_to_the_machine_of_another_container(tmp_path: Path) -> None:
    def at(port: int, **host: Any) -> dict[str, Any]:
        bindings = {"80/tcp": [{"HostPort": str(port)}]}
        return BUSYBOX | {"HostConfig": {"PortBindings": bindings, **host}}

    async def story(bench: Bench) -> None:
        published = bench.machines.published
        await bench.create("web", at(8080))
        assert (await bench.create("api", at(8081, Links=["web:web"]))).status == 201
        assert published == {"machine-1": {8080, 8081}}
        await bench.create("other", at(8082))
        refused = await bench.create("s1", at(8082, Links=["web:web"]))
        assert (refused.status, "8082" in refused.message) == (409, True)
        failed = await bench.create("s2", at(8083, Links=["web:web"]) | {"Cmd": ["nonsense"]})
        assert failed.status == 400
        await bench.call("DELETE", "/containers/web")
        async with asyncio.timeout(5):
            while published["machine-1"] != {8081}:
                await asyncio.sleep(0.01)

    play(tmp_path, story)


def test_a_restarted_endpoint_answers_as_before(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        identifier = (await bench.create("web")).json["Id"]
        number = (await bench.call("POST", "/containers/web/exec", {})).json["Id"]
        restarted = Endpoint(bench.machines, bench.lines.append)
        await restarted.start()
        assert restarted.containers.find("web").id == identifier
        assert await restarted.calls.machine_of_exec(number) == "machine-1"
        await restarted.life.close()
        restarted.lines.close()

    play(tmp_path, story)


def test_events_of_all_machines_are_one_stream(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        peer = await bench.open()
        filters = '{"event":{"create":true},"container":["web"]}'
        await peer.send(f"GET /events?filters={filters} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert (await read_head(peer)).headers["transfer-encoding"] == "chunked"
        await bench.create("db")
        created = await bench.create("web")
        size = int((await peer.reader.readuntil(b"\r\n")), 16)
        event = json.loads(await peer.reader.readexactly(size))
        assert event["Actor"]["ID"] == created.json["Id"]

    play(tmp_path, story)


def test_counts_and_pruning_cover_all_machines(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        for name in ("a1", "a2", "a3"):
            await bench.create(name)
            await bench.call("POST", f"/containers/{name}/start")
        await bench.call("POST", "/containers/a3/stop")
        info = (await bench.call("GET", "/info")).json
        assert (info["Containers"], info["ContainersRunning"], info["ContainersStopped"]) == (
            3,
            2,
            1,
        )
        assert (info["ID"], info["Name"]) == ("ENDPOINT-ID", "doors")
        pruned = (await bench.call("POST", "/containers/prune")).json
        assert (len(pruned["ContainersDeleted"]), pruned["SpaceReclaimed"]) == (1, 1)
        await bench.settled(2)

    play(tmp_path, story)


def test_one_connection_serves_many_calls(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        peer = await bench.open()
        created = await call(peer, "POST", "/containers/create?name=web", BUSYBOX)
        assert created.status == 201
        assert (await call(peer, "GET", "/containers/web/json")).status == 200
        assert (await call(peer, "GET", "/containers/nothing/json")).status == 404
        assert (await call(peer, "GET", "/nonsense")).message == "page not found"
        assert (await call(peer, "GET", "/swarm")).status == 501
        assert (await call(peer, "POST", "/swarm/leave?force=1")).status == 503
        assert (await call(peer, "GET", "/_ping")).body == b"OK"

    play(tmp_path, story)


def in_network(name: str) -> dict[str, Any]:
    return BUSYBOX | {"HostConfig": {"NetworkMode": name}}


def test_containers_of_a_network_are_in_one_machine(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("old")
        created = await bench.call("POST", "/networks/create", {"Name": "backend"})
        assert (created.status, bench.machines.generations) == (201, 1)
        answers = await asyncio.gather(
            *(bench.create(f"c{number}", in_network("backend")) for number in range(3))
        )
        assert [answer.status for answer in answers] == [201, 201, 201]
        assert (len(bench.machines.running), bench.machines.generations) == (2, 2)
        assert (await bench.call("DELETE", "/networks/backend")).status == 204

    play(tmp_path, story)


def test_a_network_shows_the_running_containers_of_its_machine(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        number = (await bench.call("POST", "/networks/create", {"Name": "backend"})).json["Id"]
        identifier = (await bench.create("web", in_network("backend"))).json["Id"]
        assert (await bench.call("GET", f"/networks/{number}")).json["Containers"] == {}
        await bench.call("POST", "/containers/web/start")
        facts = (await bench.call("GET", "/networks/backend")).json
        assert (facts["Id"], list(facts["Containers"])) == (number, [identifier])
        refused = await bench.call("DELETE", "/networks/backend")
        assert (refused.status, "has active endpoints" in refused.message) == (403, True)
        assert (await bench.call("POST", "/networks/prune")).json["NetworksDeleted"] is None
        await bench.call("DELETE", "/containers/web?force=1")
        for filters, deleted in (
            ({"label": ["keep"]}, None),
            ({"until": ["2020-01-01T00:00:00Z"]}, None),
            ({"until": ["1h"], "label!": ["keep"]}, ["backend"]),
        ):
            path = f"/networks/prune?filters={quote(json.dumps(filters))}"
            assert (await bench.call("POST", path)).json["NetworksDeleted"] == deleted
        path = f"/networks/prune?filters={quote(json.dumps({'name': ['backend']}))}"
        assert (await bench.call("POST", path)).message == "invalid filter 'name'"

    play(tmp_path, story)


def test_a_container_is_connected_to_a_network_of_its_machine(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("old")
        await bench.call("POST", "/networks/create", {"Name": "late"})
        # The machine of the container is older than the network.
        path, body = "/networks/late/connect", {"Container": "old"}
        assert (await bench.call("POST", path, body)).status == 200
        assert "late" in bench.machines.running["machine-1"].networks
        # From now on the network is in that machine.
        await bench.create("new", in_network("late"))
        assert len(bench.machines.running) == 1
        await bench.create("alone")
        refused = await bench.call("POST", path, {"Container": "alone"})
        assert (refused.status, "--network late" in refused.message) == (501, True)
        for name in ("old", "new"):
            await bench.call("POST", "/networks/late/disconnect", {"Container": name})
        assert (await bench.call("POST", path, {"Container": "alone"})).status == 200
        missing = await bench.call("POST", "/networks/none-such/connect", body)
        assert (missing.status, missing.message) == (404, "network none-such not found")

    play(tmp_path, story)


def test_a_machine_that_does_not_answer_is_not_deleted(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("web")
        daemon = bench.machines.running["machine-1"]
        await daemon.stop()
        restarted = Endpoint(bench.machines, bench.lines.append)
        restarted.life.watch_wait = 0.05
        await restarted.start()
        await asyncio.sleep(0.1)
        assert bench.machines.deleted == []
        assert restarted.containers.find("web").machine == "machine-1"
        assert any("machine-1" in line for line in bench.lines)
        await restarted.close()

    play(tmp_path, story)
