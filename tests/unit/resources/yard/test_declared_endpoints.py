# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Endpoints of a whole yard: declared, pruned with care, and deleted with their machines."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from stockyard import (
    Declaration,
    EndpointSpec,
    EndpointTerm,
    FleetSpec,
    FleetTerm,
    HostSpec,
    ImageSpec,
    InvalidInput,
    NotFound,
    OperationRefused,
    PoolSpec,
    PoolTerm,
    SingleSpec,
    TemplateSpec,
    TemplateTerm,
    Yard,
)
from stockyard.endpoint.machines import Fork
from stockyard.endpoint.yard_machines import YardMachines

DOORS = EndpointSpec("doors", template="base", socket="/run/doors.sock", host=HostSpec(pool="ci"))
SECOND = EndpointSpec("second", "second", template="base", socket="/run/second.sock")


def declared(*endpoints: EndpointSpec, **options: Any) -> Declaration:
    lists: dict[str, Any] = {
        "templates": (TemplateTerm(TemplateSpec("base")),),
        "pools": (PoolTerm(PoolSpec("ci", hosts=4)),),
        "fleets": (FleetTerm(FleetSpec("web", "base")),),
        "endpoints": tuple(map(EndpointTerm, endpoints)),
    }
    return Declaration(**{**lists, **options})


def planned(result: Any) -> list[str]:
    return [f"{action.verb} {action.kind} {action.name}" for action in result.plan.actions]


def names(yard: Yard) -> list[str]:
    return [host.name for host in yard.hosts.list()]


def fork(yard: Yard, container: str) -> str:
    """Create a machine, as the served endpoint does; return its name."""

    async def story() -> str:
        machines = YardMachines(yard.context, "default", "doors", "images")
        machine = await machines.fork(Fork(container))
        await machines.close()
        return machine.name

    return asyncio.run(story())


def test_endpoint_is_created_after_template_pool_and_fleet(bare: Yard) -> None:
    check = bare.apply(declared(DOORS), check=True)
    assert planned(check) == [
        "create pool ci",
        "build template base",
        "create host web-1",
        "create host images",
        "create endpoint doors",
    ]
    assert planned(bare.apply(declared(DOORS))) == planned(check)
    assert [endpoint.name for endpoint in bare.endpoints.list()] == ["doors"]
    assert not bare.apply(declared(DOORS)).changed
    assert not bare.apply(declared(DOORS), check=True).changed


def test_image_host_stays_when_the_template_is_built_again(bare: Yard) -> None:
    bare.apply(declared(DOORS))
    image_host = bare.hosts.get("images").uuid
    changed = declared(
        DOORS, templates=(TemplateTerm(TemplateSpec("base", image=ImageSpec(packages=("jq",)))),)
    )
    check = bare.apply(changed, check=True)
    assert "build template base" in planned(check)
    assert not [line for line in planned(check) if "images" in line]
    bare.apply(changed)
    assert bare.hosts.get("images").uuid == image_host


def test_undeclared_endpoint_is_deleted_only_by_force_or_by_a_saved_plan(
    bare: Yard, tmp_path: Any
) -> None:
    bare.apply(declared(DOORS, SECOND))
    machine = fork(bare, "web")
    for check in (True, False):
        with pytest.raises(OperationRefused, match="2 of 4 hosts") as caught:
            bare.apply(declared(SECOND, prune="yes"), check=check)
        assert caught.value.cause == "not declared: endpoint doors of tenant default"
    assert machine in names(bare)
    plan = tmp_path / "plan.json"
    bare.apply(declared(SECOND, prune="yes"), check=True, save_plan=plan)
    assert planned(bare.apply(declared(SECOND, prune="yes"), apply_plan=plan)) == [
        "delete endpoint doors",
        f"delete host {machine}",
        "delete host images",
    ]
    assert names(bare) == ["second", "web-1"]


def test_undeclared_endpoint_without_hosts_is_deleted(bare: Yard) -> None:
    bare.apply(declared(SECOND))
    bare.hosts.apply(SingleSpec("alone", "base"))
    bare.endpoints.apply(EndpointSpec("old", "alone", socket="/run/old.sock"))
    result = bare.apply(declared(SECOND, prune="yes"))
    assert planned(result) == ["delete endpoint old"]
    assert names(bare) == ["alone", "second", "web-1"]


def test_empty_list_deletes_nothing_without_force(bare: Yard) -> None:
    bare.apply(declared(DOORS))
    fork(bare, "web")
    assert not bare.apply(declared(prune="yes")).changed
    result = bare.apply(declared(prune="force"))
    assert planned(result)[0] == "delete endpoint doors"
    assert names(bare) == ["web-1"]


def test_absent_endpoint_is_deleted_with_everything_in_its_pool(bare: Yard) -> None:
    bare.apply(declared(DOORS))
    machine = fork(bare, "web")
    absent = declared(
        pools=(), absent_pools=(("default", "ci"),), absent_endpoints=(("default", "doors"),)
    )
    check = bare.apply(absent, check=True)
    assert planned(check) == [
        "delete endpoint doors",
        f"delete host {machine}",
        "delete host images",
        "delete pool ci",
    ]
    assert planned(bare.apply(absent)) == planned(check)
    assert names(bare) == ["web-1"]
    assert not bare.apply(absent).changed


def test_endpoint_needs_its_template_and_pool(bare: Yard) -> None:
    for missing in ("templates", "pools"):
        declaration = declared(DOORS, fleets=(), **{missing: ()})
        with pytest.raises(NotFound, match=f"needs {missing[:-1]}"):
            bare.apply(declaration, check=True)


def test_teardown_deletes_endpoints(bare: Yard) -> None:
    bare.apply(declared(DOORS))
    fork(bare, "web")
    bare.teardown()
    assert (names(bare), bare.endpoints.list()) == ([], ())


def test_contradictions_are_refused() -> None:
    for second in (
        DOORS,
        EndpointSpec("other", template="base", socket="/run/other.sock"),
        EndpointSpec("other", "other", template="base", socket="/run/doors.sock"),
    ):
        with pytest.raises(InvalidInput):
            declared(DOORS, second)
    with pytest.raises(InvalidInput, match="declared twice"):
        declared(DOORS, absent_endpoints=(("default", "doors"),))


def test_saved_plan_of_an_endpoint_is_refused_after_its_image_host_changed(
    bare: Yard, tmp_path: Any
) -> None:
    bare.apply(declared(DOORS))
    moved, plan = declared(replace(DOORS, address="127.0.0.9")), tmp_path / "plan.json"
    bare.apply(moved, check=True, save_plan=plan)
    bare.hosts.restart("images")
    with pytest.raises(OperationRefused, match="no longer matches"):
        bare.apply(moved, apply_plan=plan)
    bare.apply(moved, check=True, save_plan=plan)
    assert planned(bare.apply(moved, apply_plan=plan)) == ["change endpoint doors"]
