# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Derived templates: digests, the properties of the parent, and the order of a declaration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stockyard import BuildOptions, Hardware, ImageSpec, InvalidInput, TemplateSpec, Unsupported
from stockyard.model.preload import Preload
from stockyard.model.provision import Provision
from stockyard.model.security import SecuritySpec
from stockyard.model.template import TemplateRecord
from stockyard.planning import derivation
from stockyard.planning.declaration import Declaration, TemplateTerm
from tests.helpers.samples import template_record

PARENT = "ab" * 32
JDK = TemplateSpec("jdk", parent="docker", image=ImageSpec(packages=("jdk", "ant")))


def declared(*specs: TemplateSpec) -> Declaration:
    return Declaration(tuple(TemplateTerm(spec) for spec in specs))


@pytest.mark.parametrize(
    "changed",
    [
        replace(JDK, image=replace(JDK.image, packages=("jdk",))),
        replace(JDK, image=replace(JDK.image, files={"/etc/x": "y"})),
        replace(JDK, image=replace(JDK.image, commands=("true",))),
        replace(
            JDK, image=replace(JDK.image, preload=(Preload("rootfs", "/x", "x:1", digest=PARENT),))
        ),
        replace(JDK, provision=Provision("site.yml", digest=PARENT)),
        replace(JDK, security=SecuritySpec("hostile")),
    ],
)
def test_digest_covers_every_part_of_the_difference(changed: TemplateSpec) -> None:
    assert derivation.digest(changed, PARENT) != derivation.digest(JDK, PARENT)


def test_digest_covers_the_parent_and_no_more() -> None:
    assert derivation.digest(JDK, "cd" * 32) != derivation.digest(JDK, PARENT)
    other_order = replace(JDK, image=replace(JDK.image, packages=("ant", "jdk")))
    other_source = replace(JDK, build=BuildOptions(mirror="http://mirror/debian"), max_age=86400)
    assert derivation.digest(other_order, PARENT) == derivation.digest(JDK, PARENT)
    assert derivation.digest(other_source, PARENT) == derivation.digest(JDK, PARENT)


def test_derived_template_has_the_machine_of_its_parent() -> None:
    parent = TemplateSpec(
        "docker",
        hardware=Hardware(vcpus=2, memory_mib=2048),
        image=ImageSpec(suite="bookworm", disk_gib=20, ssh_user="ci", runtime="crun"),
        docker="stopped",
        max_memory_mib=4096,
    )
    spec = derivation.inherit(JDK, derivation.layout(parent))
    assert derivation.layout(spec) == derivation.layout(parent)
    assert spec.image.packages == JDK.image.packages


@pytest.mark.parametrize(
    ("spec", "option"),
    [
        (replace(JDK, hardware=Hardware(vcpus=3)), "vcpus"),
        (replace(JDK, hardware=Hardware(memory_mib=4096)), "memory_mib"),
        (replace(JDK, max_memory_mib=8192), "max_memory_mib"),
        (replace(JDK, image=ImageSpec(suite="bookworm")), "suite"),
        (replace(JDK, image=ImageSpec(disk_gib=99)), "disk_gib"),
        (replace(JDK, image=ImageSpec(ssh_user="other")), "ssh_user"),
        (replace(JDK, docker="stopped"), "docker"),
        (replace(JDK, image=ImageSpec(runtime="crun")), "runtime"),
    ],
)
def test_another_machine_than_the_parents_is_refused(spec: TemplateSpec, option: str) -> None:
    with pytest.raises(Unsupported, match=f"^template jdk: {option} is ") as refused:
        derivation.inherit(spec, derivation.layout(TemplateSpec("docker")))
    assert "is a fork of its parent" in refused.value.cause
    assert f"omit {option}" in refused.value.remedy


@pytest.mark.parametrize(
    "options",
    [
        {"parent": "jdk"},
        {"parent": "Not A Name"},
        {"image": ImageSpec(source="golden")},
    ],
)
def test_impossible_declaration_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises((InvalidInput, Unsupported)):
        replace(JDK, **options)


def test_mirrors_are_the_parents_unless_declared() -> None:
    parent = template_record(source=None)
    assert derivation.mirrors(JDK, parent) == JDK.build
    proxied = replace(JDK, build=BuildOptions(proxy="http://proxy:3128"))
    assert derivation.mirrors(proxied, parent) == proxied.build


def test_parents_come_first_at_every_level() -> None:
    levels = [TemplateSpec("c", parent="b"), TemplateSpec("b", parent="a"), TemplateSpec("a")]
    assert [term.spec.name for term in declared(*levels).parents_first] == ["a", "b", "c"]


def test_circle_of_parents_is_refused() -> None:
    with pytest.raises(InvalidInput, match="derived from itself, through other templates"):
        declared(TemplateSpec("a", parent="b"), TemplateSpec("b", parent="a"))


def test_declaration_is_refused_if_an_ancestor_has_another_machine() -> None:
    base = TemplateSpec("a", hardware=Hardware(memory_mib=2048))
    middle = TemplateSpec("b", parent="a")
    declared(base, middle, TemplateSpec("c", parent="b", hardware=Hardware(memory_mib=2048)))
    with pytest.raises(Unsupported, match="memory_mib is 4096, and 2048 in template b"):
        declared(base, middle, TemplateSpec("c", parent="b", hardware=Hardware(memory_mib=4096)))


def test_parent_that_is_not_declared_must_exist_and_stays() -> None:
    declaration = replace(declared(JDK), prune="force")
    (need,) = declaration.needed
    assert (need.needed_by, need.kind, need.key) == (
        "template jdk",
        "template",
        ("default", "docker"),
    )


SOURCE = TemplateSpec("docker", image=ImageSpec(source="debian-13-docker"))
CLONE = template_record(name="docker", image="5030a3b4@2026-01-01T00:00:00Z")


@pytest.mark.parametrize("parent", [SOURCE, CLONE])
def test_template_of_a_source_has_a_security_that_is_not_known(
    parent: TemplateSpec | TemplateRecord,
) -> None:
    spec = derivation.inherit(JDK, derivation.layout(parent))
    assert spec.security == SecuritySpec()
    with pytest.raises(Unsupported, match="security cannot be added to template docker"):
        derivation.inherit(replace(JDK, security=SecuritySpec("shared")), derivation.layout(parent))


def test_security_of_a_source_is_not_known_at_any_level() -> None:
    app = TemplateSpec("app", parent="jdk")
    derivation.check([SOURCE, JDK, app])
    with pytest.raises(Unsupported, match="security cannot be added to template jdk"):
        derivation.check([SOURCE, JDK, replace(app, security=SecuritySpec("shared"))])
