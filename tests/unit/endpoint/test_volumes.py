# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Named volumes of an endpoint, with stand-ins for dockerd in its machines."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from stockyard.endpoint.server import Endpoint
from tests.helpers.endpoint_bench import BUSYBOX, Bench, play


def with_volumes(*names: str, **host: Any) -> dict[str, Any]:
    return BUSYBOX | {"HostConfig": {"Binds": [f"{name}:/{name}" for name in names], **host}}


async def holder(bench: Bench, name: str, expected: str) -> None:
    """Wait until a volume is attached to a machine, or to none if it is empty."""
    async with asyncio.timeout(5):
        while bench.machines.volumes.attached.get(name, ("", ""))[0] != expected:
            await asyncio.sleep(0.01)


def test_volumes_are_created_listed_and_removed(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        labels = {"com.docker.compose.project": "shop", "note": "two\nlines"}
        body = {"Name": "data", "Driver": "local", "Labels": labels}
        created = await bench.call("POST", "/volumes/create", body)
        assert (created.status, created.json["Name"]) == (201, "data")
        repeated = await bench.call("POST", "/volumes/create", body)
        assert (repeated.status, repeated.json) == (201, created.json)
        assert created.json["Mountpoint"] == "/var/lib/docker/volumes/data/_data"
        unnamed = (await bench.call("POST", "/volumes/create", {})).json["Name"]
        assert len(unnamed) == 64
        assert (await bench.call("GET", "/volumes/data")).json["Labels"] == labels
        for filters, names in (
            ({}, {"data", unnamed}),
            ({"name": ["dat"]}, {"data"}),
            ({"label": ["com.docker.compose.project=shop"]}, {"data"}),
            ({"label": ["com.docker.compose.project=other"]}, set()),
            ({"dangling": ["true"]}, {"data", unnamed}),
            ({"driver": ["nfs"]}, set()),
        ):
            path = f"/volumes?filters={quote(json.dumps(filters))}"
            listed = (await bench.call("GET", path)).json["Volumes"]
            assert {volume["Name"] for volume in listed} == names
        assert (await bench.call("DELETE", "/volumes/data")).status == 204
        missing = await bench.call("DELETE", "/volumes/data")
        assert (missing.status, missing.message) == (404, "get data: no such volume")
        assert (await bench.call("DELETE", "/volumes/data?force=1")).status == 204
        assert (await bench.call("GET", "/volumes/data")).status == 404

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"Name": "da*ta"}, 400),
        ({"Name": "x"}, 400),
        ({"Name": "x" * 256}, 400),
        ({"Name": "data", "Driver": "nfs"}, 404),
        ({"Name": "data", "DriverOpts": {"type": "tmpfs"}}, 400),
        ([], 400),
    ],
)
def test_a_volume_that_is_no_disk_is_refused(tmp_path: Path, body: Any, status: int) -> None:
    async def story(bench: Bench) -> None:
        assert (await bench.call("POST", "/volumes/create", body)).status == status
        assert bench.machines.volumes.labels == {}

    play(tmp_path, story)


