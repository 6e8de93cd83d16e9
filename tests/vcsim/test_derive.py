# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Derived templates on a simulated vCenter: instant clones of a frozen template that are frozen in
turn.
"""

from __future__ import annotations

import itertools
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyVmomi import vim

from stockyard import (
    Conflict,
    FleetSpec,
    GuestError,
    Hardware,
    HostSpec,
    HypervisorError,
    ImageSpec,
    OperationRefused,
    SecuritySpec,
    SingleSpec,
    TemplateSpec,
    Unsupported,
    Yard,
)
from stockyard.clock import Deadline
from stockyard.errors import StockyardError
from stockyard.guest.recipe import rendered
from stockyard.model.template import TemplateRecord
from stockyard.planning.declaration import Declaration, FleetTerm, TemplateTerm
from stockyard.providers.vsphere import template_ssh
from stockyard.resources.templates import derive_template
from tests.vcsim.conftest import Start
from tests.vcsim.cut_proxy import Cut
from tests.vcsim.simulator import SOURCE, Simulator, finished

OWNER = "derive"
BASE = TemplateSpec("base", image=ImageSpec(source=SOURCE))
LARGE = replace(BASE, hardware=Hardware(memory_mib=2048))
JDK = TemplateSpec("jdk", parent="base", image=ImageSpec(files={"/etc/jdk": "1\n"}))
APP = TemplateSpec("app", parent="jdk", image=ImageSpec(files={"/etc/app": "1\n"}))
LEVELS = Declaration(
    (TemplateTerm(APP), TemplateTerm(JDK), TemplateTerm(BASE)),
    (FleetTerm(FleetSpec("web", "app", count=1)),),
)
BUILDS = ["build template base", "build template jdk", "build template app"]
NETWORK, ADDRESSES = "DC0_DVPG0", ("127.0.0.10", "127.0.0.11")


# The first and the last order of deletion are the quick tests.
ORDERS = [
    pytest.param(order, marks=[pytest.mark.full] if 0 < number < 5 else [])
    for number, order in enumerate(itertools.permutations(("base", "jdk", "app")))
]
# A controller of its own, which dies when the template is connected.
CONTROLLER = """
import os, signal, sys
from stockyard import Yard
from stockyard.providers.vsphere import template_ssh
from tests.vcsim.test_derive import JDK, OWNER
template_ssh._wait_for_ssh = lambda *_arguments: os.kill(os.getpid(), signal.SIGKILL)
with Yard(sys.argv[1], owner=OWNER, pki_dir=sys.argv[2]) as yard:
    yard.templates.apply(JDK)
