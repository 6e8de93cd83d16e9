# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Derived templates: generations of parent and child, their order, and deletion in every order."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

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
    SecuritySpec,
    TemplateInfo,
    TemplateSpec,
    Unsupported,
    Yard,
)
from stockyard.clock import Deadline
from stockyard.guest.recipe import rendered
from stockyard.model.preload import Preload
from stockyard.model.recipe import Recipe
from stockyard.planning import derivation
from stockyard.planning.declaration import Declaration, FleetTerm, TemplateTerm
from stockyard.resources.templates import derive_template
from stockyard.resources.templates.derive_template import Difference, difference_of
from stockyard.resources.templates.template_shell import Shell
from tests.helpers.clocks import FakeClock
from tests.helpers.faulty_provider import FaultyProvider
from tests.helpers.samples import template_record

BASE = TemplateSpec("base")
CHANGED = TemplateSpec("base", image=ImageSpec(packages=("busybox",)))
JDK = TemplateSpec("jdk", parent="base", image=ImageSpec(packages=("jdk",)))
ANT = TemplateSpec("ant", parent="jdk", image=ImageSpec(packages=("ant",)))
LEVELS = Declaration(
    (TemplateTerm(ANT), TemplateTerm(JDK), TemplateTerm(BASE)),
    (FleetTerm(FleetSpec("ci", "ant", count=1)),),
)


def current(yard: Yard, name: str) -> TemplateInfo:
    return yard.templates.get(name)


def verbs(yard: Yard, declaration: Declaration, *, check: bool) -> list[str]:
    actions = yard.apply(declaration, check=check).plan.actions
    return [f"{action.verb} {action.kind} {action.name}" for action in actions]


def test_derived_template_is_a_fork_of_the_parents_generation(
    yard: Yard, hypervisor: FaultyProvider
) -> None:
    result = yard.templates.apply(JDK)
    assert [(a.verb, a.name, a.reason) for a in result.plan.actions] == [
        ("build", "jdk", "it does not exist")
    ]
    (jdk,), base = result.objects, current(yard, "base")
    assert (jdk.parent, jdk.parent_generation) == ("base", base.generation)
    assert (jdk.image, jdk.hardware, jdk.phase) == (base.image, base.hardware, "frozen")
    assert jdk.generation != base.generation
    assert jdk.mac != base.mac
    assert jdk.source
    assert "jdk" in jdk.source.packages
    # No image is built, and nothing boots.
    assert hypervisor.calls["ensure_image"] == hypervisor.calls["create_template"] == 0
    assert hypervisor.calls["start"] == 0
    assert not yard.templates.apply(JDK).changed


def test_host_of_a_derived_template_is_ready(yard: Yard) -> None:
    yard.templates.apply(JDK)
    (host,) = yard.fleets.apply(FleetSpec("ci", "jdk")).objects
    assert (host.ready, host.template) == (True, "jdk")
    assert host.generation == current(yard, "jdk").generation


def test_new_generation_of_the_parent_makes_one_of_the_child(yard: Yard, clock: FakeClock) -> None:
    first = yard.templates.apply(JDK).objects[-1]
    clock.sleep(1)
    yard.templates.apply(CHANGED)
    result = yard.templates.apply(JDK)
    assert [a.reason for a in result.plan.actions] == ["its parent base has another generation"]
    second = result.objects[-1]
    assert second.generation != first.generation
    # An earlier generation of the parent that is current again makes the child's current again.
    clock.sleep(1)
    yard.templates.apply(BASE)
    result = yard.templates.apply(JDK)
    assert [a.verb for a in result.plan.actions] == ["promote"]
    assert result.objects[-1].generation == first.generation


def test_changed_difference_is_a_new_generation(yard: Yard, clock: FakeClock) -> None:
    yard.templates.apply(JDK)
    clock.sleep(1)
    changed = replace(JDK, image=ImageSpec(packages=("jdk", "maven")))
    result = yard.templates.apply(changed)
    assert [a.reason for a in result.plan.actions] == ["its declaration changed"]


