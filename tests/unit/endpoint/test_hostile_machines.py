# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines in which a hostile program answers instead of Docker. It can do what it likes with the
containers of its machine, and nothing to those of others.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from stockyard.endpoint import lines
from stockyard.endpoint.server import Endpoint
from stockyard.guest.security.reader.grammar import Refusal
from tests.helpers.endpoint_bench import BUSYBOX, Bench, play, read_head

NUMBER = "c" * 64
DEEP = "[" * 100000
LISTS: dict[str, Any] = {
    "no list": {"Id": NUMBER},
    "no entries": [1, None, "text", []],
    "no id": [{"Names": ["/x"], "Created": 1}],
    "no names": [{"Id": NUMBER, "Created": 1, "Names": None}],
    "names in names": [{"Id": NUMBER, "Created": 1, "Names": [["/x"]]}],
    "link names only": [{"Id": NUMBER, "Created": 1, "Names": ["/a/b"]}],
    "no time": [{"Id": NUMBER, "Created": "now", "Names": ["/x"]}],
    "no mounts": [{"Id": NUMBER, "Created": 1, "Names": ["/x"], "Mounts": [1]}],
    "no networks": [{"Id": NUMBER, "Created": 1, "Names": ["/x"], "NetworkSettings": [1]}],
    "depth": DEEP.encode(),
    "no text": b"\xff\xfe",
}


async def victim_and_attacker(bench: Bench) -> tuple[str, str]:
    """Create two containers, and return their ids."""
    ids = []
    for name in ("victim", "attacker"):
        ids.append((await bench.create(name)).json["Id"])
        await bench.call("POST", f"/containers/{name}/start")
    return ids[0], ids[1]


@pytest.mark.parametrize("listed", LISTS.values(), ids=LISTS.keys())
def test_a_forged_list_does_not_break_those_of_others(tmp_path: Path, listed: Any) -> None:
    async def story(bench: Bench) -> None:
        victim, _attacker = await victim_and_attacker(bench)
        daemon = bench.machines.running["machine-2"]
        daemon.forged["GET /containers/json"] = listed
        usage = {"Containers": 5, "Volumes": [1]} if isinstance(listed, bytes) else listed
        daemon.forged["GET /system/df"] = {"Containers": usage, "Volumes": usage}
        entries = (await bench.call("GET", "/containers/json?all=1")).json
        assert [entry["Id"] for entry in entries] == [victim]
        assert (await bench.call("GET", "/info")).json["Containers"] == 1
        assert (await bench.call("GET", "/system/df")).status == 200
        restarted = Endpoint(bench.machines, bench.lines.append)
        await restarted.start()
        assert restarted.containers.find("victim").machine == "machine-1"
        await restarted.close()

    play(tmp_path, story)


