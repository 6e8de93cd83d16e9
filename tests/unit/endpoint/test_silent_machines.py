# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines in which Docker accepts calls and does not answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stockyard.endpoint import (
    container_calls,
    image_copies,
    images,
    machine_life,
    merged_calls,
    networks,
)
from stockyard.endpoint.server import Endpoint
from tests.helpers.endpoint_bench import BUSYBOX, Bench, play, read_head

PATIENCE = 0.2


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (container_calls, images, merged_calls, networks):
        monkeypatch.setattr(module, "SHORT", PATIENCE)
    monkeypatch.setattr(merged_calls, "PATIENCE", PATIENCE)
    monkeypatch.setattr(image_copies, "PATIENCE", PATIENCE)
    monkeypatch.setattr(machine_life, "NOTICE", 0.05)


async def silenced(bench: Bench) -> None:
    """Create a container in a machine that does not answer, and one in another machine."""
    for name in ("quiet", "other"):
        assert (await bench.create(name)).status == 201
        await bench.call("POST", f"/containers/{name}/start")
    bench.endpoint.lines.patience = PATIENCE
    bench.machines.running["machine-1"].is_silent = True


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/containers/quiet/json"),
        ("GET", "/containers/quiet/top"),
        ("POST", "/containers/quiet/start"),
        ("POST", "/containers/quiet/pause"),
        ("POST", "/containers/quiet/kill"),
        ("POST", "/containers/quiet/rename?name=new"),
        ("POST", "/containers/quiet/exec"),
        ("POST", "/containers/quiet/update"),
    ],
)
def test_a_silent_machine_is_named(tmp_path: Path, method: str, path: str) -> None:
    async def story(bench: Bench) -> None:
        await silenced(bench)
        answer = await bench.call(method, path, {} if method == "POST" else None)
        assert answer.status == 504
        assert answer.message == (
            "Docker in the machine machine-1 did not answer within 0 seconds. Try again. If Docker "
            "stays silent, delete this host, with its containers."
        )
        # The machine answers again.
        bench.machines.running["machine-1"].is_silent = False
        assert (await bench.call("GET", "/containers/quiet/json")).status == 200

    play(tmp_path, story)


def test_a_silent_image_host_is_named(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.endpoint.lines.patience = PATIENCE
        bench.machines.host.is_silent = True
        for path in ("/version", "/images/json", "/info"):
            answer = await bench.call("GET", path)
            assert (answer.status, "Docker in the image host did not" in answer.message) == (
                504,
                True,
            )
            assert answer.message.endswith("restart this host.")

    play(tmp_path, story)


def test_a_silent_machine_delays_no_list(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await silenced(bench)
        listed = (await bench.call("GET", "/containers/json")).json
        assert {entry["Names"][0] for entry in listed} == {"/quiet", "/other"}
        assert (await bench.call("GET", "/info")).json["ContainersRunning"] == 2
        assert len((await bench.call("GET", "/system/df")).json["Containers"]) >= 1
        assert (await bench.call("GET", "/networks/bridge")).status in (200, 404)
        assert (await bench.create("quiet")).status == 409
        assert (await bench.call("DELETE", "/images/busybox")).status == 409
        assert (await bench.call("POST", "/images/prune")).status == 200
        assert list(bench.machines.host.images) == ["busybox"]

    play(tmp_path, story)


def test_a_silent_machine_hides_no_exec_instance(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await silenced(bench)
        number = (await bench.call("POST", "/containers/other/exec", {})).json["Id"]
        bench.endpoint.calls._instances.clear()
        assert (await bench.call("GET", f"/exec/{number}/json")).status == 200
        unknown = await bench.call("GET", "/exec/c0ffee/json")
        assert (unknown.status, unknown.message) == (404, "No such exec instance: c0ffee")

    play(tmp_path, story)


def test_a_restarted_endpoint_does_not_wait_for_a_silent_machine(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await silenced(bench)
        restarted = Endpoint(bench.machines, bench.lines.append)
        restarted.lines.patience = restarted.life.watch_wait = PATIENCE
        async with asyncio.timeout(5):
            await restarted.start()
        assert restarted.containers.find("other").machine == "machine-2"
        assert any("machine machine-1: Docker in the machine" in line for line in bench.lines)
        bench.machines.running["machine-1"].is_silent = False
        await restarted.close()

    play(tmp_path, story)


@pytest.mark.parametrize("call", ["wait", "attach?logs=1", "logs?follow=1", "stop"])
def test_a_call_that_can_wait_has_no_deadline(tmp_path: Path, call: str) -> None:
    async def story(bench: Bench) -> None:
        await silenced(bench)
        peer = await bench.open()
        method = "GET" if call.startswith("logs") else "POST"
        await peer.send(f"{method} /containers/quiet/{call} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(4 * PATIENCE):
                await read_head(peer)

    play(tmp_path, story)


def test_a_copy_of_an_image_ends(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("web")
        await bench.call("POST", "/images/create?fromImage=debian")
        bench.machines.running["machine-1"].silent_paths.append("/images/load")
        shared = {"Image": "debian", "HostConfig": {"NetworkMode": "container:web"}}
        refused = await bench.create("db", shared)
        assert (refused.status, "could not be copied" in refused.message) == (502, True)
        assert (await bench.create("app", BUSYBOX)).status == 201

    play(tmp_path, story)
