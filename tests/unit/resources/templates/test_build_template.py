# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates: one for each declaration, whole or not at all."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stockyard import (
    BuildOptions,
    FleetSpec,
    GuestError,
    Hardware,
    HypervisorError,
    ImageError,
    ImageSpec,
    InvalidInput,
    NotFound,
    OperationRefused,
    StockyardError,
    TemplateSpec,
    Unsupported,
    Yard,
)
from stockyard.model.observation import Template
from stockyard.model.size import Size
from stockyard.providers.memory.provider import MemoryProvider
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.simulated_machines import disk_of

BASE = TemplateSpec("base")
CHANGED = TemplateSpec("base", image=ImageSpec(packages=("busybox",)))


def templates(yard: Yard) -> list[Template]:
    return sorted(
        yard.context.provider.observe(yard.context.owner).templates, key=lambda t: t.record.created
    )


def test_a_template_is_built_once(bare: Yard, clock: FakeClock) -> None:
    first = bare.templates.apply(BASE)
    assert [(a.verb, a.name) for a in first.plan.actions] == [("build", "base")]
    (built,) = first.objects
    assert built.usable
    assert built.phase == "frozen"
    assert built.created <= clock.now()
    second_result = bare.templates.apply(BASE)
    assert not second_result.changed
    assert second_result.objects == first.objects


@pytest.mark.parametrize("check", [True, False])
def test_template_with_a_daemon_json_that_dockerd_refuses_is_refused_in_check_mode_too(
    bare: Yard, check: bool
) -> None:
    spec = TemplateSpec(
        "base", image=ImageSpec(files={"/etc/docker/daemon.json": '{"hosts": ["tcp://:2375"]}'})
    )
    with pytest.raises(InvalidInput, match="hosts cannot be set"):
        bare.templates.apply(spec, check=check)
    assert templates(bare) == []


@pytest.mark.parametrize("check", [True, False])
def test_package_that_the_mirror_lacks_is_reported_in_check_mode_too(
    bare: Yard, tmp_path: Path, check: bool
) -> None:
    (tmp_path / "hypervisor.d").mkdir()
    (tmp_path / "hypervisor.d" / "mirror.json").write_text('{"nosuch": null}')
    with pytest.raises(ImageError, match="no package nosuch"):
        bare.templates.apply(
            TemplateSpec("base", image=ImageSpec(packages=("nosuch",))), check=check
        )


@pytest.mark.parametrize("check", [True, False])
def test_machine_that_cannot_be_started_is_refused_before_its_image_is_built(
    bare: Yard, hypervisor: FaultyProvider, check: bool
) -> None:
    hypervisor.fail("check_template", Unsupported("no KVM."))
    with pytest.raises(Unsupported, match="no KVM"):
        bare.templates.apply(BASE, check=check)
    assert hypervisor.calls["ensure_image"] == 0


