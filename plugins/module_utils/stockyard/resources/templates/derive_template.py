# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Derived templates: forks of a frozen template that get a difference and are frozen in turn.

Nothing boots: the fork runs at once, with Docker. A derived generation has its own disk and memory
file, so it does not need its parent afterwards.
"""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ...clock import Deadline
from ...errors import GuestError, NotFound, Unsupported
from ...guest.agent.provision import PLACE
from ...guest.client import Guest
from ...guest.recipe import RenderedTemplate, declared_digest, recipe, rendered
from ...model import codec
from ...model.image import without_secrets
from ...model.observation import Observation, Template, newest
from ...model.recipe import GuestFile
from ...model.template import Derivation, Source, TemplateRecord, TemplateSpec
from ...planning import derivation
from ...planning.plan import UNKNOWN_GENERATION
from ..context import Context
from ..hosts.reservation import mac_of
from . import template_shell
from .template_shell import Shell

# The agent of a frozen template has real-time priority until its fork has an identity. Commands
# that it runs would have it too.
ORDINARY_PRIORITY = (
    "for thread in $(cat /sys/fs/cgroup/system.slice/stockyard-agent.service/cgroup.threads); do "
    "chrt --other --pid 0 $thread || true; done"
)
PACKAGES = "/var/lib/stockyard/packages"
# Evict what the session of an installation read. The other caches are those of the parent, which
# forks need. The kernel reports an error because it cannot evict everything.
EVICT = (
    "sync; echo 1G >/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)/memory.reclaim "
    "2>/dev/null || true"
)
INSTALL = (
    "export DEBIAN_FRONTEND=noninteractive; "
    "apt-get -qq --yes --no-install-recommends -o Dir::Etc::SourceList=/dev/null "
    "-o Dir::Etc::SourceParts=/dev/null -o APT::Sandbox::User=root "
    "-o Dpkg::Options::=--force-confold "
    f"install {PACKAGES}/*.deb; rm -rf {PACKAGES}; apt-get clean; {EVICT}"
)
# Settings that are read only when the guest or a service starts.
READ_AT_BOOT = (
    "/etc/apparmor", "/etc/audit", "/etc/containerd/", "/etc/default/", "/etc/docker/",
    "/etc/environment", "/etc/fstab", "/etc/modprobe.d/", "/etc/modules", "/etc/nftables",
    "/etc/security/", "/etc/ssh/", "/etc/stockyard/", "/etc/sysctl", "/etc/systemd/",
    "/etc/sysusers.d/", "/etc/tmpfiles.d/", "/etc/udev/", "/lib/", "/usr/lib/",
)  # fmt: skip


def parent_of(
    spec: TemplateSpec, observation: Observation, upcoming: str | None = None
) -> Template | None:
    """Return the generation that a template will be derived from; ``None`` if it does not exist.

    :param upcoming: the digits of the generation that the parent will have after its own plan, if
        they are known, or :data:`UNKNOWN_GENERATION`.
    """
    if upcoming == UNKNOWN_GENERATION:
        return None
    if upcoming is None:
        return observation.template(spec.tenant, spec.parent)
    return next(
        (
            template
            for template in observation.generations(spec.tenant, spec.parent)
            if template.record.generation[:12] == upcoming
        ),
        None,
    )


def bind(ctx: Context, declared: RenderedTemplate, parent: Template | None) -> RenderedTemplate:
    """Return a derived template with the properties of its parent, and its digest.

    :raises Unsupported: if the hypervisor cannot derive templates, or if the declaration needs
        another machine than the parent's.
    :raises InvalidInput: if a declared file is a part of the security profile.
    """
    spec = declared.spec
    if not ctx.provider.capabilities.derives:
        raise Unsupported(
            "templates cannot be derived on this hypervisor.",
            name=f"template {spec.name}",
            cause="it cannot fork a template into another one",
            remedy="omit from: then the template is built completely",
        )
    options = derivation.digest(spec, spec.parent)
    if parent is None:
        return replace(declared, digest=derivation.digest(spec, ""), options=options)
    digest = derivation.digest(spec, parent.record.generation)
    spec = derivation.inherit(spec, derivation.layout(parent.record))
    spec = replace(spec, build=derivation.mirrors(spec, parent.record))
    # Files of the declaration must not replace files of the security profile.
    return replace(rendered(spec), digest=digest, options=options)


def base_of(ctx: Context, declared: RenderedTemplate, observation: Observation) -> Template | None:
    """Return a generation that equals a declared ordinary template without its images, commands and
    playbook: these can be added to a fork of it. ``None`` if the template must be built.

    A template that follows updates or has a maximum age is built: its packages must be of today.
    """
    spec = declared.spec
    has_difference = spec.image.preload or spec.image.commands or spec.provision
    if spec.parent or spec.upgrade or spec.max_age is not None or not has_difference:
        return None
    if not ctx.provider.capabilities.derives:
        return None
    bare_image = replace(spec.image, preload=(), commands=())
    digest = declared_digest(replace(spec, image=bare_image, provision=None))
    return newest(
        template
        for template in observation.templates
        if template.record.tenant == spec.tenant
        and template.record.recipe == digest
        and not template.mismatch
    )


@dataclass(frozen=True)
class Difference:
    """The packages and files by which a template differs from its parent or its base.

    :param files: files to write, the user's commands included.
    :param removed: paths of files of the parent's security profile to delete.
    """

    packages: tuple[str, ...]
    files: dict[str, GuestFile]
    removed: tuple[str, ...]

    @property
    def restart_reason(self) -> str:
        """Return the file because of which the guest is restarted; empty for none."""
        paths = (*self.files, *self.removed)
        return next((path for path in paths if path.startswith(READ_AT_BOOT)), "")


def difference_of(declared: RenderedTemplate, parent: TemplateRecord) -> Difference:
    """Return the difference of a template from its parent, or of an ordinary one from its base."""
    spec, image = declared.spec, declared.spec.image
    bare_image = replace(image, preload=(), commands=())
    own_packages: tuple[str, ...] = ()
    own_files: dict[str, str] = {}
    if spec.parent:
        bare_image = replace(bare_image, packages=(), files=None)
        # The parent can have other content at the same path.
        own_packages, own_files = image.packages, image.files or {}
    before = recipe(bare_image, spec.docker, parent.security if spec.parent else spec.security)
    after = declared.recipe
    files = {
        path: file
        for path, file in after.files.items()
        if path in own_files or before.files.get(path) != file
    }
    packages = {*own_packages, *after.packages} - ({*before.packages} - {*own_packages})
    removed = before.files.keys() - after.files.keys()
    return Difference(tuple(sorted(packages)), files, tuple(sorted(removed)))


def require_parent(spec: TemplateSpec, parent: Template | None) -> TemplateRecord:
    """Return the record of the parent.

    :raises NotFound: if the parent has no usable generation.
    """
    if parent is None:
        raise NotFound(
            f"template {spec.parent}, which it is derived from, does not exist, or is unusable.",
            name=f"template {spec.name}",
            remedy="create that template first, in the same tenant and with the same owner",
        )
    return parent.record


def draft(
    ctx: Context, declared: RenderedTemplate, parent: TemplateRecord, promotion_time: float
) -> TemplateRecord:
    """Return the record of a new derived generation."""
    spec, template_uuid = declared.spec, uuid.uuid4()
    packages = {*(parent.source.packages if parent.source else ()), *spec.image.packages}
    return replace(
        parent,
        name=spec.name,
        uuid=str(template_uuid),
        generation=codec.digest({"recipe": declared.digest, "from": parent.generation}),
        recipe=declared.digest,
        phase="booting",
        created=ctx.clock.now(),
        mac=mac_of(template_uuid, ctx.provider.capabilities),
        version=1,
        checksums=None,
        platform=None,
        promoted=promotion_time if promotion_time > ctx.clock.now() else 0.0,
        source=Source(spec.image.suite, tuple(sorted(packages)), without_secrets(spec.build)),
        provision=spec.provision.title if spec.provision else "",
        options=declared.options,
        encrypted=spec.security.encrypted_data,
        profile=spec.security.profile,
        security=None if parent.is_clone else spec.security,
        derivation=Derivation(parent.name, parent.generation),
    )


def apply_difference(
    ctx: Context,
    spec: TemplateSpec,
    difference: Difference,
    record: TemplateRecord,
    guest: Guest,
    report: Callable[[str], None],
    deadline: Deadline,
) -> TemplateRecord:
    """Add packages, files, images and commands to a running fork of the parent. The agent loads the
    images and runs the commands later.

    :return: the record, with the versions of the added packages.
    :raises GuestError: if a package cannot be installed.
    """
    guest.set_clock(ctx.clock.now())
    with (
        tempfile.TemporaryDirectory(prefix="stockyard-") as folder,
        template_shell.opened(ctx, record, guest, deadline) as shell,
    ):
        target = Path(folder)
        image = replace(spec.image, packages=difference.packages)
        installed = shell.run(
            f"{ORDINARY_PRIORITY}{'; cat /var/lib/dpkg/status' * bool(image.packages)}"
        )
        if image.packages and record.is_clone:
            refuse_other_release(shell, spec)
        report("fetch packages and images")
        versions = ctx.provider.fetch_difference(image, spec.build, installed, target, deadline)
        _refuse_kernel(spec, versions)
        if versions:
            report(f"install {len(versions)} packages")
            _install(shell, target / "packages")
        if (target / "preload").is_dir():
            shell.send(target / "preload", f"/{PLACE}")
        shell.write(difference.files)
        shell.delete(difference.removed)
        if difference.restart_reason:
            # A boot creates the users of new files only if the image is new.
            shell.run("systemd-sysusers; sync")
    if record.derivation and versions:
        return ctx.provider.claim(record, derivation=replace(record.derivation, packages=versions))
    return record


def _install(shell: Shell, packages: Path) -> None:
    shell.send(packages, PACKAGES)
    shell.run(INSTALL)


def refuse_other_release(shell: Shell, spec: TemplateSpec) -> None:
    """Refuse to add packages to a clone of a source that has another release.

    :raises GuestError: with both releases.
    """
    release = shell.run('. /etc/os-release; echo "$ID ${VERSION_CODENAME-}"').strip()
    if release not in ("", f"debian {spec.image.suite}"):
        raise GuestError(
            f"packages of {spec.image.suite} cannot be added to a guest with {release}.",
            name=f"template {spec.name}",
            remedy=f"declare the suite of the source for template {spec.parent}; only Debian "
            "gets packages",
        )


def _refuse_kernel(spec: TemplateSpec, versions: dict[str, str]) -> None:
    kernels = [package for package in versions if package.startswith("linux-image-")]
    if kernels:
        raise GuestError(
            f"package {kernels[0]} cannot be added to a derived template.",
            name=f"template {spec.name}",
            cause="the kernel of its parent runs in it",
            remedy=f"rebuild template {spec.parent}, or declare the template without from",
        )