"""


@pytest.fixture(scope="module")
def shared(vcenter: Simulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    pki = str(tmp_path_factory.mktemp("pki"))
    with Yard(vcenter.uri + "?endpoints=false", owner=OWNER, pki_dir=pki) as opened:
        yield opened


@pytest.fixture
def bare(shared: Yard, vcenter: Simulator) -> Iterator[Yard]:
    """A yard without anything."""
    vcenter.reset()
    yield shared
    vcenter.reset()
    shared.teardown(templates=True)
    assert set(vcenter.machines()) == {SOURCE}


@pytest.fixture
def yard(bare: Yard, vcenter: Simulator) -> Yard:
    """A yard with a template."""
    bare.templates.apply(BASE)
    vcenter.reset()
    return bare


def record_of(yard: Yard, name: str) -> TemplateRecord:
    template = yard.context.provider.observe(yard.context.owner).template("default", name)
    assert template
    return template.record


def machine(vcenter: Simulator, yard: Yard, name: str) -> Any:
    return vcenter.find(f"stockyard/{record_of(yard, name).domain}")


def card_of(virtual_machine: Any) -> Any:
    (card,) = (
        device
        for device in virtual_machine.config.hardware.device
        if isinstance(device, vim.vm.device.VirtualEthernetCard)
    )
    return card


def chain(virtual_machine: Any) -> list[str]:
    """The files under the disk of a machine, the last one first."""
    (disk,) = (
        device
        for device in virtual_machine.config.hardware.device
        if isinstance(device, vim.vm.device.VirtualDisk)
    )
    files: list[str] = []
    backing: Any = disk.backing
    while backing:
        files.append(backing.fileName)
        backing = backing.parent
    return files


def verbs(yard: Yard, declaration: Declaration, *, check: bool = False) -> list[str]:
    actions = yard.apply(declaration, check=check).plan.actions
    return [f"{action.verb} {action.kind} {action.name}" for action in actions]


def reserved_addresses(vcenter: Simulator) -> set[str]:
    """The addresses that the register reserves for templates."""
    register = vcenter.find("stockyard/stockyard-register")
    return {
        option.value
        for option in register.config.extraConfig
        if option.key.startswith("stockyard.address.")
    }


def test_derived_template_is_a_frozen_clone_of_the_frozen_parent(
    yard: Yard, vcenter: Simulator
) -> None:
    (info,) = yard.templates.apply(JDK).objects
    base, jdk = machine(vcenter, yard, "base"), machine(vcenter, yard, "jdk")
    (clone,) = (call for call in vcenter.log() if call["method"] == "InstantClone_Task")
    assert clone["object"] == base._moId
    assert vcenter.calls()["CloneVM_Task"] == vcenter.calls()["PowerOnVM_Task"] == 0
    assert (info.parent, info.usable, info.image) == ("base", True, record_of(yard, "base").image)
    assert jdk.runtime.instantCloneFrozen
    assert base.runtime.instantCloneFrozen
    record = record_of(yard, "jdk")
    assert (jdk.config.uuid, card_of(jdk).macAddress) == (record.uuid, record.mac)
    link = card_of(jdk).connectable
    assert (link.connected, link.startConnected) == (False, False)
    # The frozen parent gets no delta disk, and its disk is under that of the child.
    assert chain(jdk)[-1] == chain(base)[-1]
    assert chain(jdk)[0] != chain(base)[0]
    assert len(chain(base)) == len(set(chain(base)))
    assert not yard.templates.apply(JDK).changed
    (host,) = yard.hosts.apply(SingleSpec("one", "jdk")).objects
    assert (host.ready, host.mode, host.generation) == (True, "instant", record.generation[:12])


def test_yard_builds_parents_first_and_derives_again_from_a_new_generation(
    bare: Yard, vcenter: Simulator
) -> None:
    assert verbs(bare, LEVELS, check=True)[:3] == BUILDS
    assert vcenter.changes()["CloneVM_Task"] == vcenter.changes()["InstantClone_Task"] == 0
    assert verbs(bare, LEVELS)[:3] == BUILDS
    assert verbs(bare, LEVELS) == []
    first = record_of(bare, "app")
    changed = replace(LEVELS, templates=(TemplateTerm(APP), TemplateTerm(JDK), TemplateTerm(LARGE)))
    assert verbs(bare, changed, check=True)[:3] == BUILDS
    assert verbs(bare, changed)[:3] == BUILDS
    assert verbs(bare, changed) == []
    (host,) = bare.hosts.list()
    assert (host.generation, host.size.memory_mib) == (record_of(bare, "app").generation[:12], 2048)
    assert host.generation != first.generation[:12]
    # The earlier declaration makes the earlier generations current again.
    assert verbs(bare, LEVELS)[:3] == [
        "promote template base",
        "promote template jdk",
        "promote template app",
    ]
    assert record_of(bare, "app").generation == first.generation


@pytest.mark.parametrize("order", ORDERS)
def test_levels_are_deleted_in_every_order(
    bare: Yard, vcenter: Simulator, order: tuple[str, ...]
) -> None:
    bare.apply(replace(LEVELS, fleets=()))
    for number, name in enumerate(order):
        bare.templates.delete(name)
        for remaining in order[number + 1 :]:
            (host,) = bare.hosts.apply(SingleSpec("one", remaining)).objects
            assert (host.ready, host.mode) == (True, "instant")
            with pytest.raises(OperationRefused, match="hosts of the template exist"):
                bare.templates.delete(remaining)
            bare.hosts.delete("one")
        assert {template.name for template in bare.templates.list()} == {*order[number + 1 :]}


@pytest.mark.parametrize("lost", ["base", "jdk"])
def test_lost_template_is_built_again(yard: Yard, vcenter: Simulator, lost: str) -> None:
    declaration = Declaration((TemplateTerm(JDK), TemplateTerm(BASE)))
    yard.apply(declaration)
    before = {name: record_of(yard, name) for name in ("base", "jdk")}
    vcenter.power(machine(vcenter, yard, lost)._moId, "poweredOff")
    assert verbs(yard, declaration)[0] == f"build template {lost}"
    assert verbs(yard, declaration) == []
    assert machine(vcenter, yard, "jdk").runtime.instantCloneFrozen
    assert record_of(yard, lost).uuid != before[lost].uuid


def test_parent_that_does_not_run_is_refused(yard: Yard, vcenter: Simulator) -> None:
    parent = record_of(yard, "base")
    draft = replace(parent, name="jdk", phase="booting", checksums=None)
    vcenter.power(machine(vcenter, yard, "base")._moId, "poweredOff")
    vcenter.reset()
    with pytest.raises(Unsupported, match="not running"):
        yard.context.provider.derive_template(draft, parent, Deadline(60))
    assert vcenter.changes()["InstantClone_Task"] == 0


def test_cold_clone_of_a_derived_template_is_refused_before_anything_changes(
    yard: Yard, vcenter: Simulator
) -> None:
    yard.templates.apply(JDK)
    vcenter.reset()
    with pytest.raises(Unsupported, match="instant clones only"):
        yard.hosts.apply(SingleSpec("one", "jdk", host=HostSpec(fork_mode="linked")))
    assert vcenter.changes()["CloneVM_Task"] == vcenter.changes()["InstantClone_Task"] == 0
    # No mode replaces an instant clone that fails.
    vcenter.fail("InstantClone_Task", "NotSupported", times=0)
    with pytest.raises(Unsupported, match="no fork mode is possible"):
        yard.hosts.apply(SingleSpec("one", "jdk"))
    assert yard.hosts.list() == ()
    assert vcenter.changes()["CloneVM_Task"] == 0


@pytest.mark.parametrize("check", [True, False])
def test_security_of_a_source_is_refused(yard: Yard, vcenter: Simulator, check: bool) -> None:
    hostile = replace(JDK, security=SecuritySpec("hostile"))
    for declare in (
        lambda: yard.templates.apply(hostile, check=check),
        lambda: yard.apply(Declaration((TemplateTerm(hostile), TemplateTerm(LARGE))), check=check),
    ):
        with pytest.raises(Unsupported, match="security cannot be added to template base"):
            declare()
    assert [template.name for template in yard.templates.list()] == ["base"]
    assert vcenter.changes()["InstantClone_Task"] == 0


@pytest.mark.parametrize("method", ["InstantClone_Task", "ReconfigVM_Task"])
def test_failed_derivation_leaves_nothing(yard: Yard, vcenter: Simulator, method: str) -> None:
    vcenter.fail(method, "InsufficientResourcesFault", skip=2 * (method == "ReconfigVM_Task"))
    with pytest.raises(StockyardError, match="template jdk"):
        yard.templates.apply(JDK)
    assert [template.name for template in yard.templates.list()] == ["base"]
    assert yard.templates.apply(JDK).objects[0].usable


def test_missing_privilege_is_named(yard: Yard, vcenter: Simulator) -> None:
    vcenter.deny("VirtualMachine.Provisioning.Clone")
    with pytest.raises(HypervisorError, match=r"VirtualMachine\.Provisioning\.Clone"):
        yard.templates.apply(JDK)


def test_vcenter_without_instant_clones_has_no_derived_templates(
    start: Start, tmp_path: Path
) -> None:
    vcenter = start(instant_clone=False)
    uri = vcenter.uri + "?endpoints=false&frozen=false"
    with Yard(uri, owner=OWNER, pki_dir=str(tmp_path)) as yard:
        yard.templates.apply(BASE)
        with pytest.raises(Unsupported, match="does not support instant clones"):
            yard.templates.apply(JDK)
        assert [template.name for template in yard.templates.list()] == ["base"]


def test_template_is_derived_from_one_that_keeps_running(
    own_vcenter: Simulator, tmp_path: Path
) -> None:
    uri = own_vcenter.uri + "?endpoints=false&frozen=false"
    with Yard(uri, owner=OWNER, pki_dir=str(tmp_path)) as yard:
        yard.templates.apply(BASE)
        depth = len(chain(machine(own_vcenter, yard, "base")))
        yard.templates.apply(JDK)
        assert len(chain(machine(own_vcenter, yard, "base"))) == depth + 1
        (host,) = yard.hosts.apply(SingleSpec("one", "jdk")).objects
        assert host.ready
        yard.teardown(templates=True)


def test_answer_to_a_clone_that_gets_lost_does_not_make_another_one(
    own_vcenter: Simulator, tmp_path: Path
) -> None:
    with (
        Cut(own_vcenter) as cut,
        Yard(cut.uri + "?endpoints=false", owner=OWNER, pki_dir=str(tmp_path)) as yard,
    ):
        yard.templates.apply(BASE)
        own_vcenter.reset()
        cut.after("InstantClone_Task", 1)
        assert yard.templates.apply(JDK).objects[0].usable
        assert (cut.cuts, own_vcenter.calls()["InstantClone_Task"]) == (1, 1)
        yard.teardown(templates=True)
    assert set(own_vcenter.machines()) == {SOURCE}


# SSH to a template.


@pytest.fixture
def reached(
    own_vcenter: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Yard]:
    """A yard with a template, whose templates seem to answer at their addresses."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$*" >>{tmp_path}/commands\ncat >>{tmp_path}/input\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    with ExitStack() as stack:
        port = 0
        for address in ADDRESSES:
            listener = stack.enter_context(socket.create_server((address, port)))
            port = listener.getsockname()[1]
        monkeypatch.setattr(template_ssh, "PORT", port)
        uri = f"{own_vcenter.uri}?network={NETWORK}&addresses={ADDRESSES[0]}-{ADDRESSES[1]}/8"
        with Yard(uri, owner=OWNER, pki_dir=str(tmp_path / "pki")) as opened:
            opened.templates.apply(BASE)
            own_vcenter.reset()
            yield opened


