# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where hosts are made, on what, and of what: folder, pool, datastore, network, a source that runs
on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim

from stockyard import FleetSpec, ImageSpec, SingleSpec, TemplateSpec, Yard
from stockyard.errors import StockyardError
from stockyard.providers.vsphere.fork import MOST_DELTAS
from tests.vcsim.simulator import SOURCE, Simulator

BASE = TemplateSpec("base", image=ImageSpec(source=SOURCE))


@pytest.fixture
def keys(tmp_path: Path) -> str:
    return str(tmp_path / "pki")


def disk_of(machine: Any) -> str:
    """The file of a machine's disk."""
    disks: list[Any] = [
        d for d in machine.config.hardware.device if isinstance(d, vim.vm.device.VirtualDisk)
    ]
    (disk,) = disks
    return str(disk.backing.fileName)


def card_of(machine: Any) -> Any:
    (card,) = (
        d
        for d in machine.config.hardware.device
        if isinstance(d, vim.vm.device.VirtualEthernetCard)
    )
    return card


def test_host_is_placed_as_in_the_uri(vcenter: Simulator, keys: str) -> None:
    uri = f"{vcenter.uri}/deep/er?endpoints=false&folder=Build/CI&network=DC0_DVPG0"
    top = vcenter.find("").parent.hostFolder.childEntity[0].resourcePool
    sizes = {"config": vim.ResourceConfigSpec(cpuAllocation=free(), memoryAllocation=free())}
    pool = top.CreateResourcePool("deep", sizes["config"]).CreateResourcePool("er", sizes["config"])
    with Yard(uri, storage="LocalDS_1", pki_dir=keys) as yard:
        yard.templates.apply(BASE)
        (host,) = yard.hosts.apply(SingleSpec("one", template="base")).objects
        machine = vcenter.find("Build/CI/stockyard.default.one")
        assert machine.resourcePool == pool
        assert disk_of(machine).startswith("[LocalDS_1]")
        assert (
            card_of(machine).backing.port.portgroupKey == card_of(machine).backing.port.portgroupKey
        )
        assert (host.storage, host.folder, host.resource_pool) == (
            "LocalDS_1",
            "Build/CI",
            "deep/er",
        )
        assert host.esxi_host == machine.runtime.host.name
        yard.teardown(templates=True)
    assert vcenter.find("Build/CI").childEntity == []


@pytest.mark.parametrize(
    ("network", "kind"), [("VM Network", "NetworkBackingInfo"), ("DC0_DVPG0", "PortBackingInfo")]
)
def test_a_host_is_on_the_network_that_is_named(
    vcenter: Simulator, keys: str, network: str, kind: str
) -> None:
    with Yard(
        f"{vcenter.uri}?endpoints=false&network={network.replace(' ', '%20')}", pki_dir=keys
    ) as yard:
        yard.templates.apply(BASE)
        yard.hosts.apply(SingleSpec("one", template="base"))
        card = card_of(vcenter.find("stockyard/stockyard.default.one"))
        assert type(card.backing).__name__.endswith(kind)
        assert card.connectable.connected
        assert [
            network_.name for network_ in vcenter.find("stockyard/stockyard.default.one").network
        ] == [network]
        yard.teardown(templates=True)


@pytest.mark.parametrize(
    ("option", "word"), [("network=none", "DC0_DVPG0"), ("folder=DC0_C0_RP0_VM0", "not a folder")]
)
def test_missing_place_is_named(vcenter: Simulator, keys: str, option: str, word: str) -> None:
    vcenter.reset()
    with (
        pytest.raises(StockyardError, match=word),
        Yard(f"{vcenter.uri}?endpoints=false&{option}", pki_dir=keys) as yard,
    ):
        yard.templates.apply(BASE)
    assert vcenter.changes() == {}


def free() -> Any:
    """An allocation that promises nothing and limits nothing."""
    return vim.ResourceAllocationInfo(
        reservation=0,
        limit=-1,
        expandableReservation=True,
        shares=vim.SharesInfo(level="normal", shares=0),
    )


@pytest.fixture
def running(own_vcenter: Simulator, keys: str) -> Iterator[Yard]:
    """A yard whose template keeps running, as declared."""
    with Yard(f"{own_vcenter.uri}?endpoints=false&frozen=false", pki_dir=keys) as yard:
        yard.templates.apply(BASE)
        yield yard


