# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that do not run: suspended ones, and ones that ended by themselves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from stockyard.endpoint import facts_keeper, machine_life
from stockyard.endpoint.server import Endpoint
from stockyard.endpoint.snapshots import is_complete, is_running
from stockyard.errors import HypervisorError
from stockyard.guest.security.reader.streams import Peer
from stockyard.model.host import SUSPENDED
from tests.helpers.endpoint_bench import BUSYBOX, Bench, call, play, read_head

ALWAYS = BUSYBOX | {"HostConfig": {"RestartPolicy": {"Name": "always"}}}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let facts be written at once."""
    monkeypatch.setattr(facts_keeper, "ASK_AFTER", 0.01)
    monkeypatch.setattr(facts_keeper, "SAVE_AFTER", 0.01)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def suspended(bench: Bench, machine: str = "machine-1") -> None:
    """Suspend a machine as after a minute of quiet."""
    async with asyncio.timeout(5):
        # A call can use the machine for a moment after its answer.
        while machine not in bench.machines.stopped[SUSPENDED]:
            await bench.endpoint.life._suspend(machine)
            await asyncio.sleep(0.01)


async def running(bench: Bench, name: str, config: dict[str, Any] = BUSYBOX) -> None:
    """Create and start a container, and wait until its facts are known."""
    await bench.create(name, config)
    await bench.call("POST", f"/containers/{name}/start")
    life = bench.endpoint.life

    def is_known() -> bool:
        facts = life.facts(bench.endpoint.containers.find(name))
        return is_complete(facts) and is_running(facts)

    await until(is_known)


async def killed(bench: Bench, machine: str = "machine-1") -> None:
    """Kill a machine, and wait until the endpoint noticed."""
    await bench.machines.kill(machine)
    await until(lambda: not bench.endpoint.life.power.is_up(machine))


async def read_chunk(peer: Peer) -> Any:
    """Return the JSON of a chunk; ``None`` for the last chunk."""
    size = int(await peer.reader.readuntil(b"\r\n"), 16)
    content = (await peer.reader.readexactly(size + 2))[:-2]
    return json.loads(content) if content else None


async def states(bench: Bench, query: str = "all=1") -> dict[str, str]:
    listed = (await bench.call("GET", f"/containers/json?{query}")).json
    return {entry["Names"][0]: entry["State"] for entry in listed}


def test_a_machine_without_running_containers_is_suspended(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.endpoint.life.power.quiet = 0.05
        restarted = Endpoint(bench.machines, bench.lines.append)
        restarted.life.power.quiet = 0.05
        await restarted.start()
        await bench.create("idle")
        await bench.create("busy")
        await bench.call("POST", "/containers/busy/start")
        await restarted.life.load()
        await until(lambda: "machine-1" in bench.machines.stopped[SUSPENDED])
        assert list(bench.machines.running) == ["machine-2"]
        await restarted.life.close()
        restarted.lines.close()

    play(tmp_path, story)


def test_a_suspended_machine_answers_without_being_resumed(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        config = BUSYBOX | {"Labels": {"job": "7"}}
        identifier = (await bench.create("web", config)).json["Id"]
        await bench.call("POST", "/containers/web/start")
        await bench.call("POST", "/containers/web/stop")
        await suspended(bench)
        inspected = (await bench.call("GET", "/containers/web/json")).json
        assert (inspected["Id"], inspected["State"]["Status"]) == (identifier, "exited")
        (entry,) = (await bench.call("GET", "/containers/json?all=1")).json
        assert entry["Status"].startswith("Exited (0)")
        assert await states(bench, "") == {}
        filters = {
            "label": ["job=7"],
            "status": ["exited"],
            "name": ["we"],
            "ancestor": ["busybox"],
        }
        assert await states(bench, f"filters={quote(json.dumps(filters))}") == {"/web": "exited"}
        wrong = quote(json.dumps({"label": ["job=8"]}))
        assert await states(bench, f"all=1&filters={wrong}") == {}
        assert (await bench.call("POST", "/containers/web/stop")).status == 304
        waited = await bench.call("POST", "/containers/web/wait")
        assert waited.json["StatusCode"] == 0
        refused = await bench.call("POST", "/containers/web/exec", {})
        assert (refused.status, refused.message) == (409, f"Container {identifier} is not running")
        info = (await bench.call("GET", "/info")).json
        assert (info["Containers"], info["ContainersStopped"]) == (1, 1)
        used = await bench.call("DELETE", "/images/busybox")
        assert (used.status, identifier[:12] in used.message) == (409, True)
        assert "machine-1" in bench.machines.stopped[SUSPENDED]

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/containers/web/start"),
        ("GET", "/containers/web/logs"),
        ("GET", "/containers/web/export"),
        ("POST", "/containers/web/rename?name=db"),
        ("POST", "/containers/web/update"),
    ],
)
def test_a_call_that_needs_a_suspended_machine_resumes_it(
    tmp_path: Path, method: str, path: str
) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("web")
        await suspended(bench)
        assert (await bench.call(method, path, {})).status < 300
        assert "machine-1" in bench.machines.running
        # Its events are received again.
        await until(lambda: bench.machines.running["machine-1"].listeners)

    play(tmp_path, story)


def test_simultaneous_calls_resume_a_machine_once(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("web")
        await suspended(bench)
        calls = (bench.call("POST", "/containers/web/start") for _number in range(5))
        assert {answer.status for answer in await asyncio.gather(*calls)} == {204}
        assert list(bench.machines.running) == ["machine-1"]

    play(tmp_path, story)


def test_a_used_machine_is_not_suspended(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("web")
        async with bench.endpoint.life.use("machine-1"):
            await bench.endpoint.life._suspend("machine-1")
        await bench.call("POST", "/containers/web/start")
        await bench.endpoint.life._suspend("machine-1")
        assert "machine-1" in bench.machines.running

    play(tmp_path, story)


def test_a_machine_whose_container_just_exited_is_not_suspended(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await running(bench, "job")
        life = bench.endpoint.life
        save = life.keeper.save

        async def save_and_exit(machine: str) -> None:
            await save(machine)
            docker = bench.machines.running[machine]
            docker.exit(life.containers.find("job").id)

        life.keeper.save = save_and_exit  # type: ignore[method-assign]
        await life._suspend("machine-1")
        assert "machine-1" in bench.machines.running
        life.keeper.save = save  # type: ignore[method-assign]
        await suspended(bench)

    play(tmp_path, story)


def test_a_container_that_docker_removes_is_gone_before_a_suspension(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await running(bench, "job", BUSYBOX | {"HostConfig": {"AutoRemove": True}})
        docker = bench.machines.running["machine-1"]
        identifier = bench.endpoint.containers.find("job").id
        docker.containers[identifier]["State"] = "exited"
        for _attempt in range(3):
            await bench.endpoint.life._suspend("machine-1")
        assert "machine-1" in bench.machines.running
        docker.exit(identifier)
        await until(lambda: bench.machines.deleted == ["machine-1"])

    play(tmp_path, story)


def test_a_container_of_a_suspended_machine_is_removed_with_it(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("web")
        await bench.create("db")
        await suspended(bench, "machine-1")
        await suspended(bench, "machine-2")
        assert (await bench.call("DELETE", "/containers/web")).status == 204
        assert bench.endpoint.bus.recent[-1]["Action"] == "destroy"
        # Prune removes created containers too, as Docker does.
        assert len((await bench.call("POST", "/containers/prune")).json["ContainersDeleted"]) == 1
        await until(lambda: sorted(bench.machines.deleted) == ["machine-1", "machine-2"])
        assert bench.machines.running == {}

    play(tmp_path, story)


def test_one_of_several_containers_of_a_suspended_machine_is_removed(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        web = (await bench.create("web")).json["Id"]
        await bench.create("db", BUSYBOX | {"HostConfig": {"NetworkMode": f"container:{web}"}})
        await suspended(bench)
        assert (await bench.call("DELETE", "/containers/db")).status == 204
        assert await states(bench) == {"/web": "created"}

    play(tmp_path, story)


def test_a_restarted_endpoint_knows_suspended_machines(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        identifier = (await bench.create("web")).json["Id"]
        await suspended(bench)
        restarted = Endpoint(bench.machines, bench.lines.append)
        await restarted.start()
        facts = restarted.life.facts(restarted.containers.find("web"))
        assert (facts["Id"], facts["Config"]["Image"]) == (identifier, "busybox")
        assert bench.machines.running == {}
        await restarted.life.close()

    play(tmp_path, story)


def test_a_machine_that_cannot_be_suspended_continues(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("web")
        bench.machines.failures.append(HypervisorError("the storage is full."))
        # A call can use the machine for a moment after its answer.
        while bench.machines.failures:
            await bench.endpoint.life._suspend("machine-1")
        assert "is not suspended: the storage is full." in bench.lines[-1]
        assert (await bench.call("POST", "/containers/web/start")).status == 204

    play(tmp_path, story)


def test_the_containers_of_a_killed_machine_have_exited(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await running(bench, "web")
        await killed(bench)
        state = (await bench.call("GET", "/containers/web/json")).json["State"]
        assert (state["Status"], state["ExitCode"], state["Running"]) == ("exited", 137, False)
        (entry,) = (await bench.call("GET", "/containers/json?all=1")).json
        assert entry["Status"].startswith("Exited (137)")
        event = bench.endpoint.bus.recent[-1]
        assert (event["Action"], event["Actor"]["Attributes"]["exitCode"]) == ("die", "137")
        assert (await bench.call("POST", "/containers/web/wait")).json["StatusCode"] == 137
        # The machine is booted again, and its disk has the container.
        assert (await bench.call("POST", "/containers/web/start")).status == 204
        assert await states(bench) == {"/web": "running"}

    play(tmp_path, story)


def test_a_call_notices_that_the_machine_was_killed(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await running(bench, "web")
        await bench.machines.kill("machine-1")
        assert (await bench.call("POST", "/containers/web/stop")).status == 304
        await bench.create("db")
        await bench.machines.kill("machine-2")
        assert (await bench.call("POST", "/containers/db/start")).status == 204

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("method", "call_name", "status"),
    [("GET", "json", 200), ("POST", "stop", 304), ("POST", "kill", 409)],
)
def test_a_call_that_a_kill_interrupts_is_answered(
    tmp_path: Path, method: str, call_name: str, status: int
) -> None:
    async def story(bench: Bench) -> None:
        await running(bench, "web")
        path, daemon = f"/containers/web/{call_name}", bench.machines.running["machine-1"]
        daemon.is_silent = True
        calling = asyncio.create_task(bench.call(method, path))
        await until(lambda: f"{method} {path}" in daemon.calls)
        await bench.machines.kill("machine-1")
        answer = await calling
        assert answer.status == status
        if answer.status == 200:
            assert answer.json["State"]["ExitCode"] == 137

    play(tmp_path, story)


def test_a_call_fails_if_only_docker_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_life, "NOTICE", 0.0)

    async def story(bench: Bench) -> None:
        await running(bench, "web")
        daemon = bench.machines.running["machine-1"]
        daemon.is_silent = True
        calling = asyncio.create_task(bench.call("GET", "/containers/web/json"))
        await until(lambda: "GET /containers/web/json" in daemon.calls)
        await daemon.stop()
        assert (await calling).status == 502

    play(tmp_path, story)


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_restarted_endpoint_knows_names_that_start_other_ids(
    tmp_path: Path, is_silent: bool
) -> None:
    """A usual name, such as db, can be the start of an id."""

    async def story(bench: Bench) -> None:
        identifier = (await bench.create("first")).json["Id"]
        await bench.call("POST", "/volumes/create", {"Name": "data"})
        host = {"Binds": ["data:/data"]}
        for name in ("web", identifier[:2]):
            assert (await bench.create(name, BUSYBOX | {"HostConfig": host})).status == 201
        await bench.endpoint.life.keeper.save("machine-2")
        if is_silent:
            bench.machines.running["machine-2"].is_silent = True
        restarted = Endpoint(bench.machines, bench.lines.append)
        restarted.lines.patience = restarted.life.watch_wait = 0.1
        await restarted.start()
        container = restarted.containers.find(identifier[:2])
        assert (container.machine, container.volumes) == ("machine-2", frozenset({"data"}))
        await restarted.close()

    play(tmp_path, story)


def test_a_killed_container_with_a_restart_policy_runs_again(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("web", ALWAYS)
        await bench.call("POST", "/containers/web/start")
        await until(
            lambda: bench.endpoint.life.snapshots.get(next(iter(bench.endpoint.containers)).id)
        )
        await bench.machines.kill("machine-1")
        await until(lambda: "machine-1" in bench.machines.running)
        assert await states(bench) == {"/web": "running"}

    play(tmp_path, story)


def test_a_restarted_hypervisor_starts_containers_by_their_policy(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        for name, config in (("always", ALWAYS), ("no", BUSYBOX)):
            await running(bench, name, config)
        await bench.endpoint.life.close()
        await bench.machines.kill("machine-1")
        await bench.machines.kill("machine-2")
        restarted = Endpoint(bench.machines, bench.lines.append)
        await restarted.start()
        await until(lambda: list(bench.machines.running) == ["machine-1"])
        facts: dict[str, Any] = restarted.life.facts(restarted.containers.find("no"))
        assert (facts["State"]["Status"], facts["State"]["ExitCode"]) == ("exited", 137)
        await restarted.life.close()
        restarted.lines.close()

    play(tmp_path, story)


def test_a_killed_machine_of_a_container_that_removes_itself_is_deleted(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("job", BUSYBOX | {"HostConfig": {"AutoRemove": True}})
        await bench.call("POST", "/containers/job/start")
        await until(
            lambda: bench.endpoint.life.snapshots.get(next(iter(bench.endpoint.containers)).id)
        )
        await bench.machines.kill("machine-1")
        await until(lambda: bench.machines.deleted == ["machine-1"])
        assert [event["Action"] for event in bench.endpoint.bus.recent][-2:] == ["die", "destroy"]
        assert (await bench.call("GET", "/containers/job/json")).status == 404

    play(tmp_path, story)


def test_the_container_of_a_deleted_machine_is_gone(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await bench.create("web")
        await bench.create("db")
        await bench.machines.running.pop("machine-1").stop()
        await until(lambda: "machine-1" in bench.machines.deleted)
        assert await states(bench) == {"/db": "created"}

    play(tmp_path, story)


def test_a_wait_ends_with_its_container(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await running(bench, "web")
        peer = await bench.open()
        await peer.send(b"POST /containers/web/wait HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await read_head(peer)).status == 200
        (daemon,) = bench.machines.running.values()
        daemon.exit(next(iter(daemon.containers)))
        assert await read_chunk(peer) == {"StatusCode": 0}
        assert await read_chunk(peer) is None
        # The connection can be used further.
        assert (await call(peer, "GET", "/_ping")).status == 200

    play(tmp_path, story)


@pytest.mark.parametrize("removes_itself", [False, True])
def test_a_wait_ends_when_the_machine_is_killed(tmp_path: Path, removes_itself: bool) -> None:
    async def story(bench: Bench) -> None:
        await running(bench, "web", BUSYBOX | {"HostConfig": {"AutoRemove": removes_itself}})
        peer = await bench.open()
        await peer.send(b"POST /containers/web/wait HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await read_head(peer)).status == 200
        await bench.machines.kill("machine-1")
        assert (await read_chunk(peer) or {})["StatusCode"] == 137

    play(tmp_path, story)


def test_a_wait_breaks_if_only_docker_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_life, "NOTICE", 0.0)

    async def story(bench: Bench) -> None:
        await running(bench, "web")
        peer = await bench.open()
        await peer.send(b"POST /containers/web/wait HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await read_head(peer)).status == 200
        await bench.machines.running["machine-1"].stop()
        assert await peer.reader.read() == b""

    play(tmp_path, story)


WITH_DATA = BUSYBOX | {"HostConfig": {"Binds": ["data:/data"]}}


def test_volumes_of_a_suspended_machine_follow_its_containers(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        bench.endpoint.volumes.release_wait = 0.01
        attached = bench.machines.volumes.attached
        await bench.create("web", WITH_DATA)
        await suspended(bench)
        # The container was not started yet, so the volume stays there.
        joined = await bench.create("db", WITH_DATA)
        assert (joined.status, list(bench.machines.running)) == (201, ["machine-1"])
        await running(bench, "more", WITH_DATA)
        for name in ("web", "db"):
            await bench.call("DELETE", f"/containers/{name}")
        await bench.call("POST", "/containers/more/stop")
        await until(lambda: not attached)
        await suspended(bench)
        assert (await bench.call("POST", "/containers/more/start")).status == 204
        assert attached["data"][0] == "machine-1"

    play(tmp_path, story)


def test_volumes_of_a_killed_machine_can_be_used_elsewhere(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        await running(bench, "web", WITH_DATA)
        await killed(bench)
        await running(bench, "db", WITH_DATA)
        assert bench.machines.volumes.attached["data"][0] == "machine-2"

    play(tmp_path, story)


def test_a_paused_machine_continues_for_the_next_call(tmp_path: Path) -> None:
    """QEMU pauses a machine if the disk of the hypervisor is full."""

    async def story(bench: Bench) -> None:
        await running(bench, "web")
        bench.machines.stopped["paused"] = {}
        await bench.machines._stop("machine-1", "paused")
        (entry,) = (await bench.call("GET", "/containers/json")).json
        assert (entry["Names"], entry["State"]) == (["/web"], "running")
        assert (await bench.call("POST", "/containers/web/exec", {})).status == 201
        assert "machine-1" in bench.machines.running
        events = [event["Action"] for event in bench.endpoint.bus.recent]
        assert "die" not in events

    play(tmp_path, story)
