# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts on a simulated vCenter that get more while they run, and what a plan says of it
beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pyVmomi import vim

from stockyard import (
    FleetSpec,
    Hardware,
    HostSpec,
    ImageSpec,
    TemplateSpec,
    Unsupported,
    UpdateSpec,
    Yard,
)
from tests.vcsim.simulator import SOURCE, Simulator, finished

ROOMY = TemplateSpec(
    "base",
    image=ImageSpec(source=SOURCE),
    hardware=Hardware(vcpus=1, max_vcpus=4, memory_mib=1024),
    max_memory_mib=4096,
)


@pytest.fixture(scope="module")
def yard(vcenter: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    pki = str(tmp_path_factory.mktemp("pki"))
    with Yard(vcenter.uri + "?endpoints=false", owner="resize", pki_dir=pki) as opened:
        opened.templates.apply(ROOMY)
        yield opened
        opened.teardown(templates=True)


def fleet(template: str = "base", **size: Any) -> FleetSpec:
    update = UpdateSpec(strategy="recreate", grace=0)
    return FleetSpec("web", template, count=1, host=HostSpec(**size), update=update)


def size(vcenter: Simulator) -> tuple[int, int, str]:
    """CPUs, memory and which machine it is."""
    machine = vcenter.find("stockyard/resize.default.web-1")
    return machine.config.hardware.numCPU, machine.config.hardware.memoryMB, machine._moId


def verbs(yard: Yard, spec: FleetSpec) -> list[str]:
    return [action.verb for action in yard.fleets.apply(spec, check=True).plan.actions]


def test_host_grows_in_place_and_is_replaced_to_shrink(yard: Yard, vcenter: Simulator) -> None:
    yard.fleets.apply(fleet())
    *_small, first = size(vcenter)
    larger = fleet(vcpus=3, memory_mib=2048)
    assert verbs(yard, larger) == ["resize"]
    vcenter.reset()
    yard.fleets.apply(larger)
    assert size(vcenter) == (3, 2048, first)
    assert not yard.fleets.apply(larger).changed
    smaller = fleet(vcpus=2, memory_mib=2048)
    (action,) = yard.fleets.apply(smaller, check=True).plan.actions
    assert (action.verb, "this hypervisor cannot reduce the size" in action.reason) == (
        "replace",
        True,
    )
    yard.fleets.apply(smaller)
    cpus, memory, second = size(vcenter)
    assert (cpus, memory) == (2, 2048)
    assert second != first


def test_more_than_a_template_has_room_for_is_refused_before_anything_is_done(
    yard: Yard, vcenter: Simulator
) -> None:
    vcenter.reset()
    with pytest.raises(Unsupported, match="cannot have 5 vCPUs"):
        yard.fleets.apply(FleetSpec("big", "base", count=1, host=HostSpec(vcpus=5)))
    assert vcenter.changes()["InstantClone_Task"] == 0


def test_machine_without_hot_add_is_unchanged(yard: Yard, vcenter: Simulator) -> None:
    yard.fleets.apply(fleet())
    host = vcenter.find("stockyard/resize.default.web-1")
    finished(host.ReconfigVM_Task(vim.vm.ConfigSpec(cpuHotAddEnabled=False)))
    before = size(vcenter)
    with pytest.raises(Unsupported, match="cannot be added"):
        yard.fleets.apply(fleet(vcpus=4))
    assert size(vcenter) == before
