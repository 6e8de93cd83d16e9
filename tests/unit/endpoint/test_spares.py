# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Spares of an endpoint, with stand-ins for dockerd in its machines."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from stockyard.endpoint import spares
from stockyard.endpoint.machines import Fork, Machine
from stockyard.endpoint.sizes import Demand
from stockyard.errors import PoolQuotaExceeded
from tests.helpers.endpoint_bench import BUSYBOX, Bench, play
from tests.helpers.fake_dockerd import FakeMachines


async def ready(bench: Bench, count: int) -> None:
    """Wait until there are spares."""
    async with asyncio.timeout(5):
        while len(bench.endpoint.spares._ready) != count:
            await asyncio.sleep(0.01)


def machine_of(bench: Bench, name: str) -> str:
    return bench.endpoint.containers.find(name).machine


def test_a_container_gets_a_spare_and_another_one_is_forked(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await ready(bench, 2)
        assert [fork.container for fork in bench.machines.forks] == ["", ""]
        assert (await bench.call("GET", "/containers/json?all=1")).json == []
        assert (await bench.create("web")).status == 201
        assert machine_of(bench, "web") == "machine-1"
        await ready(bench, 2)
        assert bench.machines.generations == 1
        await bench.call("DELETE", "/containers/web")
        await bench.settled(2)
        assert bench.machines.deleted == ["machine-1"]

    play(tmp_path, story, spares=2)


def test_a_spare_has_started_a_container_before(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await ready(bench, 1)
        daemon = bench.machines.running["machine-1"]
        assert daemon.calls[1].startswith("POST /containers/create")
        assert daemon.calls[2].endswith("/start")
        assert daemon.calls[3].startswith("DELETE /containers/")
        assert daemon.containers == {}
        assert [event["Type"] for event in bench.endpoint.bus.recent] == []

    play(tmp_path, story, spares=1)


def test_more_containers_than_spares_are_created_at_once(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await ready(bench, 2)
        answers = await asyncio.gather(*(bench.create(f"c{number}") for number in range(5)))
        assert [answer.status for answer in answers] == [201] * 5
        machines = {machine_of(bench, f"c{number}") for number in range(5)}
        assert len(machines) == 5

    play(tmp_path, story, spares=2)


def test_a_container_waits_for_a_spare_that_is_being_forked(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        async with asyncio.timeout(5):
            while not bench.machines.forks:
                await asyncio.sleep(0.001)
        await bench.create("web")
        assert [fork.container for fork in bench.machines.forks] == [""]

    play(tmp_path, story, spares=1)


def test_spares_without_the_present_images_are_replaced(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await ready(bench, 1)
        await bench.call("POST", "/images/create?fromImage=new")
        await bench.create("web", {"Image": "new"})
        assert (machine_of(bench, "web"), bench.machines.deleted) == ("machine-2", ["machine-1"])
        await ready(bench, 1)
        await bench.call("POST", "/images/create?fromImage=newer")
        async with asyncio.timeout(5):
            while bench.machines.generations < 3:
                await asyncio.sleep(0.01)
        await ready(bench, 1)
        assert "newer" in bench.machines.running["machine-4"].images

    play(tmp_path, story, spares=1)


def test_limits_and_ports_are_added_to_a_spare(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await ready(bench, 1)
        host: dict[str, Any] = {"Memory": 1 << 30, "PortBindings": {"80/tcp": [{"HostPort": "81"}]}}
        assert (await bench.create("web", BUSYBOX | {"HostConfig": host})).status == 201
        assert bench.machines.demands["machine-1"] == Demand(memory_mib=1024)
        assert bench.machines.ports("machine-1") == frozenset({81})

    play(tmp_path, story, spares=1)


def test_a_refused_container_uses_its_spare_up(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await ready(bench, 1)
        assert (await bench.create("web", BUSYBOX | {"Cmd": ["nonsense"]})).status == 400
        async with asyncio.timeout(5):
            while bench.machines.deleted != ["machine-1"]:
                await asyncio.sleep(0.01)

    play(tmp_path, story, spares=1)


def test_spares_make_room_in_a_full_pool(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await ready(bench, 2)
        # The first container takes a spare, and grows.
        bench.machines.failures.append(PoolQuotaExceeded("full"))
        large = BUSYBOX | {"HostConfig": {"Memory": 1 << 30}}
        assert (await bench.create("first", large)).status == 201
        assert bench.machines.deleted == ["machine-2"]
        # Without spares, the second one is refused.
        bench.machines.failures.append(PoolQuotaExceeded("full"))
        assert (await bench.create("second")).status == 409

    play(tmp_path, story, spares=2)


def test_a_spare_that_ended_is_not_handed_out(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await ready(bench, 1)
        await bench.machines.kill("machine-1")
        assert (await bench.create("web")).status == 201
        assert machine_of(bench, "web") == "machine-2"

    play(tmp_path, story, spares=1)


def test_a_failed_fork_of_a_spare_is_reported_and_tried_again(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        async with asyncio.timeout(5):
            while not bench.lines:
                await asyncio.sleep(0.01)
        assert bench.lines == ["no spare was forked: full"]
        bench.endpoint.spares._next_fork = 0.0
        await ready(bench, 1)

    play(tmp_path, story, spares=1, failures=[PoolQuotaExceeded("full")])


def test_spares_are_deleted_when_the_endpoint_ends(tmp_path: Path) -> None:
    machines: list[Any] = []

    async def story(bench: Bench) -> None:
        await ready(bench, 2)
        machines.append(bench.machines)

    play(tmp_path, story, spares=2)
    assert sorted(machines[0].deleted) == ["machine-1", "machine-2"]


def test_a_reaper_is_told_that_spares_are_needed(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await ready(bench, 1)
        bench.endpoint.spares._next_note = 0.0
        async with asyncio.timeout(5):
            while bench.machines.kept.count("machine-1") < 1:
                await asyncio.sleep(0.01)

    assert spares.NOTE < 600
    play(tmp_path, story, spares=1)


def test_a_spare_that_ends_before_it_is_complete_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork = FakeMachines.fork

    async def fork_and_end(machines: FakeMachines, request: Fork) -> Machine:
        machine = await fork(machines, request)
        if machine.name == "machine-1":
            await machines.kill(machine.name)
        return machine

    monkeypatch.setattr(FakeMachines, "fork", fork_and_end)

    async def story(bench: Bench) -> None:
        async with asyncio.timeout(5):
            while bench.machines.deleted != ["machine-1"]:
                await asyncio.sleep(0.01)
        assert len(bench.lines) == 1

    play(tmp_path, story, spares=1)


def test_a_spare_that_does_not_answer_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork = FakeMachines.fork

    async def fork_silent(machines: FakeMachines, request: Fork) -> Machine:
        machine = await fork(machines, request)
        machines.running[machine.name].is_silent = machine.name == "machine-1"
        return machine

    monkeypatch.setattr(FakeMachines, "fork", fork_silent)
    monkeypatch.setattr(spares, "PATIENCE", 0.1)

    async def story(bench: Bench) -> None:
        async with asyncio.timeout(5):
            while bench.machines.deleted != ["machine-1"]:
                await asyncio.sleep(0.01)
        assert (await bench.create("web")).status == 201

    play(tmp_path, story, spares=1)
