# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates whose hypervisor has another platform than the one that they were frozen on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    Cpu,
    Declaration,
    FleetSpec,
    Hardware,
    ImageSpec,
    StockyardError,
    TemplateSpec,
    TemplateTerm,
    Unsupported,
    Yard,
)
from stockyard.hypervisor.records import decode, encode
from stockyard.model import codec
from stockyard.providers.memory.provider import PLATFORM
from tests.helpers.clocks import FakeClock

BASE = TemplateSpec("base")


@pytest.fixture
def move(tmp_path: Path) -> Callable[..., None]:
    """Give the hypervisor another platform."""

    def change(**changes: Any) -> None:
        file = tmp_path / "hypervisor.d" / "platform.json"
        file.write_text(json.dumps(codec.to_dict(replace(PLATFORM, **changes))))

    return change


def test_template_shows_the_platform_that_it_was_frozen_on(yard: Yard) -> None:
    template = yard.templates.get("base")
    assert template.platform == PLATFORM
    assert template.drift == ()


def test_other_kernel_is_shown_and_builds_nothing(yard: Yard, move: Callable[..., None]) -> None:
    move(kernel="6.12.0", microcode="0x2", emulator="1.1")
    facts = [(item.fact, item.prevents_instant_forks) for item in yard.templates.get("base").drift]
    assert facts == [("emulator", False), ("kernel", False), ("microcode", False)]
    assert not yard.templates.apply(BASE).changed
    (host,) = yard.fleets.apply(FleetSpec("ci", "base", count=1)).objects
    assert (host.mode, host.mode_reason) == ("instant", "")


def test_host_of_a_template_of_another_processor_boots_from_its_disk(
    yard: Yard, move: Callable[..., None]
) -> None:
    move(cpu_model="another")
    (host,) = yard.fleets.apply(FleetSpec("ci", "base", count=1)).objects
    assert host.mode == "linked"
    assert "CPU model simulated was frozen, and the hypervisor has another" in host.mode_reason
    assert yard.templates.get("base").usable


def test_new_generation_is_built_beside_the_hosts_of_the_old_one(
    yard: Yard, move: Callable[..., None], clock: FakeClock
) -> None:
    yard.fleets.apply(FleetSpec("ci", "base", count=1))
    old = yard.templates.get("base")
    move(cpu_features=("slow",))
    clock.sleep(1)
    plan = yard.templates.apply(BASE, check=True).plan
    assert "its memory cannot be resumed: CPU features: fast frozen" in plan.actions[0].reason
    (new,) = yard.templates.apply(BASE).objects
    assert new.generation != old.generation
    assert new.drift == ()
    assert not yard.templates.apply(BASE).changed
    assert [template.generation for template in yard.templates.list(name="base")] == [
        old.generation,
        new.generation,
    ]
    # On the old platform, the old generation is current again.
    move()
    clock.sleep(1)
    (promoted,) = yard.templates.apply(BASE).objects
    assert promoted.generation == old.generation


def test_site_builds_a_new_generation(yard: Yard, move: Callable[..., None]) -> None:
    move(emulator="0.9")
    result = yard.apply(Declaration(templates=(TemplateTerm(BASE),)))
    assert [action.verb for action in result.plan.actions] == ["build"]
    assert "QEMU 1.0 was frozen, and the hypervisor has 0.9" in result.plan.actions[0].reason


def test_template_is_not_derived_from_memory_that_cannot_be_resumed(
    yard: Yard, move: Callable[..., None]
) -> None:
    move(cpu_model="another")
    child = TemplateSpec("child", parent="base", image=ImageSpec(packages=("git",)))
    with pytest.raises(Unsupported, match="cannot resume the memory"):
        yard.templates.apply(child)
    # A base that cannot be resumed is no base: the template is built.
    built = yard.templates.apply(TemplateSpec("base", image=ImageSpec(commands=("true",))))
    assert built.objects[0].parent == ""


def test_derived_template_has_the_platform_of_its_own_freeze(
    yard: Yard, move: Callable[..., None]
) -> None:
    move(kernel="6.12.0")
    child = TemplateSpec("child", parent="base", image=ImageSpec(packages=("git",)))
    (derived,) = yard.templates.apply(child).objects
    assert derived.platform
    assert derived.platform.kernel == "6.12.0"
    assert derived.drift == ()


def test_machine_type_that_is_absent_refuses_hosts_before_anything_changes(
    yard: Yard, move: Callable[..., None]
) -> None:
    move(machine="")
    for check in (True, False):
        with pytest.raises(StockyardError, match="cannot boot the disk") as refused:
            yard.fleets.apply(FleetSpec("ci", "base", count=1), check=check)
        assert "machine type simulated-1.0" in refused.value.cause
    assert yard.hosts.list() == ()


def test_record_without_a_platform_is_read_and_forked(
    yard: Yard, move: Callable[..., None]
) -> None:
    (template,) = yard.context.provider.observe(yard.context.owner).templates
    earlier = yard.context.provider.claim(template.record, platform=None)
    assert "platform" not in json.loads(encode(earlier))
    assert decode(encode(earlier)) == earlier
    move(cpu_model="another", machine="")
    assert yard.templates.get("base").drift == ()
    assert yard.templates.get("base").platform is None
    assert not yard.templates.apply(BASE).changed
    (host,) = yard.fleets.apply(FleetSpec("ci", "base", count=1)).objects
    assert host.mode == "instant"


def test_declared_processor_is_part_of_the_digest_and_of_derived_templates(yard: Yard) -> None:
    assert codec.digest(Hardware()) == codec.digest(Hardware(cpu=Cpu()))
    named = TemplateSpec("base", hardware=Hardware(cpu=Cpu("Nehalem")))
    (built,) = yard.templates.apply(named).objects
    assert built.hardware.cpu == Cpu("Nehalem")
    child = TemplateSpec("child", parent="base", image=ImageSpec(packages=("git",)))
    (derived,) = yard.templates.apply(child).objects
    assert derived.hardware.cpu == Cpu("Nehalem")
    refused = replace(child, hardware=Hardware(cpu=Cpu("Westmere")))
    with pytest.raises(Unsupported, match="cpu is Westmere, and Nehalem in template base"):
        yard.templates.apply(refused)
