# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A service that lives for months keeps nothing of containers that were removed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sized
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from stockyard.endpoint import container_calls
from tests.helpers.endpoint_bench import BUSYBOX, Bench, play


def sizes(value: Any, path: str, known: set[int]) -> Iterator[tuple[str, int]]:
    """Return the size of each collection in the objects of the endpoint."""
    if id(value) in known or not type(value).__module__.startswith("stockyard.endpoint"):
        return
    known.add(id(value))
    for name, part in vars(value).items():
        if isinstance(part, (dict, set, list, WeakValueDictionary)):
            yield f"{path}.{name}", len(part)
        elif isinstance(part, deque):
            assert part.maxlen, f"{path}.{name} has no bound"
        elif not isinstance(part, Sized) or hasattr(part, "__dict__"):
            yield from sizes(part, f"{path}.{name}", known)


async def use(bench: Bench, number: int) -> None:
    """Create, use and remove a container with a volume, a network and a port."""
    name = f"c{number}"
    await bench.call("POST", "/networks/create", {"Name": f"net{number}"})
    host = {
        "NetworkMode": f"net{number}",
        "Binds": [f"data{number}:/data"],
        "PortBindings": {"80/tcp": [{"HostPort": str(40000 + number)}]},
    }
    assert (await bench.create(name, BUSYBOX | {"HostConfig": host})).status == 201
    partner = BUSYBOX | {"HostConfig": host | {"PortBindings": {"81/tcp": [{"HostPort": "0"}]}}}
    assert (await bench.create(f"{name}-partner", partner)).status == 201
    assert (await bench.call("POST", f"/containers/{name}/start")).status == 204
    assert (await bench.call("POST", f"/containers/{name}/exec", {})).status == 201
    for container in (name, f"{name}-partner"):
        assert (await bench.call("DELETE", f"/containers/{container}")).status == 204
    await bench.settled(0)
    assert (await bench.call("DELETE", f"/networks/net{number}")).status == 204
    assert (await bench.call("DELETE", f"/volumes/data{number}")).status == 204
    for peer in bench.peers:
        peer.abort()
    bench.peers.clear()


def test_nothing_remains_of_removed_containers(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(container_calls, "NOTED_EXECS", 1)

    async def story(bench: Bench) -> None:
        await use(bench, 0)
        before = dict(sizes(bench.endpoint, "endpoint", set()))
        for number in range(1, 6):
            await use(bench, number)
        end = asyncio.get_running_loop().time() + 5
        while growth := grown(bench, before):
            assert asyncio.get_running_loop().time() < end, growth
            await asyncio.sleep(0.2)

    play(tmp_path, story)


def grown(bench: Bench, before: dict[str, int]) -> dict[str, int]:
    """Return the collections that are larger than before."""
    after = dict(sizes(bench.endpoint, "endpoint", set()))
    return {name: size for name, size in after.items() if size > before.get(name, 0)}