def running_draft(yard: Yard, name: str = "jdk") -> TemplateRecord:
    """A running fork of the template."""
    parent = record_of(yard, "base")
    declared = derive_template.bind(
        yard.context,
        rendered(replace(JDK, name=name)),
        yard.context.provider.observe(OWNER).template("default", "base"),
    )
    draft = derive_template.draft(yard.context, declared, parent, 0.0)
    yard.context.provider.derive_template(draft, parent, Deadline(60))
    return draft


def test_files_are_sent_by_ssh_and_nothing_of_that_is_frozen(
    reached: Yard, own_vcenter: Simulator, tmp_path: Path
) -> None:
    reached.templates.apply(JDK)
    commands = (tmp_path / "commands").read_text()
    assert f"stockyard@{ADDRESSES[0]}" in commands or f"stockyard@{ADDRESSES[1]}" in commands
    assert "tar --extract" in commands
    assert b"etc/jdk" in (tmp_path / "input").read_bytes()
    jdk = machine(own_vcenter, reached, "jdk")
    assert jdk.runtime.instantCloneFrozen
    assert not card_of(jdk).connectable.connected
    assert reserved_addresses(own_vcenter) == set()
    root = own_vcenter.directory / "guests" / jdk._moId
    texts = [path.read_bytes() for path in root.rglob("*") if path.is_file()]
    assert not any(b"PRIVATE KEY" in text or b"ssh-ed25519" in text for text in texts)


