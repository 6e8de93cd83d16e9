# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine of a new template, and the machine of a fork."""

from __future__ import annotations

import pytest

from stockyard.errors import Unsupported
from stockyard.model.template import Cpu, Hardware
from stockyard.providers.libvirt import machine
from stockyard.providers.libvirt.machine import Machine


def processors(*hotpluggable: str) -> str:
    """Return the processors of a running machine; those that are not plugged in are ``-``."""
    rows = "".join(
        f"<vcpu id='{number}' enabled='{'no' if value == '-' else 'yes'}' "
        f"hotpluggable='{'yes' if value == '-' else value}'/>"
        for number, value in enumerate(hotpluggable)
    )
    enabled = sum(value != "-" for value in hotpluggable)
    return f"<vcpu current='{enabled}'>4</vcpu><vcpus>{rows}</vcpus>"


@pytest.mark.parametrize(
    ("vcpu", "count"),
    [
        ("<vcpu current='2'>4</vcpu>", 2),
        ("<vcpu>4</vcpu>", 4),
        (processors("no", "yes", "-", "-"), 1),
        (processors("no", "no", "yes", "yes"), 2),
        (processors("no", "no", "-", "-"), 2),
    ],
)
def test_a_fork_has_the_processors_plugged_in_that_its_origin_was_started_with(
    vcpu: str, count: int
) -> None:
    text = f"<domain type='qemu'>{vcpu}<os><type machine='pc-q35-7.2'>hvm</type></os></domain>"
    assert machine.frozen(text) == Machine("qemu", count, "pc-q35-7.2")


def test_a_new_emulated_machine_has_all_processors_plugged_in_without_slow_features() -> None:
    hardware = Hardware(vcpus=2, max_vcpus=3, accelerator="tcg")
    features = machine.SLOW_IF_EMULATED
    assert machine.choose(hardware, "t") == Machine(
        "qemu", 3, disabled_features=features, reports_panic=True, has_uplink=True
    )


def test_a_new_machine_with_kvm_has_the_processors_of_its_template(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.access", lambda _path, _mode: True)
    hardware = Hardware(vcpus=2, max_vcpus=3, accelerator="kvm")
    assert machine.choose(hardware, "t") == Machine("kvm", 2, reports_panic=True, has_uplink=True)


def test_required_kvm_that_is_absent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda _path, _mode: False)
    with pytest.raises(Unsupported, match="/dev/kvm cannot be opened") as caught:
        machine.choose(Hardware(accelerator="kvm"), "template base")
    assert caught.value.name == "template base"
    assert machine.choose(Hardware(accelerator="auto"), "template base").type == "qemu"


def test_named_processor_is_that_of_the_template_and_of_its_forks() -> None:
    chosen = machine.choose(Hardware(accelerator="tcg", cpu=Cpu("Nehalem")), "t")
    assert (chosen.cpu_model, chosen.cpu_mode) == ("Nehalem", "custom")
    # libvirt expands the processor of a running machine.
    processor = (
        "<cpu mode='custom' match='exact' check='full'><model fallback='forbid'>Nehalem</model>"
        "<feature policy='require' name='hypervisor'/><feature policy='disable' name='erms'/></cpu>"
    )
    text = f"<domain type='qemu'><os><type machine='pc-q35-7.2'>hvm</type></os>{processor}</domain>"
    frozen = machine.frozen(text)
    assert (frozen.cpu_model, frozen.disabled_features) == ("Nehalem", ("erms",))
    own = text.replace("custom", "host-passthrough")
    assert machine.frozen(own).cpu_model == ""
