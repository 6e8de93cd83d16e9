# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers that bind the socket of the endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stockyard.endpoint.docker_socket import USUAL_PATHS
from stockyard.endpoint.machines import BoundSocket
from tests.helpers.endpoint_bench import BUSYBOX, Bench, play

PATH = "/var/lib/endpoint.sock"
BOUND = BoundSocket(USUAL_PATHS | {"/home/me/doors.sock"}, PATH)


def mount(source: str) -> dict[str, str]:
    return {"Type": "bind", "Source": source, "Target": "/var/run/docker.sock"}


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (
            {"Binds": ["data:/data", "/var/run/docker.sock:/var/run/docker.sock"]},
            {"Binds": ["data:/data", f"{PATH}:/var/run/docker.sock"]},
        ),
        (
            {"Binds": ["/home/me/doors.sock:/var/run/docker.sock:ro"]},
            {"Binds": [f"{PATH}:/var/run/docker.sock:ro"]},
        ),
        ({"Mounts": [mount("/run/docker.sock")]}, {"Mounts": [mount(PATH)]}),
        ({"Binds": [f"{PATH}:/x"]}, {"Binds": [f"{PATH}:/x"]}),
    ],
)
def test_the_socket_is_opened_in_the_machine_of_the_container(
    tmp_path: Path, host: dict[str, Any], expected: dict[str, Any]
) -> None:
    async def story(bench: Bench) -> None:
        bench.machines.socket = BOUND
        assert (await bench.create("plain")).status == 201
        assert bench.machines.opened_sockets == []
        assert (await bench.create("web", BUSYBOX | {"HostConfig": host})).status == 201
        assert bench.machines.opened_sockets == ["machine-2"]
        (container,) = bench.machines.running["machine-2"].containers.values()
        assert {key: container["HostConfig"][key] for key in expected} == expected
        # The tunnel can have ended since then.
        assert (await bench.call("POST", "/containers/web/start")).status == 204
        assert (await bench.call("POST", "/containers/plain/start")).status == 204
        assert bench.machines.opened_sockets == ["machine-2"] * 2

    play(tmp_path, story)


@pytest.mark.parametrize("path", sorted(USUAL_PATHS))
def test_the_socket_cannot_be_bound_without_a_declaration(tmp_path: Path, path: str) -> None:
    async def story(bench: Bench) -> None:
        for host in ({"Binds": [f"{path}:/x"]}, {"Mounts": [mount(path)]}):
            refusal = await bench.create("web", BUSYBOX | {"HostConfig": host})
            assert refusal.status == 400
            assert "does not set socket_in_containers" in refusal.message
        assert bench.machines.forks == []

    play(tmp_path, story)


@pytest.mark.parametrize("path", ["/run", "/var/run", "/run/docker.sock/..", "/var/lib", "/"])
def test_no_other_file_is_bound_with_the_socket(tmp_path: Path, path: str) -> None:
    async def story(bench: Bench) -> None:
        bench.machines.socket = BOUND
        host = {"Binds": ["/run/docker.sock:/run/docker.sock", f"{path}:/x"]}
        refusal = await bench.create("web", BUSYBOX | {"HostConfig": host})
        assert refusal.status == 400
        assert f"The directory {path} cannot be bound" in refusal.message
        assert bench.machines.forks == []

    play(tmp_path, story)
