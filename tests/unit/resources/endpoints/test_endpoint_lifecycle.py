# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoints on record: with their image host, their machines, and what is refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    Conflict,
    EndpointMachine,
    EndpointSpec,
    FleetSpec,
    HostSpec,
    ImageSpec,
    InvalidInput,
    NotFound,
    OperationRefused,
    PoolQuotaExceeded,
    PoolSpec,
    SecuritySpec,
    SingleSpec,
    TemplateSpec,
    Yard,
)
from stockyard.endpoint.machines import Fork
from stockyard.endpoint.yard_machines import YardMachines
from tests.helpers.clocks import FakeClock
from tests.helpers.samples import HOST_KEY

SOCKET = "/run/user/1000/doors.sock"
DOORS = EndpointSpec("doors", template="base", socket=SOCKET)
FOUND = EndpointSpec("doors", "images", address="127.0.0.2")


def planned(result: Any) -> list[str]:
    return [str(action) for action in result.plan.actions]


def names(yard: Yard) -> list[str]:
    return [host.name for host in yard.hosts.list()]


def fork(yard: Yard, *containers: str, endpoint: str = "doors", image_host: str = "images") -> None:
    """Create a machine for each container, as the served endpoint does."""

    async def story() -> None:
        machines = YardMachines(yard.context, "default", endpoint, image_host)
        for container in containers:
            await machines.fork(Fork(container))
        await machines.close()

    asyncio.run(story())


def test_endpoint_is_created_with_its_image_host_and_deleted_with_it(yard: Yard) -> None:
    expected = [
        "create host images: it does not exist",
        "create endpoint doors: it does not exist",
    ]
    check = yard.endpoints.apply(DOORS, check=True)
    assert (planned(check), check.objects, names(yard)) == (expected, (), [])
    assert check.plan.diff()["after"]["endpoint doors"]["socket"] == SOCKET
    result = yard.endpoints.apply(DOORS)
    assert planned(result) == expected
    assert result.object == yard.endpoints.get("doors") == yard.endpoints.list()[0]
    assert (result.object.image_host, result.object.managed, result.object.template) == (
        "images",
        True,
        "base",
    )
    assert result.object.docker_hosts == (f"unix://{SOCKET}",)
    assert result.object.export == f"export DOCKER_HOST=unix://{SOCKET}"
    assert not yard.endpoints.apply(DOORS).changed
    fork(yard, "web")
    (machine,) = yard.endpoints.get("doors").machines
    assert machine == EndpointMachine(machine.name, "web", "running")
    check = yard.endpoints.delete("doors", check=True)
    assert [(action.verb, action.kind) for action in check.plan.actions] == [
        ("delete", "endpoint"),
        ("delete", "host"),
        ("delete", "host"),
    ]
    assert planned(yard.endpoints.delete("doors")) == planned(check)
    assert (names(yard), yard.endpoints.list()) == ([], ())
    assert yard.context.provider.branches.all() == []
    assert not yard.endpoints.delete("doors").changed
    with pytest.raises(NotFound, match="endpoint doors"):
        yard.endpoints.get("doors")


def test_image_host_of_the_user_stays(yard: Yard) -> None:
    with pytest.raises(NotFound, match="image host"):
        yard.endpoints.apply(FOUND)
    yard.hosts.apply(SingleSpec("images", "base", labels={"stage": "test"}))
    result = yard.endpoints.apply(FOUND)
    assert planned(result) == ["create endpoint doors: it does not exist"]
    assert result.object.docker_hosts == ("tcp://127.0.0.2:2376",)
    assert "DOCKER_TLS_VERIFY=1" in result.object.export
    # The user's declaration of the host and that of the endpoint do not disturb each other.
    assert not yard.hosts.apply(SingleSpec("images", "base", labels={"stage": "test"})).changed
    yard.hosts.restart("images")
    assert not yard.endpoints.apply(FOUND).changed
    fork(yard, "web")
    yard.endpoints.delete("doors")
    assert (names(yard), yard.endpoints.list()) == (["images"], ())


def test_changed_place_changes_the_record_only(yard: Yard) -> None:
    yard.endpoints.apply(DOORS)
    fork(yard, "web")
    before = names(yard)
    moved = EndpointSpec("doors", template="base", socket=SOCKET, address="127.0.0.2", port=2400)
    assert planned(yard.endpoints.apply(moved)) == ["change endpoint doors: address, port changed"]
    assert yard.endpoints.get("doors").docker_hosts[1] == "tcp://127.0.0.2:2400"
    assert names(yard) == before


def test_image_host_is_corrected_in_place(yard: Yard) -> None:
    yard.endpoints.apply(DOORS)
    yard.hosts.suspend("images")
    assert yard.endpoints.get("doors").state == "suspended"
    assert planned(yard.endpoints.apply(DOORS)) == ["resume host images: it is suspended"]


def test_image_host_stays_when_its_template_gets_another_generation(
    yard: Yard, clock: FakeClock, tmp_path: Path
) -> None:
    yard.endpoints.apply(DOORS)
    before = yard.hosts.get("images").uuid
    clock.sleep(1)
    yard.templates.apply(TemplateSpec("base", image=ImageSpec(packages=("jq",))))
    assert not yard.endpoints.apply(DOORS).changed
    result = yard.endpoints.apply(DOORS, replace=True)
    assert [action.verb for action in result.plan.actions] == ["replace", "change"]
    assert yard.hosts.get("images").uuid != before
    assert yard.endpoints.get("doors").socket == SOCKET
    assert not yard.endpoints.apply(DOORS, replace=True).changed