def test_a_source_that_runs_on_is_forked_until_its_disk_is_too_deep(
    own_vcenter: Simulator, running: Yard
) -> None:
    (template,) = running.context.provider.observe("stockyard").templates
    source = own_vcenter.find(f"stockyard/{template.record.domain}")
    assert not source.runtime.instantCloneFrozen
    (host,) = running.hosts.apply(SingleSpec("one", template="base")).objects
    assert host.mode == "instant"
    deep = len(source.layoutEx.disk[0].chain)
    clones = [
        {"name": f"other-{n}", "uuid": "", "key": "k", "value": "v"}
        for n in range(MOST_DELTAS - deep)
    ]
    own_vcenter.populate(source, clones)
    own_vcenter.reset()
    (late,) = running.hosts.apply(SingleSpec("two", template="base")).objects
    assert own_vcenter.calls()["InstantClone_Task"] == 0
    assert late.mode == "full"
    assert f"{MOST_DELTAS} delta disks" in late.mode_reason


def test_a_template_that_was_switched_off_is_not_forked(own_vcenter: Simulator, keys: str) -> None:
    """Though it was on when it was looked at a moment ago."""
    with Yard(f"{own_vcenter.uri}?endpoints=false", pki_dir=keys) as yard:
        yard.templates.apply(BASE)
        yard.hosts.apply(SingleSpec("one", template="base"))
        provider = yard.context.provider
        (template,) = provider.observe("stockyard").templates
        own_vcenter.power(
            own_vcenter.find(f"stockyard/{template.record.domain}")._moId, "poweredOff"
        )
        with pytest.raises(StockyardError, match="template"):
            yard.hosts.apply(SingleSpec("two", template="base"))
        assert [host.name for host in yard.hosts.list()] == ["one"]


def test_attribute_names_the_owner_of_a_machine(own_vcenter: Simulator, keys: str) -> None:
    uri = f"{own_vcenter.uri}?endpoints=false&attribute=Yard"
    own_vcenter.deny("Global.SetCustomField", "Global.ManageCustomFields")
    with (
        Yard(uri, pki_dir=keys) as yard,
        pytest.raises(StockyardError, match=r"SetCustomField.*ManageCustomFields"),
    ):
        yard.templates.apply(BASE)
    own_vcenter.reset()
    with Yard(uri, pki_dir=keys) as yard:
        yard.templates.apply(BASE)
        yard.fleets.apply(FleetSpec("web", template="base", count=2))
        yard.hosts.apply(SingleSpec("one", template="base"))
        assert own_vcenter.calls()["AddCustomFieldDef"] == 1
        attributes = {
            name: [v.value for v in machine.customValue]
            for name, machine in own_vcenter.machines().items()
        }
        assert attributes["stockyard.default.one"] == ["stockyard/default: host one"]
        assert (
            sum(values == ["stockyard/default: fleet web"] for values in attributes.values()) == 2
        )
        assert (
            sum(
                "".join(values).startswith("stockyard/default: template base")
                for values in attributes.values()
            )
            == 1
        )
        yard.teardown(templates=True)


def test_vcenter_without_single_elements_is_queried_for_arrays(
    own_vcenter: Simulator, keys: str
) -> None:
    with Yard(f"{own_vcenter.uri}?endpoints=false", pki_dir=keys) as yard:
        own_vcenter.fail("RetrievePropertiesEx", "InvalidProperty", at="call")
        yard.templates.apply(BASE)
        hosts = yard.fleets.apply(FleetSpec("web", template="base", count=3)).objects
        provider: Any = yard.context.provider
        assert provider.session.whole_arrays
        assert {(host.mode, host.phase) for host in hosts} == {("instant", "ready")}
        assert not yard.fleets.apply(FleetSpec("web", template="base", count=3)).changed


def test_a_restart_asks_the_guest_to_shut_down(own_vcenter: Simulator, keys: str) -> None:
    with Yard(f"{own_vcenter.uri}?endpoints=false", pki_dir=keys) as yard:
        yard.templates.apply(BASE)
        (before,) = yard.hosts.apply(SingleSpec("one", template="base")).objects
        own_vcenter.reset()
        (after,) = yard.hosts.restart("one").objects
        assert own_vcenter.calls()["ShutdownGuest"] == 1
        assert own_vcenter.calls()["PowerOffVM_Task"] == 0
        assert (after.uuid, after.identity, after.state) == (
            before.uuid,
            before.identity,
            "running",
        )
