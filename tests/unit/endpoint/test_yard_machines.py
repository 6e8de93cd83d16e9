# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines of an endpoint on a yard: forks of a branch of the image host."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from stockyard import (
    Conflict,
    HostSpec,
    NotFound,
    OperationRefused,
    PoolQuotaExceeded,
    PoolSpec,
    SecuritySpec,
    SingleSpec,
    TemplateSpec,
    Yard,
)
from stockyard.endpoint.docker_socket import USUAL_PATHS
from stockyard.endpoint.machines import GONE, IMAGE_HOST, BoundSocket, Fork
from stockyard.endpoint.sizes import Demand
from stockyard.endpoint.socket_tunnels import GUEST_SOCKET, SocketTunnels
from stockyard.endpoint.yard_machines import YardMachines
from stockyard.errors import Unsupported
from stockyard.model.container_machine import CONTAINER_ID, ENDPOINT_LABEL
from stockyard.model.host import HostRecord
from stockyard.model.size import Size
from stockyard.resources.fleets.host_generation import HostGeneration


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    uri = f"memory://{tmp_path}/yard.json"
    with Yard(uri, pki_dir=str(tmp_path / "pki")) as yard:
        yard.templates.apply(TemplateSpec("docker", max_memory_mib=4096))
        yard.pools.apply(PoolSpec("ci", hosts=3))
        yard.hosts.apply(SingleSpec("images", "docker", host=HostSpec(pool="ci")))
        yield yard


def machines(yard: Yard, name: str = "doors") -> YardMachines:
    return YardMachines(yard.context, "default", name, "images")


def test_machines_are_forks_of_one_generation(yard: Yard) -> None:
    async def story() -> None:
        endpoint = machines(yard)
        await endpoint.renew_generation()
        first, second = await asyncio.gather(
            endpoint.fork(Fork("Web_1")), endpoint.fork(Fork("db"))
        )
        records = {host.name: host for host in yard.hosts.list()}
        assert records.keys() == {"images", first.name, second.name}
        assert records[first.name].labels[ENDPOINT_LABEL] == "doors"
        assert records[first.name].pool == "ci"
        with pytest.raises(PoolQuotaExceeded):
            await endpoint.fork(Fork("third"))
        await endpoint.note(first.name, {CONTAINER_ID: "0123"}, "")
        # A restarted endpoint knows its machines; another one does not.
        assert {machine.name for machine in await machines(yard).all()} == {first.name, second.name}
        (noted,) = [m for m in await machines(yard).all() if m.name == first.name]
        assert noted.facts == {"container": "Web_1", "image-host": "images", CONTAINER_ID: "0123"}
        assert await machines(yard, "other").all() == []
        for name in (first.name, second.name, "unknown"):
            await endpoint.delete(name)
        await endpoint.close()
        assert [host.name for host in yard.hosts.list()] == ["images"]
        assert yard.context.provider.branches.all() == []

    asyncio.run(story())


def test_machines_of_builds_end_with_the_endpoint(yard: Yard) -> None:
    async def story() -> None:
        assert not await machines(yard).builds_apart()
        endpoint = machines(yard)
        build = await endpoint.fork(Fork("", builds=True))
        container = await endpoint.fork(Fork("web"))
        await endpoint.note(container.name, {CONTAINER_ID: "0123"}, "")
        # A build can be longer than the grace of the reaper.
        yard.reap(grace=0.0)
        assert {host.name for host in yard.hosts.list()} == {"images", build.name, container.name}
        assert [machine.name for machine in await machines(yard).all()] == [container.name]
        assert {host.name for host in yard.hosts.list()} == {"images", container.name}
        await endpoint.close()

    asyncio.run(story())


@pytest.mark.parametrize("profile", ["shared", "hostile"])
def test_builds_of_other_profiles_need_a_machine(yard: Yard, profile: str) -> None:
    yard.templates.apply(TemplateSpec("strict", security=SecuritySpec(profile)))
    yard.hosts.apply(SingleSpec("strict-images", "strict"))
    endpoint = YardMachines(yard.context, "default", "strict", "strict-images")

    async def story() -> None:
        assert await endpoint.builds_apart()
        machine = await endpoint.fork(Fork("web"))
        await endpoint.delete(machine.name)
        await endpoint.close()

    asyncio.run(story())