@pytest.mark.parametrize("check", [True, False])
def test_machine_larger_than_the_hypervisor_is_refused(
    bare: Yard, hypervisor: FaultyProvider, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    monkeypatch.setattr(hypervisor.inner, "capacity", lambda: Size(8, 1024))
    assert bare.templates.apply(BASE, check=True).changed
    spec = TemplateSpec("base", hardware=Hardware(memory_mib=1025))
    with pytest.raises(Unsupported, match=r"needs 1025 MiB.*has 1024 MiB"):
        bare.templates.apply(spec, check=check)


def test_check_mode_writes_nothing(bare: Yard, tmp_path: Path) -> None:
    result = bare.templates.apply(BASE, check=True)
    assert result.changed
    assert result.objects == ()
    assert list(tmp_path.iterdir()) == []


def test_guest_settles_before_the_freeze(
    bare: Yard, hypervisor: FaultyProvider, clock: FakeClock
) -> None:
    hypervisor.inner.capabilities = replace(hypervisor.inner.capabilities, settle=0.75)
    bare.templates.apply(BASE)
    assert 0.75 in clock.slept


@pytest.mark.parametrize(
    "build", [{"mirror": "http://mirror/debian"}, {"proxy": "http://proxy:3128"}]
)
def test_package_mirror_is_not_part_of_the_digest(yard: Yard, build: dict[str, Any]) -> None:
    assert not yard.templates.apply(TemplateSpec("base", build=BuildOptions(**build))).changed


@pytest.mark.parametrize(
    "changed",
    [
        CHANGED,
        TemplateSpec("base", image=ImageSpec(files={"/etc/x": "y"})),
        TemplateSpec("base", hardware=Hardware(memory_mib=2048)),
        TemplateSpec("base", docker="stopped"),
    ],
)
def test_changed_declaration_builds_a_second_generation(
    yard: Yard, clock: FakeClock, changed: TemplateSpec
) -> None:
    (old,) = templates(yard)
    clock.sleep(1)
    result = yard.templates.apply(changed)
    assert [a.reason for a in result.plan.actions] == ["its declaration changed"]
    kept_template, new = templates(yard)
    assert kept_template == old
    assert new.record.generation != old.record.generation
    assert not yard.templates.apply(changed).changed


def test_new_hosts_are_forked_from_the_newest_generation(yard: Yard, clock: FakeClock) -> None:
    clock.sleep(1)
    yard.templates.apply(CHANGED)
    (host,) = yard.fleets.apply(FleetSpec("ci", "base")).objects
    assert host.generation == templates(yard)[-1].record.generation[:12]


def test_reverted_declaration_uses_its_earlier_generation(yard: Yard, clock: FakeClock) -> None:
    first = yard.fleets.apply(FleetSpec("ci", "base")).objects[0].generation
    clock.sleep(1)
    yard.templates.apply(CHANGED)
    clock.sleep(1)
    yard.templates.apply(BASE)
    assert yard.fleets.apply(FleetSpec("ci", "base")).objects[0].generation == first


@pytest.mark.parametrize("step", ["create_template", "start", "channel", "freeze"])
@pytest.mark.parametrize("after", [False, True])
def test_a_failure_leaves_nothing_behind(
    bare: Yard, hypervisor: FaultyProvider, step: str, after: bool
) -> None:
    hypervisor.fail(step, HypervisorError("the disk is on fire."), after=after)
    with pytest.raises(HypervisorError, match="on fire"):
        bare.templates.apply(BASE)
    assert templates(bare) == []
    assert bare.templates.apply(BASE).objects[0].usable


@pytest.mark.parametrize("operation", ["hello", "warm-up"])
def test_a_guest_that_fails_leaves_nothing_behind(
    bare: Yard, hypervisor: FaultyProvider, operation: str
) -> None:
    def fail(_answer: object) -> dict[str, object]:
        raise GuestError("dockerd does not start.")

    hypervisor.tamper(operation, fail)
    with pytest.raises(GuestError):
        bare.templates.apply(BASE)
    assert templates(bare) == []


def test_an_interrupt_leaves_nothing_behind(bare: Yard, hypervisor: FaultyProvider) -> None:
    hypervisor.fail("freeze", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        bare.templates.apply(BASE)
    assert templates(bare) == []


def test_failed_deletion_is_reported_and_repeated_by_the_next_run(
    bare: Yard, hypervisor: FaultyProvider
) -> None:
    hypervisor.fail("freeze", HypervisorError("first cause."))
    hypervisor.fail("destroy", HypervisorError("second cause."))
    with pytest.raises(StockyardError, match=r"first cause.*second cause"):
        bare.templates.apply(BASE)
    assert [t.usable for t in templates(bare)] == [False]
    result = bare.templates.apply(BASE)
    assert [a.reason for a in result.plan.actions] == ["it is incomplete"]
    assert [t.usable for t in templates(bare)] == [True]


def damage(yard: Yard) -> None:
    shutil.rmtree(disk_of(yard.templates.list()[-1]))


def test_damaged_template_is_built_again(yard: Yard) -> None:
    damage(yard)
    assert yard.templates.list()[0].problem == "its disk is missing"
    with pytest.raises(NotFound, match="its disk is missing"):
        yard.fleets.apply(FleetSpec("ci", "base"))
    result = yard.templates.apply(BASE)
    assert [a.reason for a in result.plan.actions] == ["its disk is missing"]
    assert [t.usable for t in templates(yard)] == [True]


def test_damaged_template_in_use_is_kept(yard: Yard) -> None:
    yard.fleets.apply(FleetSpec("ci", "base"))
    damage(yard)
    with pytest.raises(OperationRefused, match="hosts of the template exist"):
        yard.templates.apply(BASE)
    assert len(templates(yard)) == 1


def test_a_template_in_use_stays(yard: Yard) -> None:
    yard.fleets.apply(FleetSpec("ci", "base"))
    with pytest.raises(OperationRefused, match="ci-1"):
        yard.templates.delete("base")
    yard.fleets.delete("ci")
    assert yard.templates.delete("base").changed
    assert not yard.templates.delete("base").changed
    assert templates(yard) == []


def test_all_generations_are_removed(yard: Yard, clock: FakeClock) -> None:
    clock.sleep(1)
    yard.templates.apply(CHANGED)
    assert len(yard.templates.delete("base", check=True).plan.actions) == 2
    assert len(templates(yard)) == 2
    assert len(yard.templates.delete("base").plan.actions) == 2
    assert templates(yard) == []


def test_unused_old_generations_are_pruned(
    yard: Yard, clock: FakeClock, hypervisor: FaultyProvider
) -> None:
    yard.fleets.apply(FleetSpec("ci", "base"))
    clock.sleep(1)
    yard.templates.apply(CHANGED)
    assert yard.templates.prune() == ()
    yard.fleets.delete("ci")
    assert isinstance(hypervisor.inner, MemoryProvider)
    mirror = hypervisor.inner.mirror
    for path in mirror._images.iterdir():
        os.utime(path, (0, 0))
    checked = yard.templates.prune(check=True)
    assert (len(templates(yard)), len(list(mirror._images.iterdir()))) == (2, 2)
    assert yard.templates.prune() == checked
    assert [name.split(" ")[0] for name in checked] == ["template", "image"]
    assert len(list(mirror._images.iterdir())) == 1
    assert [t.record.generation[:12] for t in templates(yard)] == [
        yard.templates.get("base").generation
    ]
    assert not yard.templates.apply(CHANGED).changed


def test_tenants_have_templates_of_their_own(yard: Yard) -> None:
    assert yard.templates.apply(TemplateSpec("base", tenant="other")).changed
    yard.templates.delete("base", "other")
    assert [t.record.tenant for t in templates(yard)] == ["default"]