def test_unknown_parent_is_reported_in_check_mode_and_refused_otherwise(bare: Yard) -> None:
    assert bare.templates.apply(JDK, check=True).changed
    with pytest.raises(NotFound, match="template base, which it is derived from"):
        bare.templates.apply(JDK)
    assert bare.templates.list() == ()


def test_another_machine_is_refused_before_anything_changes(yard: Yard) -> None:
    large = replace(JDK, hardware=Hardware(memory_mib=4096))
    for check in (True, False):
        with pytest.raises(Unsupported, match="memory_mib is 4096, and 1024 in template base"):
            yard.templates.apply(large, check=check)
    assert [template.name for template in yard.templates.list()] == ["base"]


@pytest.mark.parametrize("check", [True, False])
def test_hypervisor_that_clones_sources_refuses_with_the_reason(
    yard: Yard, hypervisor: FaultyProvider, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    capabilities = replace(hypervisor.inner.capabilities, derives=False)
    monkeypatch.setattr(hypervisor.inner, "capabilities", capabilities)
    with pytest.raises(Unsupported, match="cannot be derived on this hypervisor") as refused:
        yard.templates.apply(JDK, check=check)
    assert "omit from" in (refused.value.remedy or "")
    filled = replace(BASE, image=ImageSpec(commands=("true",)))
    assert "derived from" not in str(yard.templates.apply(filled, check=True).plan)


@pytest.mark.parametrize("step", ["derive_template", "fetch_difference", "channel", "freeze"])
@pytest.mark.parametrize("after", [False, True])
def test_failure_leaves_nothing_behind(
    yard: Yard, hypervisor: FaultyProvider, step: str, after: bool
) -> None:
    hypervisor.fail(step, HypervisorError("the disk is on fire."), after=after)
    with pytest.raises(HypervisorError, match="on fire"):
        yard.templates.apply(JDK)
    assert [template.name for template in yard.templates.list()] == ["base"]
    assert yard.templates.apply(JDK).objects[0].usable


@pytest.mark.parametrize("order", [("base", "jdk", "ant"), ("ant", "jdk", "base")])
def test_levels_can_be_deleted_in_any_order(yard: Yard, order: tuple[str, ...]) -> None:
    yard.templates.apply(JDK)
    yard.templates.apply(ANT)
    for number, name in enumerate(order):
        yard.templates.delete(name)
        for remaining in order[number + 1 :]:
            (host,) = yard.fleets.apply(FleetSpec("ci", remaining)).objects
            assert host.ready
            yard.fleets.delete("ci")
    assert yard.templates.list() == ()


def test_yard_builds_parents_first_as_planned(bare: Yard, clock: FakeClock) -> None:
    planned = verbs(bare, LEVELS, check=True)
    assert planned[:3] == ["build template base", "build template jdk", "build template ant"]
    assert bare.templates.list() == ()
    assert verbs(bare, LEVELS, check=False) == planned
    assert not bare.apply(LEVELS).changed
    clock.sleep(1)
    changed = replace(
        LEVELS, templates=(TemplateTerm(ANT), TemplateTerm(JDK), TemplateTerm(CHANGED))
    )
    planned = verbs(bare, changed, check=True)
    assert planned[:3] == ["build template base", "build template jdk", "build template ant"]
    assert "create host ci-2" in planned
    assert verbs(bare, changed, check=False) == planned
    assert not bare.apply(changed).changed


def test_yard_promotes_the_child_with_its_parent(bare: Yard, clock: FakeClock) -> None:
    bare.apply(LEVELS)
    clock.sleep(1)
    bare.apply(
        replace(LEVELS, templates=(TemplateTerm(ANT), TemplateTerm(JDK), TemplateTerm(CHANGED)))
    )
    clock.sleep(1)
    planned = verbs(bare, LEVELS, check=True)
    assert planned[:3] == ["promote template base", "promote template jdk", "promote template ant"]
    assert verbs(bare, LEVELS, check=False) == planned


def test_yard_without_the_parent_is_refused_before_anything_changes(bare: Yard) -> None:
    declaration = Declaration((TemplateTerm(JDK), TemplateTerm(TemplateSpec("other"))))
    with pytest.raises(NotFound, match="the declaration needs template base"):
        bare.apply(declaration)
    assert bare.templates.list() == ()


def test_pruning_keeps_a_parent_that_is_not_declared(yard: Yard) -> None:
    yard.apply(Declaration((TemplateTerm(JDK),), prune="force"))
    assert {template.name for template in yard.templates.list()} == {"base", "jdk"}


def test_upgrade_follows_the_added_packages_only(
    yard: Yard, clock: FakeClock, tmp_path: Path
) -> None:
    fresh = replace(JDK, upgrade=True)
    yard.templates.apply(fresh)
    mirror = tmp_path / "hypervisor.d" / "mirror.json"
    mirror.write_text(json.dumps({"docker.io": "2"}))
    assert not yard.templates.apply(fresh).changed
    mirror.write_text(json.dumps({"docker.io": "2", "jdk": "2"}))
    clock.sleep(1)
    result = yard.templates.apply(fresh)
    assert [a.reason for a in result.plan.actions] == ["package updates: jdk 1 -> 2"]
    assert not yard.templates.apply(fresh).changed
    assert yard.templates.apply(JDK).objects[-1].generation == result.objects[-1].generation


@pytest.mark.parametrize(
    ("path", "restarts"),
    [
        ("/etc/docker/daemon.json", True),
        ("/etc/systemd/system/x.service", True),
        ("/etc/sysctl.d/x.conf", True),
        ("/etc/motd", False),
        ("/opt/tool/config", False),
    ],
)
def test_guest_restarts_for_a_file_that_is_read_at_its_start(
    yard: Yard, hypervisor: FaultyProvider, path: str, restarts: bool
) -> None:
    text = "{}" if path.endswith(".json") else "x"
    spec = replace(JDK, image=ImageSpec(files={path: text}))
    hypervisor.calls.clear()
    yard.templates.apply(spec)
    assert hypervisor.calls["start"] == restarts


SHARED = replace(BASE, security=SecuritySpec("shared"))


def difference(parent: TemplateSpec, child: TemplateSpec) -> Difference:
    """The difference of a derived template, as its guest gets it."""
    record = template_record(security=parent.security, docker=parent.docker)
    effective = derivation.inherit(child, derivation.layout(parent))
    return difference_of(rendered(effective), record)


def test_security_of_the_parent_is_inherited(yard: Yard, clock: FakeClock) -> None:
    clock.sleep(1)
    yard.templates.apply(SHARED)
    yard.templates.apply(JDK)
    observed = yard.context.provider.observe("stockyard").template("default", "jdk")
    assert observed
    assert observed.record.security == SHARED.security
    assert difference(SHARED, JDK) == Difference(("jdk",), {}, ())


def test_declared_security_replaces_that_of_the_parent_with_a_restart(
    yard: Yard, hypervisor: FaultyProvider, clock: FakeClock
) -> None:
    clock.sleep(1)
    yard.templates.apply(SHARED)
    hostile = replace(JDK, security=SecuritySpec("hostile"))
    hypervisor.calls.clear()
    yard.templates.apply(hostile)
    assert (hypervisor.calls["stop"], hypervisor.calls["start"]) == (1, 1)
    changed = difference(SHARED, hostile)
    assert "auditd" in changed.packages
    assert '"hostile"' in changed.files["/etc/stockyard/security.json"].text
    weaker = replace(JDK, security=replace(SHARED.security, firewall=False))
    changed = difference(SHARED, weaker)
    assert changed.packages == ("jdk",)
    assert any("firewall" in path or "nftables" in path for path in changed.removed)


@pytest.mark.parametrize(
    ("security", "option"),
    [
        (SecuritySpec("trusted", icc=False), "user_namespaces is none, and remap"),
        (SecuritySpec("shared", limits={"disk_percent": 10}), "disk_percent is 10, and 60"),
    ],
)
def test_security_that_hides_the_parents_images_is_refused(
    yard: Yard, clock: FakeClock, security: SecuritySpec, option: str
) -> None:
    clock.sleep(1)
    yard.templates.apply(SHARED)
    with pytest.raises(Unsupported, match=option):
        yard.templates.apply(replace(JDK, security=security), check=True)


def test_file_of_the_inherited_profile_is_refused(yard: Yard, clock: FakeClock) -> None:
    clock.sleep(1)
    yard.templates.apply(SHARED)
    files = {"/etc/docker/daemon.json": "{}"}
    with pytest.raises(InvalidInput, match="is a part of the security profile"):
        yard.templates.apply(replace(JDK, image=ImageSpec(files=files)), check=True)


def test_parent_of_an_earlier_version_is_refused(yard: Yard, hypervisor: FaultyProvider) -> None:
    observed = yard.context.provider.observe("stockyard").template("default", "base")
    assert observed
    yard.context.provider.claim(observed.record, security=None)
    with pytest.raises(Unsupported, match="was built by an earlier version"):
        yard.templates.apply(JDK, check=True)


def test_difference_contains_changes_of_earlier_levels() -> None:
    spec = replace(JDK, image=ImageSpec(packages=("sudo",), files={"/etc/default/locale": ""}))
    changed = difference(BASE, spec)
    assert changed.packages == ("sudo",)
    assert list(changed.files) == ["/etc/default/locale"]
    commands = replace(JDK, image=ImageSpec(commands=("true",)))
    (path,) = difference(BASE, commands).files
    assert path.endswith("/provision")
    assert difference(BASE, commands).restart_reason == ""


@pytest.fixture
def archive(tmp_path: Path) -> Preload:
    path = tmp_path / "app.tar"
    path.write_bytes(b"an image")
    return Preload("archive", str(path))


def test_added_images_and_commands_are_derived_from_the_generation_without_them(
    yard: Yard, hypervisor: FaultyProvider, clock: FakeClock, archive: Preload
) -> None:
    bare = current(yard, "base")
    filled = replace(BASE, image=ImageSpec(preload=(archive,), commands=("true",)))
    clock.sleep(1)
    planned = yard.templates.apply(filled, check=True).plan
    result = yard.templates.apply(filled)
    assert result.plan == planned
    assert [a.reason for a in result.plan.actions] == [
        f"its declaration changed; it will be derived from template base ({bare.generation})"
    ]
    template = result.objects[-1]
    assert (template.parent, template.parent_generation) == ("base", bare.generation)
    assert template.source == bare.source
    assert hypervisor.calls["ensure_image"] == 0
    assert not yard.templates.apply(filled).changed
    # The base stays, so that each later change can be derived from it, and be taken back.
    for number in range(3):
        clock.sleep(1)
        changed = replace(BASE, image=ImageSpec(preload=(archive,), commands=(f"echo {number}",)))
        result = yard.templates.apply(changed)
        assert result.objects[-1].parent_generation == bare.generation
    assert len(yard.templates.list(name="base")) == 3
    clock.sleep(1)
    assert next(a.verb for a in yard.templates.apply(BASE).plan.actions) == "promote"


@pytest.mark.parametrize(
    "spec",
    [
        # Other packages than the base has; packages of today are required.
        replace(CHANGED, image=ImageSpec(packages=("busybox",), commands=("true",))),
        replace(BASE, image=ImageSpec(files={"/etc/x": "y"}, commands=("true",))),
        replace(BASE, image=ImageSpec(commands=("true",)), upgrade=True),
        replace(BASE, image=ImageSpec(commands=("true",)), max_age=86400),
        replace(BASE, image=ImageSpec(commands=("true",)), hardware=Hardware(memory_mib=2048)),
        replace(BASE, tenant="other", image=ImageSpec(commands=("true",))),
    ],
)
def test_other_changes_of_an_ordinary_template_are_built(
    yard: Yard, hypervisor: FaultyProvider, clock: FakeClock, spec: TemplateSpec
) -> None:
    clock.sleep(1)
    assert yard.templates.apply(spec).objects[-1].parent == ""
    assert (hypervisor.calls["ensure_image"], hypervisor.calls["derive_template"]) == (1, 0)


CLONE = template_record(image="5030a3b4@2026-01-01T00:00:00Z")


def test_derived_template_of_a_source_has_no_known_security(yard: Yard) -> None:
    declared = rendered(derivation.inherit(JDK, derivation.layout(CLONE)))
    record = derive_template.draft(yard.context, declared, CLONE, 0.0)
    assert (record.image, record.security, record.is_clone) == (CLONE.image, None, True)
    assert difference_of(declared, CLONE) == Difference(("jdk",), {}, ())


@pytest.mark.parametrize(
    ("release", "fits"),
    [
        ("ID=debian\nVERSION_CODENAME=trixie\n", True),
        ("ID=debian\nVERSION_CODENAME=bookworm\n", False),
        ("ID=fedora\n", False),
    ],
)
def test_packages_of_another_release_than_the_source_are_refused(
    tmp_path: Path, release: str, fits: bool
) -> None:
    (tmp_path / "os-release").write_text(release)
    script = (
        f'sudo() {{ "$@"; }}; eval "$(echo "$0" | sed s,/etc/os-release,{tmp_path}/os-release,)"'
    )
    shell = Shell(["sh", "-c", script], "template jdk", Deadline(60))
    if fits:
        derive_template.refuse_other_release(shell, JDK)
        return
    with pytest.raises(GuestError, match="packages of trixie cannot be added") as refused:
        derive_template.refuse_other_release(shell, JDK)
    assert "declare the suite of the source for template base" in (refused.value.remedy or "")


def test_check_mode_asks_the_mirror_and_release_of_the_parent(
    yard: Yard, hypervisor: FaultyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = BuildOptions(mirror="http://mirror.example/debian")
    old = TemplateSpec("old", image=ImageSpec(suite="bookworm"), build=build)
    child = TemplateSpec("child", parent="old", image=ImageSpec(packages=("jdk",)))
    requests: list[tuple[str, str]] = []

    def resolve(recipe: Recipe, build: BuildOptions, _deadline: Deadline) -> dict[str, str]:
        requests.append((recipe.suite, build.mirror))
        return {}

    with monkeypatch.context() as patch:
        patch.setattr(hypervisor.inner, "resolve", resolve)
        # The parent decides both, and does not exist yet.
        yard.apply(Declaration((TemplateTerm(old), TemplateTerm(child))), check=True)
        assert requests == [("bookworm", build.mirror)]
    yard.templates.apply(old)
    requests.clear()
    monkeypatch.setattr(hypervisor.inner, "resolve", resolve)
    yard.templates.apply(child, check=True)
    yard.apply(Declaration((TemplateTerm(old), TemplateTerm(child))), check=True)
    assert requests == [("bookworm", build.mirror)] * 2


def test_check_mode_asks_no_mirror_for_a_fork_without_packages(
    yard: Yard, hypervisor: FaultyProvider
) -> None:
    yard.templates.apply(BASE)
    hypervisor.fail("resolve", ImageError("the mirror does not answer."))
    spec = TemplateSpec("more", image=ImageSpec(commands=("true",)))
    assert yard.templates.apply(spec, check=True).changed
