# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""How much the provider adds to the calls that it makes, in one run on one simulator."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim, vmodl

from stockyard import FleetSpec, ImageSpec, TemplateSpec, Yard
from stockyard.hypervisor.records import encode
from tests.helpers.samples import host_record
from tests.vcsim.plain_pyvmomi import Loop
from tests.vcsim.simulator import SOURCE, Simulator

FLEET = 50
HOSTS = 1000
FORKS_BOUND, OBSERVE_BOUND = 1.5, 2.0
TRIES = 3
# Calls for one host: those that reconfigure it, and all of them, with room for looking again on a
# busy machine.
FEW, MANY, RECONFIGURED, CALLS, GROWTH = 10, 40, 5, 20, 1.25


@pytest.fixture
def yard(vcenter: Simulator, tmp_path: Path) -> Iterator[Yard]:
    """A yard with a frozen template."""
    with Yard(vcenter.uri + "?endpoints=false", pki_dir=str(tmp_path)) as opened:
        opened.templates.apply(TemplateSpec("base", image=ImageSpec(source=SOURCE)))
        yield opened
        opened.teardown(templates=True)


def seconds(call: Callable[[], object]) -> float:
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


def test_a_fleet_takes_little_more_than_its_calls(vcenter: Simulator, yard: Yard) -> None:
    """The best of a few rounds: each is measured alternately with the loop, so that other load
    affects both.
    """
    template = (
        f"DC0/vm/stockyard/{yard.context.provider.observe('stockyard').templates[0].record.domain}"
    )
    parallel = yard.context.provider.capabilities.parallel
    register = vcenter.find("stockyard/stockyard-register")._moId
    ratios = []
    for _try in range(TRIES):
        vcenter.reset()
        product_seconds = seconds(
            lambda: yard.fleets.apply(FleetSpec("web", template="base", count=FLEET))
        )
        log, calls = vcenter.log(), vcenter.calls()
        assert calls["InstantClone_Task"] == FLEET
        loop = Loop(vcenter, template, parallel)
        vcenter.reset()
        ratios.append(product_seconds / loop.make(FLEET, calls, log, register))
        # It is no slower for making many more calls: each of its threads waits for itself.
        assert vcenter.calls().total() <= 1.25 * calls.total(), (vcenter.calls(), calls)
        vcenter.clear(loop.folder)
        yard.fleets.delete("web")
        if ratios[-1] <= FORKS_BOUND:
            break
    print("fleet / bare loop:", ratios)
    assert min(ratios) <= FORKS_BOUND


def test_a_thousand_hosts_are_observed_in_three_calls(own_vcenter: Simulator) -> None:
    instance = own_vcenter.connect()
    with Yard(
        own_vcenter.uri + "?endpoints=false", pki_dir=str(own_vcenter.directory / "pki")
    ) as yard:
        provider = yard.context.provider
        yard.templates.apply(TemplateSpec("base", image=ImageSpec(source=SOURCE)))
        template = provider.observe("stockyard").templates[0].record
        source = own_vcenter.find(f"stockyard/{template.domain}")
        make_hosts(own_vcenter, source, template.generation)
    with Yard(
        own_vcenter.uri + "?endpoints=false", pki_dir=str(own_vcenter.directory / "pki")
    ) as yard:
        provider = yard.context.provider
        own_vcenter.reset()
        assert len(provider.observe("stockyard").hosts) == HOSTS
        calls = own_vcenter.calls()
        assert sum(calls[name] for name in calls if name != "CreateContainerView") <= 3, calls
        ratios: list[float] = []
        while len(ratios) < TRIES and (not ratios or ratios[-1] > OBSERVE_BOUND):
            product_seconds = seconds(lambda: provider.observe("stockyard"))
            bare = seconds(lambda: bulk_read(instance, source.parent))
            print(f"observe {HOSTS}: {product_seconds:.2f} s, bare {bare:.2f} s")
            ratios.append(product_seconds / bare)
    assert min(ratios) <= OBSERVE_BOUND


def test_calls_for_each_host_do_not_grow_with_their_number(own_vcenter: Simulator) -> None:
    """The exact number of changing calls. A longer wait polls more often, so the fewest reads of a
    few tries count.
    """
    looked: dict[int, float] = {}
    with Yard(
        own_vcenter.uri + "?endpoints=false", pki_dir=str(own_vcenter.directory / "pki")
    ) as yard:
        yard.templates.apply(TemplateSpec("base", image=ImageSpec(source=SOURCE)))
        for _try in range(TRIES):
            changed = {count: grown(yard, own_vcenter, count, looked) for count in (FEW, MANY)}
            more = changed[MANY] - changed[FEW]
            assert {method: calls / (MANY - FEW) for method, calls in more.items()} == {
                "InstantClone_Task": 1,
                "ReconfigVM_Task": RECONFIGURED,
            }
            if looked[MANY] <= min(CALLS, GROWTH * looked[FEW]):
                break
    print("calls for each host:", looked)
    assert looked[MANY] <= GROWTH * looked[FEW]
    assert looked[MANY] <= CALLS


def grown(yard: Yard, vcenter: Simulator, count: int, looked: dict[int, float]) -> Counter[str]:
    """Create a fleet in an empty yard, and delete it.

    :param looked: the fewest calls for each host so far, by the number of hosts.
    :return: the calls that changed something, without those to the register.
    """
    vcenter.reset()
    yard.fleets.apply(FleetSpec("web", template="base", count=count))
    changed = vcenter.changes()
    looked[count] = min(looked.get(count, math.inf), vcenter.calls().total() / count)
    register = vcenter.find("stockyard/stockyard-register")._moId
    own = sum(e["object"] == register and e["method"] == "ReconfigVM_Task" for e in vcenter.log())
    # Several hosts may share a line in the register.
    assert own <= 2 * count + 1
    changed["ReconfigVM_Task"] -= own
    yard.fleets.delete("web")
    return changed


def make_hosts(vcenter: Simulator, source: Any, generation: str) -> None:
    """A thousand machines with records."""
    records = [
        host_record(name=f"many-{number}", fleet="many", template="base", generation=generation)
        for number in range(HOSTS)
    ]
    vcenter.populate(
        source,
        [
            {"name": r.domain, "uuid": r.uuid, "key": "stockyard.record", "value": f"1 {encode(r)}"}
            for r in records
        ],
    )


def bulk_read(instance: Any, folder: Any) -> None:
    """Read the properties that a provider needs, without further work."""
    content, query = instance.content, vmodl.query.PropertyCollector
    view = content.viewManager.CreateContainerView(folder, [vim.VirtualMachine], True)
    walk = query.TraversalSpec(name="view", path="view", skip=False, type=vim.view.ContainerView)
    property_spec = query.PropertySpec(
        type=vim.VirtualMachine, pathSet=["name", "config.extraConfig", "runtime"]
    )
    where = query.ObjectSpec(obj=view, skip=True, selectSet=[walk])
    spec = query.FilterSpec(propSet=[property_spec], objectSet=[where])
    page = content.propertyCollector.RetrievePropertiesEx([spec], query.RetrieveOptions())
    assert len(page.objects) > HOSTS
    view.DestroyView()
