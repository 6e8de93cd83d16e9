# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Derived templates: the difference from the parent, its digest, and the properties that a derived
template has from its parent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ..errors import Unsupported
from ..model import codec
from ..model.image import DEBIAN, DOCKER_CE, BuildOptions
from ..model.security import SecuritySpec
from ..model.template import Hardware, TemplateRecord, TemplateSpec

# The version of the way in which a difference is applied, part of each digest. Increment it by hand
# when old derived templates must be derived again.
METHOD = 1
# The parts of a layout that need rules of their own.
DECIDED_ELSEWHERE = ("security", "is_clone")
# The declared security of a template that has its parent's.
INHERITED = SecuritySpec()


def digest(spec: TemplateSpec, parent: str) -> str:
    """Return the digest of a derived template.

    :param parent: the digest of the parent's generation, or the name of the parent for a digest of
        the options alone.
    """
    image = spec.image
    difference = {
        "packages": sorted(set(image.packages)),
        "files": image.files or {},
        "preload": [(item.kind, item.name, item.digest) for item in image.preload],
        "commands": image.commands,
        "provision": spec.provision.sum if spec.provision else "",
        "security": codec.to_dict(spec.security) if spec.security != INHERITED else None,
    }
    return codec.digest({"from": parent, "difference": difference, "method": METHOD})


def host_digest(spec: TemplateSpec) -> str:
    """Return the digest of a template that is created from a host: a generation stays current
    although the host changes or is deleted, until the declaration requests another one.
    """
    return codec.digest({"from_host": spec.from_host, "revision": spec.revision, "method": METHOD})


def layout(template: TemplateSpec | TemplateRecord) -> dict[str, Any]:
    """Return the properties of a template that a derived template has too, by their options."""
    facts = {
        **codec.to_dict(template.hardware),
        "cpu": template.hardware.cpu,
        "docker": template.docker,
        "max_memory_mib": template.max_memory_mib,
    }
    if isinstance(template, TemplateSpec):
        image = template.image
        suite, ssh_user, disk_gib = image.suite, image.ssh_user, image.disk_gib
        runtime, docker_packages = image.runtime, image.docker_packages
        is_clone = bool(image.source)
    else:
        suite = template.source.suite if template.source else ""
        ssh_user, disk_gib = template.ssh_user, template.disk_gib
        runtime = template.runtime
        packages = template.source.packages if template.source else ()
        docker_packages = DOCKER_CE if DOCKER_CE in packages else DEBIAN
        is_clone = template.is_clone
    return facts | {
        "suite": suite,
        "ssh_user": ssh_user,
        "disk_gib": disk_gib,
        "runtime": runtime,
        "docker_packages": docker_packages,
        "security": template.security,
        "is_clone": is_clone,
    }


def inherit(spec: TemplateSpec, parent: dict[str, Any]) -> TemplateSpec:
    """Return the declaration of a derived template with the properties of its parent.

    :param parent: the layout of the parent.
    :raises Unsupported: if it declares a property that differs from the default and from the
        parent's.
    """
    defaults = layout(TemplateSpec("default"))
    refused = {
        option: value
        for option, value in layout(spec).items()
        if option not in ("security", "is_clone")
        and value not in (defaults[option], parent[option])
    }
    if refused:
        option, value = next(iter(refused.items()))
        raise Unsupported(
            f"{option} is {value}, and {parent[option]} in template {spec.parent}, which the "
            "template is derived from.",
            name=f"template {spec.name}",
            cause="a derived template is a fork of its parent: kernel, processors, memory, disk, "
            "release and user are the parent's",
            remedy=f"omit {option}, or omit from: then the template is built completely",
        )
    image = replace(
        spec.image,
        suite=parent["suite"] or spec.image.suite,
        ssh_user=parent["ssh_user"],
        disk_gib=parent["disk_gib"] or spec.image.disk_gib,
        runtime=parent["runtime"],
        docker_packages=parent["docker_packages"],
    )
    hardware = Hardware(**{name: parent[name] for name in Hardware.__dataclass_fields__})
    return replace(
        spec,
        image=image,
        hardware=hardware,
        docker=parent["docker"],
        max_memory_mib=parent["max_memory_mib"],
        security=_security_of_clone(spec)
        if parent["is_clone"]
        else _security(spec, parent["security"]),
    )


def _security(spec: TemplateSpec, parent: SecuritySpec | None) -> SecuritySpec:
    """Return the security of a derived template: the declared one, or else the parent's.

    :raises Unsupported: if Docker would lose the images of the parent, or the security of the
        parent is unknown.
    """
    title = f"template {spec.name}"
    if parent is None:
        raise Unsupported(
            f"template {spec.parent} was built by an earlier version of stockyard.",
            name=title,
            cause="its record does not contain its security, which a derived template has too",
            remedy=f"rebuild template {spec.parent}",
        )
    if spec.security == INHERITED:
        return parent
    before, after = parent.settings(), spec.security.settings()
    for option, old, new in (
        ("security.user_namespaces", before.user_namespaces, after.user_namespaces),
        ("security.limits.disk_percent", before.limits.disk_percent, after.limits.disk_percent),
    ):
        if old != new:
            raise Unsupported(
                f"{option} is {new}, and {old} in template {spec.parent}, which the template is "
                "derived from.",
                name=title,
                cause="Docker would have its data elsewhere, and lose the images of the parent",
                remedy=f"declare {option} as in template {spec.parent}, or omit from: then the "
                "template is built completely",
            )
    return spec.security


def _security_of_clone(spec: TemplateSpec) -> SecuritySpec:
    """Return the security of a template whose parent is a clone of a finished machine.

    :raises Unsupported: if it declares a security.
    """
    if spec.security != INHERITED:
        raise Unsupported(
            f"security cannot be added to template {spec.parent}.",
            name=f"template {spec.name}",
            cause="that template is a clone of a source, whose security is not known",
            remedy="omit security, and apply it to the source",
        )
    return INHERITED


def check(specs: Iterable[TemplateSpec]) -> None:
    """Check that each derived template can have the properties of its parent, if the parent is
    declared too.

    :param specs: declared templates, each after its parent.
    :raises Unsupported: as :func:`inherit` does.
    """
    layouts: dict[tuple[str, str], dict[str, Any]] = {}
    for spec in specs:
        parent = layouts.get((spec.tenant, spec.parent))
        effective_spec = inherit(spec, parent) if parent else spec
        if parent or not spec.parent:
            own_layout = layout(effective_spec)
            layouts[spec.tenant, spec.name] = own_layout | {
                "is_clone": parent["is_clone"] if parent else own_layout["is_clone"]
            }


def mirrors(spec: TemplateSpec, parent: TemplateRecord) -> BuildOptions:
    """Return the mirrors of the added packages: the declared ones, or else the parent's."""
    declares_mirrors = replace(spec.build, preload=(), cloud_image=None) != BuildOptions()
    if declares_mirrors or parent.source is None:
        return spec.build
    return replace(parent.source.build, preload=spec.build.preload)