def test_change_that_would_lose_the_images_is_refused(yard: Yard) -> None:
    yard.endpoints.apply(DOORS)
    yard.templates.apply(TemplateSpec("small"))
    exposed = EndpointSpec("doors", template="base", socket=SOCKET, host=HostSpec(egress="open"))
    other_template = EndpointSpec("doors", template="small", socket=SOCKET)
    for spec, cause in ((exposed, "egress"), (other_template, "template is base")):
        for check in (True, False):
            with pytest.raises(OperationRefused, match="images would be lost") as caught:
                yard.endpoints.apply(spec, check=check)
            assert cause in caught.value.cause
    yard.endpoints.apply(exposed, replace=True)
    assert yard.hosts.get("images").egress == "open"


def test_unsuitable_image_hosts_are_refused(yard: Yard) -> None:
    yard.endpoints.apply(DOORS)
    fork(yard, "web")
    yard.fleets.apply(FleetSpec("ci", "base"))
    (machine,) = yard.endpoints.get("doors").machines
    for host, reason in (
        ("ci-1", "belongs to fleet ci"),
        (machine.name, "machine of endpoint doors"),
        ("images", "images of endpoint doors"),
    ):
        with pytest.raises(OperationRefused, match=reason):
            yard.endpoints.apply(EndpointSpec("second", host, socket="/run/second.sock"))
    with pytest.raises(OperationRefused, match="cannot move to"):
        yard.endpoints.apply(EndpointSpec("doors", "second", template="base", socket=SOCKET))
    with pytest.raises(Conflict, match="endpoint doors of tenant default is served at"):
        yard.endpoints.apply(EndpointSpec("second", "second", template="base", socket=SOCKET))
    assert [endpoint.name for endpoint in yard.endpoints.list()] == ["doors"]


def test_socket_in_containers_needs_trusted_containers(yard: Yard) -> None:
    trusted = replace(DOORS, socket_in_containers=True)
    shared = SecuritySpec("shared")
    yard.templates.apply(TemplateSpec("apart", security=shared))
    with pytest.raises(OperationRefused, match="profile shared"):
        yard.endpoints.apply(replace(trusted, template="apart"))
    assert names(yard) == []
    yard.endpoints.apply(DOORS)
    assert not yard.endpoints.get("doors").socket_in_containers
    assert planned(yard.endpoints.apply(trusted)) == [
        "change endpoint doors: socket_in_containers changed"
    ]
    assert yard.endpoints.get("doors").socket_in_containers
    yard.hosts.apply(SingleSpec("keyed", "base", host=HostSpec(authorized_keys=(HOST_KEY,))))
    with pytest.raises(OperationRefused, match="authorized_keys"):
        yard.endpoints.apply(
            EndpointSpec("second", "keyed", address="127.0.0.2", socket_in_containers=True)
        )


def test_two_endpoints_have_their_own_machines(yard: Yard) -> None:
    yard.endpoints.apply(DOORS)
    yard.endpoints.apply(EndpointSpec("second", "second", template="base", socket="/run/2.sock"))
    fork(yard, "web")
    fork(yard, "db", endpoint="second", image_host="second")
    yard.endpoints.delete("doors")
    (endpoint,) = yard.endpoints.list()
    assert [machine.container for machine in endpoint.machines] == ["db"]
    assert names(yard) == sorted(["second", endpoint.machines[0].name])


def test_machines_of_a_deleted_image_host_are_deleted_by_the_name_of_their_endpoint(
    yard: Yard,
) -> None:
    yard.endpoints.apply(DOORS)
    fork(yard, "web", "db")
    yard.hosts.delete("images")
    assert yard.endpoints.list() == ()
    assert [action.kind for action in yard.endpoints.delete("doors").plan.actions] == ["host"] * 2
    assert names(yard) == []


def test_pool_of_the_image_host_limits_the_machines(yard: Yard) -> None:
    yard.pools.apply(PoolSpec("ci", hosts=2))
    yard.endpoints.apply(
        EndpointSpec("doors", template="base", socket=SOCKET, host=HostSpec(pool="ci"))
    )
    fork(yard, "web")
    with pytest.raises(PoolQuotaExceeded):
        fork(yard, "db")


def test_record_contains_the_endpoint(yard: Yard, tmp_path: Path) -> None:
    yard.endpoints.apply(DOORS)
    host = yard.context.provider.observe(yard.context.owner).host("default", "images")
    assert host is not None
    assert host.record.endpoint == DOORS.record
    fork(yard, "web")
    observation = yard.context.provider.observe(yard.context.owner)
    assert [holder.name for holder in observation.hosts if holder.record.endpoint] == ["images"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"socket": "x" * 108},
        {"socket": "a\nb"},
        {"address": "nowhere"},
        {"socket": "x", "port": 0},
        {"socket": "x", "name": "A B"},
        {"socket": "x", "image_host": ""},
        {"socket": "x", "template": "."},
    ],
)
def test_nonsense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        EndpointSpec(**options)


def test_socket_of_a_declared_endpoint_has_an_absolute_path(yard: Yard) -> None:
    for socket in ("doors.sock", "~/doors.sock"):
        with pytest.raises(InvalidInput, match="not an absolute path"):
            yard.endpoints.apply(EndpointSpec("doors", template="base", socket=socket))
    assert names(yard) == []