def test_address_is_reserved_while_the_template_is_connected(
    reached: Yard, own_vcenter: Simulator
) -> None:
    provider, draft = reached.context.provider, running_draft(reached)
    network = provider.template_network(draft)
    assert provider.template_network(draft) == network
    assert (network.address in ADDRESSES, network.gateway) == (True, "")
    virtual_machine = own_vcenter.find(f"stockyard/{draft.domain}")
    with provider.reach(draft, Deadline(60)) as (address, _port):
        assert address == network.address
        assert reserved_addresses(own_vcenter) == {address}
        link = card_of(virtual_machine).connectable
        # If the machine is started again, it is not connected.
        assert (link.connected, link.startConnected) == (True, False)
        second = provider.template_network(running_draft(reached, "other")).address
        assert {address, second} == set(ADDRESSES)
        with pytest.raises(Conflict, match="all 2 addresses"):
            provider.template_network(running_draft(reached, "third"))
        with pytest.raises(Conflict, match="0 addresses are free"):
            provider.check_host(HostSpec(network=NETWORK), None, [], 1)
    assert not card_of(virtual_machine).connectable.connected
    assert reserved_addresses(own_vcenter) == {second}


def test_template_that_does_not_answer_is_refused(
    reached: Yard, own_vcenter: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(template_ssh, "PORT", 1)
    monkeypatch.setattr(template_ssh, "ANSWER", 0.0)
    with pytest.raises(GuestError, match="does not answer at 127") as refused:
        reached.templates.apply(JDK)
    assert "network of the hosts" in (refused.value.remedy or "")
    assert [template.name for template in reached.templates.list()] == ["base"]
    assert reserved_addresses(own_vcenter) == set()


def test_address_of_a_template_that_was_deleted_in_vcenter_is_released(
    reached: Yard, own_vcenter: Simulator
) -> None:
    provider, draft = reached.context.provider, running_draft(reached)
    provider.template_network(draft)
    virtual_machine = own_vcenter.find(f"stockyard/{draft.domain}")
    provider.sweep(OWNER, 0.0)
    assert len(reserved_addresses(own_vcenter)) == 1
    finished(virtual_machine.PowerOffVM_Task())
    finished(virtual_machine.Destroy_Task())
    provider.sweep(OWNER, 0.0, check=True)
    assert len(reserved_addresses(own_vcenter)) == 1
    provider.sweep(OWNER, 0.0)
    assert reserved_addresses(own_vcenter) == set()


def test_yard_without_addresses_is_refused_before_anything_changes(
    own_vcenter: Simulator, tmp_path: Path
) -> None:
    with Yard(own_vcenter.uri, owner=OWNER, pki_dir=str(tmp_path)) as yard:
        yard.templates.apply(BASE)
        own_vcenter.reset()
        with pytest.raises(Unsupported, match="needs an address") as refused:
            yard.templates.apply(JDK)
        assert "addresses=" in (refused.value.remedy or "")
        assert own_vcenter.changes()["InstantClone_Task"] == 0


@pytest.mark.parametrize("reap_first", [True, False])
def test_controller_is_killed_while_the_template_is_connected(
    reached: Yard, own_vcenter: Simulator, tmp_path: Path, reap_first: bool
) -> None:
    argv = [sys.executable, "-c", CONTROLLER, reached.context.provider.uri, str(tmp_path / "pki")]
    controller = subprocess.run(argv, check=False, cwd=Path(__file__).parents[2])
    assert controller.returncode == -signal.SIGKILL
    (draft,) = (
        template.record
        for template in reached.context.provider.observe(OWNER).templates
        if template.record.phase == "booting"
    )
    assert card_of(own_vcenter.find(f"stockyard/{draft.domain}")).connectable.connected
    assert len(reserved_addresses(own_vcenter)) == 1
    # The address is not used again while the template is connected.
    reached.context.provider.sweep(OWNER, 0.0)
    assert len(reserved_addresses(own_vcenter)) == 1
    if reap_first:
        reached.reap(grace=0.0)
        assert [template.name for template in reached.templates.list()] == ["base"]
        assert reserved_addresses(own_vcenter) == set()
    assert reached.templates.apply(JDK).objects[0].usable
    assert reserved_addresses(own_vcenter) == set()
    assert set(own_vcenter.machines()) == {
        SOURCE,
        "stockyard-register",
        *(record_of(reached, name).domain for name in ("base", "jdk")),
    }
