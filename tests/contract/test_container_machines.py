# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Placement, names, admission and records of an endpoint's machines, without a guest's Docker."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from stockyard import (
    EndpointSpec,
    HostSpec,
    ImageSpec,
    PoolQuotaExceeded,
    PoolSpec,
    TemplateSpec,
    Yard,
)
from stockyard.endpoint.machines import GONE, RUNNING, Fork
from stockyard.endpoint.yard_machines import YardMachines
from stockyard.model.container_machine import CONTAINER_ID, CONTAINER_NAME
from tests.contract.bench import Bench
from tests.vcsim.simulator import SOURCE

# With libvirt, tests/e2e has the same with Docker in the guests.
pytestmark = pytest.mark.parametrize("bench", ["memory", "vsphere"], indirect=True)
ENDPOINT, IMAGES = "doors", "images"


@pytest.fixture
def yard(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Yard]:
    """A yard whose pool has room for the image host and two machines."""
    for name, value in getattr(bench, "environment", {}).items():
        monkeypatch.setenv(name, value)
    source = SOURCE if bench.uri.startswith("vsphere") else ""
    with Yard(bench.uri, owner="endpoint", pki_dir=str(tmp_path / "pki")) as opened:
        opened.templates.apply(TemplateSpec("base", image=ImageSpec(source=source)))
        opened.pools.apply(PoolSpec("ci", hosts=3))
        spec = EndpointSpec(
            ENDPOINT, IMAGES, "base", socket="/run/unused.sock", host=HostSpec(pool="ci")
        )
        opened.endpoints.apply(spec)
        assert not opened.endpoints.apply(spec).changed
        yield opened
        opened.teardown(templates=True)


def machines(yard: Yard) -> YardMachines:
    return YardMachines(yard.context, "default", ENDPOINT, IMAGES)


def test_machines_are_named_admitted_and_recorded(yard: Yard) -> None:
    async def story() -> None:
        endpoint = machines(yard)
        await endpoint.renew_generation()
        web = await endpoint.fork(Fork("Web_1"))
        twin = await endpoint.fork(Fork("Web_1"))
        assert len({IMAGES, web.name, twin.name}) == 3
        with pytest.raises(PoolQuotaExceeded):
            await endpoint.fork(Fork("third"))
        await endpoint.note(web.name, {CONTAINER_ID: "0123"}, "text")
        # A restarted endpoint has only the records.
        records = {machine.name: machine for machine in await machines(yard).all()}
        assert records.keys() == {web.name, twin.name}
        noted = records[web.name]
        assert (noted.facts[CONTAINER_NAME], noted.facts[CONTAINER_ID]) == ("Web_1", "0123")
        assert (noted.containers, noted.state) == ("text", RUNNING)
        await endpoint.delete(web.name)
        assert await endpoint.state(web.name) == GONE
        third = await endpoint.fork(Fork("third"))
        for machine in (twin, third):
            await endpoint.delete(machine.name)
        await endpoint.close()
        assert [host.name for host in yard.hosts.list()] == [IMAGES]
        assert yard.context.provider.branches.all() == []

    asyncio.run(story())


def test_machines_end_by_a_reaper_or_with_their_endpoint(yard: Yard) -> None:
    async def story() -> None:
        endpoint = machines(yard)
        spare, web = await endpoint.fork(Fork("")), await endpoint.fork(Fork("web"))
        await endpoint.note(web.name, {CONTAINER_ID: "0123"}, "")
        yard.reap(grace=0.0)
        assert {host.name for host in yard.hosts.list()} == {IMAGES, web.name}
        assert await endpoint.state(spare.name) == GONE
        await endpoint.close()
        yard.endpoints.delete(ENDPOINT)
        assert list(yard.hosts.list()) == []

    asyncio.run(story())
