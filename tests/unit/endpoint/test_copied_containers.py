# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers of the image host, such as those of a build: a machine that is forked has copies."""

from __future__ import annotations

from pathlib import Path

import pytest

from stockyard.endpoint.server import Endpoint
from tests.helpers.endpoint_bench import BUSYBOX, Bench, play


async def created_with_a_copy(bench: Bench) -> str:
    """Create a container in a machine that has a container of the image host too, and return the
    id of the container.
    """
    host = bench.machines.host
    _status, copied = host._create("build", BUSYBOX)
    identifier = str((await bench.create("web")).json["Id"])
    daemon = bench.machines.running["machine-1"]
    daemon.containers = {copied["Id"]: host.containers[copied["Id"]], **daemon.containers}
    return identifier


def test_a_copy_is_not_a_container_of_clients(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        identifier = await created_with_a_copy(bench)
        listed = list(bench.machines.running["machine-1"].containers.values())
        bench.machines.running["machine-1"].forged["GET /system/df"] = {"Containers": listed}
        for path, key in (("/containers/json?all=1", ""), ("/system/df", "Containers")):
            answer = (await bench.call("GET", path)).json
            assert [entry["Id"] for entry in (answer[key] if key else answer)] == [identifier]
        assert (await bench.call("GET", "/info")).json["Containers"] == 1

    play(tmp_path, story)


def test_a_machine_with_a_copy_is_deleted_after_a_restart(tmp_path: Path) -> None:
    async def story(bench: Bench) -> None:
        identifier = await created_with_a_copy(bench)
        restarted = Endpoint(bench.machines, bench.lines.append)
        await restarted.start()
        assert [container.id for container in restarted.containers] == [identifier]
        restarted.life.removed(restarted.containers.find("web"))
        restarted.life._note_sent("machine-1", identifier)
        await bench.settled(0)
        await restarted.close()

    play(tmp_path, story)


@pytest.mark.parametrize(
    ("query", "removes"), [("?t=web&rm=0", True), ("", True), ("?version=2", False)]
)
def test_docker_removes_the_containers_of_a_build(
    tmp_path: Path, query: str, *, removes: bool
) -> None:
    async def story(bench: Bench) -> None:
        assert (await bench.call("POST", f"/build{query}")).status == 200
        lines = [text.partition("\r\n")[0] for text in bench.machines.host.received]
        (line,) = (line for line in lines if line.startswith("POST ") and "/build" in line)
        assert ("rm=1" in line and "forcerm=1" in line) == removes
        assert "rm=0" not in line

    play(tmp_path, story)