def test_a_volume_outlives_the_machine_of_its_container(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        mount = {
            "Type": "volume",
            "Source": "data",
            "Target": "/data",
            "VolumeOptions": {"Labels": {"a": "b"}},
        }
        config = BUSYBOX | {"HostConfig": {"Mounts": [mount]}}
        created = await bench.create("web", config)
        assert created.status == 201
        expected = ("machine-1", "/var/lib/docker/volumes/data")
        assert bench.machines.volumes.attached["data"] == expected
        assert bench.machines.volumes.labels == {"data": {"a": "b"}}
        refused = await bench.call("DELETE", "/volumes/data?force=1")
        assert (refused.status, refused.message) == (
            409,
            f"remove data: volume is in use - [{created.json['Id']}]",
        )
        await bench.call("DELETE", "/containers/web?force=1")
        # The machine is being deleted, and releases its volume.
        assert (await bench.create("next", config)).status == 201
        await holder(bench, "data", "machine-2")
        await bench.call("DELETE", "/containers/next?force=1")
        assert (await bench.call("DELETE", "/volumes/data")).status == 204
        assert bench.machines.volumes.labels == {}

    play(tmp_path, story)


def test_containers_with_one_volume_share_a_machine(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        answers = await asyncio.gather(
            *(bench.create(f"c{number}", with_volumes("cache")) for number in range(3))
        )
        assert [answer.status for answer in answers] == [201, 201, 201]
        assert len(bench.machines.running) == 1
        await bench.create("db", with_volumes("rows"))
        both = await bench.create("both", with_volumes("cache", "rows"))
        assert (both.status, "different machines" in both.message) == (501, True)

    play(tmp_path, story)


def test_a_volume_follows_the_containers_that_run(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.endpoint.volumes.release_wait = 0.05
        await bench.create("first", with_volumes("data"))
        await bench.call("POST", "/containers/first/start")
        await bench.call("POST", "/containers/first/stop")
        await holder(bench, "data", "")
        await bench.create("second", with_volumes("data"))
        await bench.call("POST", "/containers/second/start")
        assert bench.machines.volumes.attached["data"][0] == "machine-2"
        refused = await bench.call("POST", "/containers/first/start")
        assert refused.status == 409
        assert refused.message.startswith("The volume data is used by a container in another")
        await bench.call("POST", "/containers/second/stop")
        # Without a wait: the volume is moved at once.
        assert (await bench.call("POST", "/containers/first/start")).status == 204
        assert bench.machines.volumes.attached["data"][0] == "machine-1"
        # Calls that only need the files of a container attach the volume for their time.
        await bench.call("POST", "/containers/first/stop")
        await holder(bench, "data", "")
        await bench.call("PUT", "/containers/second/archive?path=/data")
        assert bench.machines.volumes.attachments[-1] == ("data", "machine-2")
        assert bench.machines.volumes.labels == {"data": {}}

    play(tmp_path, story)


def test_a_machine_that_does_not_answer_keeps_its_volume(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.endpoint.volumes.release_wait = 0.05
        await bench.create("first", with_volumes("data"))
        await bench.call("POST", "/containers/first/start")
        # The machine runs, and its container can still write.
        await bench.machines.running["machine-1"].stop()
        refused = await bench.create("second", with_volumes("data"))
        assert (refused.status, "does not answer" in refused.message) == (503, True)
        bench.endpoint.volumes.settle("machine-1")
        await asyncio.sleep(0.2)
        assert bench.machines.volumes.attached["data"][0] == "machine-1"
        assert len(bench.machines.forks) == 1

    play(tmp_path, story)


def test_a_failed_create_leaves_no_volume_attached(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.endpoint.volumes.release_wait = 0.05
        await bench.create("web")
        shared = with_volumes("data", NetworkMode="container:web")
        assert (await bench.create("next", shared | {"Cmd": ["nonsense"]})).status == 400
        assert bench.machines.volumes.attachments == [("data", "machine-1")]
        await holder(bench, "data", "")
        assert (await bench.call("DELETE", "/volumes/data")).status == 204

    play(tmp_path, story)


def test_the_volumes_of_another_container_are_attached_too(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.endpoint.volumes.release_wait = 0.05
        await bench.create("data", with_volumes("rows"))
        (daemon,) = bench.machines.running.values()
        daemon.exit(next(iter(daemon.containers)))
        await holder(bench, "rows", "")
        backup = BUSYBOX | {"HostConfig": {"VolumesFrom": ["data:ro"]}}
        assert (await bench.create("backup", backup)).status == 201
        await holder(bench, "rows", "machine-1")
        refused = await bench.call("DELETE", "/volumes/rows")
        assert refused.status == 409

    play(tmp_path, story)


def test_unused_volumes_are_pruned(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("web", with_volumes("used"))
        await bench.call("POST", "/volumes/create", {"Name": "kept", "Labels": {"keep": "1"}})
        await bench.call("POST", "/volumes/create", {"Name": "unused"})
        usage = (await bench.call("GET", "/system/df")).json["Volumes"]
        assert {entry["Name"]: entry["UsageData"]["RefCount"] for entry in usage} == {
            "used": 1,
            "kept": 0,
            "unused": 0,
        }
        path = f"/volumes/prune?filters={quote(json.dumps({'label!': ['keep']}))}"
        pruned = (await bench.call("POST", path)).json
        assert pruned == {"VolumesDeleted": ["unused"], "SpaceReclaimed": 1000}
        assert set(bench.machines.volumes.labels) == {"used", "kept"}

    play(tmp_path, story)


def test_a_volume_is_created_again_in_the_same_machine(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("stays")
        shared = with_volumes("data", NetworkMode="container:stays")
        await bench.create("first", shared)
        daemon = bench.machines.running["machine-1"]
        await bench.call("DELETE", "/containers/first")
        assert (await bench.call("DELETE", "/volumes/data")).status == 204
        daemon.calls.clear()
        assert (await bench.create("second", shared)).status == 201
        # Docker in the machine forgets the earlier volume before the new one is mounted.
        assert daemon.calls.index("DELETE /volumes/data") < daemon.calls.index(
            "POST /volumes/create"
        )

    play(tmp_path, story)


def test_a_restarted_endpoint_knows_the_users_of_volumes(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.endpoint.volumes.release_wait = 60
        for name in ("busy", "idle"):
            await bench.create(name, with_volumes(f"{name}-data"))
        await bench.call("POST", "/containers/idle/start")
        await bench.call("POST", "/containers/idle/stop")
        restarted = Endpoint(bench.machines, bench.lines.append)
        restarted.volumes.release_wait = 0.05
        await restarted.start()
        await holder(bench, "idle-data", "")
        await holder(bench, "busy-data", "machine-1")
        assert [user.name for user in restarted.volumes.users("busy-data")] == ["busy"]
        await restarted.volumes.close()
        await restarted.life.close()
        restarted.lines.close()

    play(tmp_path, story)


def test_events_of_volumes_come_from_the_endpoint(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("web", with_volumes("data"))
        await bench.call("DELETE", "/containers/web")
        await bench.call("DELETE", "/volumes/data")
        events = [
            (event["Action"], event["Actor"]["ID"])
            for event in bench.endpoint.bus.recent
            if event["Type"] == "volume"
        ]
        assert events == [("create", "data"), ("destroy", "data")]

    play(tmp_path, story)