def test_a_machine_cannot_remove_a_container_of_another_one(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        victim, attacker = await victim_and_attacker(bench)
        pruned = {"ContainersDeleted": [victim, attacker, 5], "SpaceReclaimed": "much"}
        bench.machines.running["machine-2"].forged["POST /containers/prune"] = pruned
        reply = (await bench.call("POST", "/containers/prune")).json
        assert reply == {"ContainersDeleted": [attacker], "SpaceReclaimed": 0}
        assert (await bench.call("GET", "/containers/victim/json")).status == 200
        assert "machine-1" not in bench.machines.deleted

    play(tmp_path, story)


def test_a_machine_cannot_take_the_name_of_a_container(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        victim, attacker = await victim_and_attacker(bench)
        container = bench.machines.running["machine-2"].containers[attacker]
        container |= {"Name": "victim", "Names": ["/victim"]}
        await bench.endpoint.life._refresh("machine-2")
        assert bench.endpoint.containers.find("victim").id == victim
        restarted = Endpoint(bench.machines, bench.lines.append)
        await restarted.start()
        assert restarted.containers.find("victim").id == victim
        await restarted.close()

    play(tmp_path, story)


def test_a_machine_cannot_take_an_id_of_a_container(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        victim, attacker = await victim_and_attacker(bench)
        daemon = bench.machines.running["machine-2"]
        short = victim[:12]
        listed = [
            {"Id": short, "Names": ["/short"], "Created": 1},
            {"Id": NUMBER, "Names": [f"/{short}"], "Created": 1},
            {"Id": victim, "Names": ["/same"], "Created": 1},
        ]
        daemon.forged["GET /containers/json"] = [*listed, daemon.containers[attacker]]
        await bench.endpoint.life._refresh("machine-2")
        restarted = Endpoint(bench.machines, bench.lines.append)
        await restarted.start()
        for endpoint in (bench.endpoint, restarted):
            assert endpoint.containers.find(short).machine == "machine-1"
        await restarted.close()

    play(tmp_path, story)


@pytest.mark.parametrize("value", ["victim's", "short", 5, None])
def test_a_new_container_cannot_take_an_id(tmp_path: Path, value: Any) -> None:
    async def story(bench: Bench) -> None:
        victim, _attacker = await victim_and_attacker(bench)
        daemon = bench.machines.running["machine-2"]
        answer = {"Id": victim if value == "victim's" else value}
        config = BUSYBOX | {"HostConfig": {"NetworkMode": "container:attacker"}}
        for forged in (answer, [answer]):
            daemon.forged["POST /containers/create"] = forged
            refused = await bench.create("partner", config)
            assert (refused.status, refused.message) == (
                502,
                "Docker in the machine returned no new id.",
            )
        assert bench.endpoint.containers.find(victim).machine == "machine-1"
        del daemon.forged["POST /containers/create"]
        assert (await bench.create("partner", config)).status == 201

    play(tmp_path, story)


def test_a_new_exec_instance_cannot_take_an_id(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        _victim, attacker = await victim_and_attacker(bench)
        number = (await bench.call("POST", "/containers/victim/exec", {})).json["Id"]
        daemon = bench.machines.running["machine-2"]
        for forged in ({"Id": number}, {"Id": "short"}, [number]):
            daemon.forged[f"POST /containers/{attacker}/exec"] = forged
            refused = await bench.call("POST", f"/containers/{attacker}/exec", {})
            assert refused.status == 502
        assert await bench.endpoint.calls.machine_of_exec(number) == "machine-1"

    play(tmp_path, story)


@pytest.mark.parametrize("claimed", ["own", "victim's", "none", "no object"])
def test_a_machine_does_not_get_the_exec_instances_of_others_after_a_restart(
    tmp_path: Path, claimed: str
) -> None:
    async def story(bench: Bench) -> None:
        victim, attacker = await victim_and_attacker(bench)
        number = (await bench.call("POST", "/containers/attacker/exec", {})).json["Id"]
        victims_number = (await bench.call("POST", "/containers/victim/exec", {})).json["Id"]
        containers = {"own": attacker, "victim's": victim}
        claim = {"ID": victims_number, "ContainerID": containers.get(claimed)}
        daemon = bench.machines.running[bench.endpoint.containers.find("attacker").machine]
        daemon.forged[f"GET /exec/{victims_number}/json"] = [] if claimed == "no object" else claim
        restarted = Endpoint(bench.machines, bench.lines.append)
        await restarted.start()
        find = restarted.calls.machine_of_exec
        assert await find(number) == restarted.containers.find("attacker").machine
        if claimed == "own":
            with pytest.raises(Refusal, match="claim to have exec instance") as refusal:
                await find(victims_number)
            assert refusal.value.status == 409
        else:
            assert await find(victims_number) == restarted.containers.find("victim").machine
        await restarted.close()

    play(tmp_path, story)


@pytest.mark.parametrize("value", ["busybox", "../containers/x", 5, None])
def test_a_commit_returns_an_image_only(tmp_path: Path, value: Any) -> None:
    async def story(bench: Bench) -> None:
        await victim_and_attacker(bench)
        daemon = bench.machines.running["machine-2"]
        before = len(bench.machines.host.calls)
        for forged in ({"Id": value}, [value]):
            daemon.forged["POST /commit"] = forged
            refused = await bench.call("POST", "/commit?container=attacker&repo=new", {})
            assert (refused.status, refused.message) == (
                502,
                "Docker in the machine returned no image.",
            )
        assert bench.machines.host.calls[before:] == []

    play(tmp_path, story)


@pytest.mark.parametrize("facts", [[1], {}, {"Id": 5}])
def test_a_forged_image_is_replaced(tmp_path: Path, facts: Any) -> None:
    async def story(bench: Bench) -> None:
        await victim_and_attacker(bench)
        daemon = bench.machines.running["machine-2"]
        daemon.forged["GET /images/busybox/json"] = facts
        config = BUSYBOX | {"HostConfig": {"NetworkMode": "container:attacker"}}
        assert (await bench.create("partner", config)).status == 201
        assert "POST /images/load" in daemon.calls

    play(tmp_path, story)


def test_errors_of_one_machine_do_not_hide_the_others(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await victim_and_attacker(bench)
        daemon = bench.machines.running["machine-2"]
        daemon.refused_paths += ["/containers/json", "/containers/prune"]
        entries = (await bench.call("GET", "/containers/json?all=1")).json
        assert {entry["Names"][0] for entry in entries} == {"/victim", "/attacker"}
        assert (await bench.call("GET", "/info")).json["Containers"] == 2
        await bench.call("POST", "/containers/victim/stop")
        pruned = (await bench.call("POST", "/containers/prune")).json
        assert len(pruned["ContainersDeleted"]) == 1
        # An error of all machines is that of the call.
        assert (await bench.call("GET", "/containers/json?all=1")).status == 500

    play(tmp_path, story)


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 200 OK\r\nX: y\nContent-Length: 0\r\nContent-Length: 5",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nContent-Length: +5",
        "HTTP/1.1 200 OK\r\nContent-Length: 0_5",
        "HTTP/1.1 200 OK\r\nContent-Length : 5",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n Content-Length: 7",
        "HTTP/1.1 200 OK\rX: y\r\nContent-Length: 5",
        "HTTP/1.1 100 Continue\r\nX: y\nz: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5",
    ],
)
def test_an_answer_with_two_ends_is_refused(tmp_path: Path, head: str) -> None:
    async def story(bench: Bench) -> None:
        _victim, attacker = await victim_and_attacker(bench)
        daemon = bench.machines.running["machine-2"]
        daemon.heads |= {"/containers/attacker/json": head, f"/containers/{attacker}/exec": head}
        for method, path in (
            ("GET", "/containers/attacker/json"),
            ("POST", f"/containers/{attacker}/exec"),
        ):
            answer = await bench.call(method, path, {} if method == "POST" else None)
            assert answer.status == 502, answer.body
        assert (await bench.call("GET", "/containers/victim/json")).status == 200

    play(tmp_path, story)


def test_a_machine_cannot_get_volumes_or_networks(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        _victim, attacker = await victim_and_attacker(bench)
        await bench.call("POST", "/volumes/create", {"Name": "secrets"})
        daemon = bench.machines.running["machine-2"]
        daemon.containers[attacker] |= {
            "Mounts": [{"Type": "volume", "Name": "secrets"}],
            "NetworkSettings": {"Networks": {"backend": {}}},
        }
        life = bench.endpoint.life
        await life._refresh("machine-2")
        assert (await bench.call("POST", "/containers/attacker/restart")).status == 204
        assert bench.machines.volumes.attached == {}
        await life.keeper.save("machine-2")
        restarted = Endpoint(bench.machines, bench.lines.append)
        await restarted.start()
        for endpoint in (bench.endpoint, restarted):
            assert endpoint.networks.machines_of(["backend"]) == set()
            assert endpoint.containers.find("attacker").volumes == set()
        await restarted.close()

    play(tmp_path, story)


@pytest.mark.parametrize(
    "forged",
    [
        b"1",
        b"[]",
        b'"text"',
        DEEP.encode(),
        b'{"Type":"container","Actor":5}',
        b'{"Type":"container","Action":"die","Actor":{"ID":["x"]}}',
        b'{"Type":"volume","Action":"create","Actor":{"ID":{}}}',
        b'{"Type":"container","Action":"die","Actor":{"ID":"x","Attributes":[]}}',
        b'{"Type":"container","Action":"die","time":"now"}',
    ],
)
def test_forged_events_break_no_stream(tmp_path: Path, forged: bytes) -> None:
    async def story(bench: Bench) -> None:
        victim, attacker = await victim_and_attacker(bench)
        daemon = bench.machines.running["machine-2"]
        peer = await bench.open()
        await peer.send(b"GET /events?since=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        await read_head(peer)
        actor = {"ID": victim, "Attributes": {"name": "victim"}}
        speaking = {"Type": "container", "Action": "destroy", "Actor": actor, "time": 1}
        daemon.send_events(forged + b"\n" + json.dumps(speaking).encode() + b"\n")
        daemon.exit(attacker)
        events = b""
        while b'"die"' not in events:
            events += await peer.reader.read(65536)
        assert b'"destroy"' not in events
        assert bench.endpoint.containers.find("victim").id == victim
        reader = await bench.open()
        await reader.send(b"GET /events?since=0&until=9 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await read_head(reader)).status == 200

    play(tmp_path, story)


def test_an_endless_event_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LONGEST_EVENT", 1000)

    async def story(bench: Bench) -> None:
        await victim_and_attacker(bench)
        daemon = bench.machines.running["machine-2"]
        count = daemon.calls.count("GET /events")
        daemon.send_events(b"x" * 5000)
        async with asyncio.timeout(5):
            while daemon.calls.count("GET /events") == count:
                await asyncio.sleep(0.05)

    play(tmp_path, story)


@pytest.mark.parametrize("facts", [[1], {"State": []}, {"Id": NUMBER, "State": "x"}])
def test_forged_facts_do_not_stop_a_prune(tmp_path: Path, facts: Any) -> None:
    async def story(bench: Bench) -> None:
        victim, attacker = await victim_and_attacker(bench)
        daemon = bench.machines.running["machine-2"]
        daemon.forged[f"GET /containers/{attacker}/json"] = facts
        assert (await bench.call("POST", "/images/prune")).status == 200
        refused = await bench.call("DELETE", "/images/busybox")
        assert (refused.status, victim[:12] in refused.message) == (409, True)

    play(tmp_path, story)


def test_a_machine_cannot_add_containers_to_a_network(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.call("POST", "/networks/create", {"Name": "backend"})
        config = BUSYBOX | {"HostConfig": {"NetworkMode": "backend"}}
        identifier = (await bench.create("web", config)).json["Id"]
        facts = {"Containers": {NUMBER: {"Name": "x"}, identifier: {"Name": "web"}}}
        daemon = bench.machines.running["machine-1"]
        for forged, members in ((facts, [identifier]), ([1], []), ({"Containers": 5}, [])):
            daemon.forged["GET /networks/backend"] = forged
            network = (await bench.call("GET", "/networks/backend")).json
            assert list(network["Containers"]) == members

    play(tmp_path, story)


def test_deep_facts_are_ignored(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        _victim, attacker = await victim_and_attacker(bench)
        facts = b'{"Id":"%s","State":%s1%s}' % (attacker.encode(), b'{"a":' * 900, b"}" * 900)
        daemon = bench.machines.running["machine-2"]
        daemon.forged[f"GET /containers/{attacker}/json"] = facts
        await bench.endpoint.life.keeper.ask("machine-2", attacker)
        await bench.machines.kill("machine-2")
        entries = (await bench.call("GET", "/containers/json?all=1")).json
        assert {entry["Names"][0] for entry in entries} == {"/victim", "/attacker"}

    play(tmp_path, story)