def test_a_new_generation_replaces_the_previous_one(yard: Yard) -> None:
    async def story() -> None:
        endpoint = machines(yard)
        await endpoint.renew_generation()
        machine = await endpoint.fork(Fork("web"))
        await endpoint.renew_generation()
        assert len(yard.context.provider.branches.all()) == 2
        await endpoint.delete(machine.name)
        yard.context.provider.branches.prune(yard.context.owner)
        assert len(yard.context.provider.branches.all()) == 1
        await endpoint.close()

    asyncio.run(story())


def test_a_generation_is_released_after_its_last_fork(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_host, begun, renewed = HostGeneration.create_host, Event(), Event()

    def create_late(self: HostGeneration, *arguments: Any) -> HostRecord:
        begun.set()
        assert renewed.wait(10)
        return create_host(self, *arguments)

    async def story() -> None:
        endpoint, branches = machines(yard), yard.context.provider.branches
        await endpoint.renew_generation()
        with monkeypatch.context() as patch:
            patch.setattr(HostGeneration, "create_host", create_late)
            forking = asyncio.create_task(endpoint.fork(Fork("web")))
            assert await asyncio.to_thread(begun.wait, 10)
            await endpoint.renew_generation()
            assert [branch.phase for branch in branches.all()] == ["frozen", "frozen"]
            renewed.set()
            machine = await forking
        await endpoint.delete(machine.name)
        branches.prune(yard.context.owner)
        assert len(branches.all()) == 1
        await endpoint.close()

    asyncio.run(story())


def test_ports_are_published_at_the_address_of_the_endpoint(yard: Yard) -> None:
    async def story() -> None:
        endpoint = machines(yard)
        machine = await endpoint.fork(Fork("web", (8080,)))
        assert yard.hosts.get(machine.name).published == ("127.0.0.1:8080",)
        with pytest.raises(Conflict):
            await endpoint.fork(Fork("web2", (8080,)))
        second = await endpoint.fork(Fork("db"))
        await endpoint.set_ports(second.name, frozenset((8081, 8082)))
        assert endpoint.ports(second.name) == {8081, 8082}
        assert yard.hosts.get(second.name).published == ("127.0.0.1:8081", "127.0.0.1:8082")
        with pytest.raises(Conflict):
            await endpoint.set_ports(second.name, frozenset((8080, 8081)))
        await endpoint.set_ports(second.name, frozenset((8082,)))
        await endpoint.set_ports(machine.name, frozenset((8080, 8081)))
        with pytest.raises(NotFound):
            await endpoint.set_ports("unknown", frozenset((8083,)))
        await endpoint.close()

    asyncio.run(story())


def test_an_image_host_that_does_not_run_is_reported(yard: Yard) -> None:
    async def story() -> None:
        endpoint = YardMachines(yard.context, "default", "doors", "nothing")
        with pytest.raises(ConnectionError, match="nothing"):
            await endpoint.connect(IMAGE_HOST)
        with pytest.raises(ConnectionError):
            await endpoint.connect("unknown")
        with pytest.raises(NotFound):
            await endpoint.renew_generation()

    asyncio.run(story())


def test_limits_size_the_machine_within_the_pool(yard: Yard) -> None:
    async def story() -> None:
        yard.pools.apply(PoolSpec("ci", hosts=3, vcpus=4, memory_mib=6144))
        endpoint = machines(yard)
        # The memory of the system is added, and memory grows in steps.
        machine = await endpoint.fork(Fork("web", demand=Demand(2.0, 0, 2048)))
        host = yard.hosts.get(machine.name)
        assert (host.size.vcpus, host.size.memory_mib) == (2, 2304)
        await endpoint.resize(machine.name, Demand(1.0, 0, 256))
        assert yard.hosts.get(machine.name).size.memory_mib == 1024
        with pytest.raises(PoolQuotaExceeded):
            await endpoint.resize(machine.name, Demand(4.0))
        with pytest.raises(PoolQuotaExceeded):
            await endpoint.fork(Fork("big", demand=Demand(4.0)))
        for demand in (Demand(9.0), Demand(processors=9), Demand(memory_mib=8192)):
            with pytest.raises(Unsupported, match="cannot have"):
                await endpoint.fork(Fork("huge", demand=demand))
        assert await endpoint.capacity() == Size(4, 6144)
        await endpoint.close()

    asyncio.run(story())


def test_only_trusted_containers_get_the_socket(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, str]] = []
    monkeypatch.setattr(
        SocketTunnels,
        "open",
        lambda _self, record, path, _deadline: opened.append((record.name, path)),
    )
    bound = BoundSocket(USUAL_PATHS, GUEST_SOCKET)

    async def story() -> None:
        endpoint = YardMachines(yard.context, "default", "doors", "images", socket=bound)
        endpoint.start_image_host()
        machine = await endpoint.fork(Fork("web"))
        await endpoint.open_socket(machine.name)
        assert opened == [(machine.name, GUEST_SOCKET)]
        with pytest.raises(NotFound):
            await endpoint.open_socket("unknown")
        await endpoint.close()

    asyncio.run(story())
    yard.templates.apply(TemplateSpec("apart", security=SecuritySpec("hostile")))
    yard.hosts.apply(SingleSpec("strict", "apart"))
    with pytest.raises(OperationRefused, match="profile hostile"):
        YardMachines(yard.context, "default", "doors", "strict", socket=bound).start_image_host()


def test_a_suspended_machine_is_woken(yard: Yard) -> None:
    async def story() -> None:
        endpoint = machines(yard)
        machine = await endpoint.fork(Fork("web"))
        await endpoint.note(machine.name, {CONTAINER_ID: "0123"}, "packed")
        await endpoint.suspend(machine.name)
        assert await endpoint.state(machine.name) == "suspended"
        (listed,) = await machines(yard).all()
        assert (listed.state, listed.containers) == ("suspended", "packed")
        await endpoint.suspend(machine.name)
        await endpoint.wake(machine.name)
        await endpoint.wake(machine.name)
        assert await endpoint.state(machine.name) == "running"
        assert await endpoint.state("unknown") == GONE
        with pytest.raises(NotFound):
            await endpoint.wake("unknown")
        await endpoint.close()

    asyncio.run(story())


def test_a_machine_that_was_killed_is_booted(yard: Yard) -> None:
    async def story() -> None:
        endpoint = machines(yard)
        machine = await endpoint.fork(Fork("web"))
        provider = yard.context.provider
        record = next(
            host.record
            for host in provider.observe(yard.context.owner).hosts
            if host.name == machine.name
        )
        provider.stop(record, yard.context.deadline(5))
        assert await endpoint.state(machine.name) == "off"
        await endpoint.wake(machine.name)
        assert await endpoint.state(machine.name) == "running"
        await endpoint.close()

    asyncio.run(story())


def test_an_image_host_that_is_off_is_started(yard: Yard) -> None:
    yard.hosts.suspend("images")
    machines(yard).start_image_host()
    assert yard.hosts.get("images").state == "running"
    with pytest.raises(NotFound):
        YardMachines(yard.context, "default", "doors", "nothing").start_image_host()


def test_a_spare_is_noted_as_needed(yard: Yard) -> None:
    async def story() -> None:
        endpoint = machines(yard)
        await endpoint.renew_generation()
        spare = await endpoint.fork(Fork(""))
        assert spare.facts == {"image-host": "images"}
        assert await endpoint.keep(spare.name)
        (machine,) = await endpoint.all()
        assert float(machine.facts["needed-at"]) > 0
        await endpoint.delete(spare.name)
        assert not await endpoint.keep(spare.name)
        await endpoint.close()

    asyncio.run(story())
