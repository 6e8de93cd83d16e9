# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates: built once for each declaration, booted, warmed up and frozen."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from ...clock import Deadline
from ...errors import NotFound, Unsupported
from ...guest.recipe import RenderedTemplate, rendered, template_digest
from ...model import codec
from ...model.image import without_secrets
from ...model.network import USER_NETWORK
from ...model.observation import Observation, Template
from ...model.template import Source, TemplateRecord, TemplateSpec
from ...planning.plan import Action, Plan, plan_deletion
from ...planning.templates import (
    TemplateContext,
    candidate,
    plan_template,
    too_old,
)
from ..context import Context
from ..hosts.reservation import mac_of
from ..operation import LockedOperation
from ..undo import undo
from . import (
    cloud_image,
    derive_template,
    freshness,
    host_template,
    preload,
    provision,
    shared_files,
)

# Seconds that an unused image is retained, because a template may be under construction from it.
RECENT = 3600.0


def resolved(spec: TemplateSpec) -> TemplateSpec:
    """Return the declaration with the digest of every file that it names.

    :raises InvalidInput: if a file cannot be read.
    """
    return provision.resolved(cloud_image.resolved(preload.resolved(spec)))


@dataclass(frozen=True)
class TemplateConvergence(LockedOperation):
    """The convergence of a template to its declaration: a frozen generation exists afterwards.

    A plan asks the mirror if the declaration requires it. Another controller that builds the
    template is waited for until the deadline.
    """

    spec: TemplateSpec
    LOCK_WAIT = math.inf

    @cached_property
    def declared(self) -> RenderedTemplate:
        """Return the declaration with its recipe, which is rendered once.

        :raises InvalidInput: if a file that it names cannot be read.
        """
        return rendered(resolved(self.spec))

    @property
    def lock(self) -> str:
        """Return the lock of the template. Files that the declaration names are read before it is
        held.
        """
        spec = self.declared.spec
        return self.ctx.lock_name("template", spec.tenant, spec.name)

    def plan_from(
        self,
        observation: Observation,
        used_generations: frozenset[str] | None = None,
        parent_generation: str | None = None,
    ) -> Plan:
        """Return the plan for an observation.

        :param used_generations: the generations that hosts will use, if they differ from the
            observed ones.
        :param parent_generation: the generation that the parent of a derived template will have,
            if that differs from the observed one.
        """
        parent = self._parent(observation, parent_generation)
        declared, templates = self._bound(parent), observation.templates
        spec = declared.spec
        missing_updates = (
            freshness.list_missing_updates(
                self.ctx, declared, candidate(spec, declared.digest, templates)
            )
            if spec.upgrade
            else ()
        )
        base = None
        missing = candidate(spec, declared.digest, templates) is None
        if missing and spec.from_host:
            host_template.check(self.ctx, spec, observation)
        elif missing:
            if not spec.parent:
                _check_machine(self.ctx, spec)
            base = derive_template.base_of(self.ctx, declared, observation)
        if used_generations is None:
            used_generations = freshness.used_generations(spec.tenant, spec.name, observation.hosts)
        # An unreadable record may use any generation: then none is deleted.
        template_context = TemplateContext(
            self.ctx.clock.now(),
            missing_updates,
            None if observation.unreadable else used_generations,
            declared.options,
            bool(spec.parent) and parent is None,
            base.record if base else None,
        )
        if spec.parent and parent is None and parent_generation is None:
            self.ctx.progress(f"template {spec.name}: template {spec.parent} must be built first")
        todo = plan_template(spec, declared.digest, templates, template_context)
        # The digest of a derived template contains the generation of its parent.
        if spec.parent and parent is None:
            return todo
        return shared_files.with_shared(self.ctx, declared, todo, observation)

    def plan(self) -> Plan:
        """Return the actions that :meth:`apply` would take now. Changes nothing.

        :raises ImageError: if a build would fail for a package that does not exist.
        """
        observation = self.ctx.provider.observe(self.ctx.owner)
        todo = self.plan_from(observation)
        self.check_packages(todo, observation)
        return todo

    def check_packages(
        self, todo: Plan, observation: Observation, parent_generation: str | None = None
    ) -> None:
        """Check that the mirror has the packages of a planned build. A build itself asks the mirror
        first, so only check mode needs this. A fork that gets no packages needs no mirror, and the
        release and mirrors of a derived template are known only if its parent exists.

        :param parent_generation: as for :meth:`plan_from`.
        :raises ImageError: if a package does not exist, or the mirror does not answer.
        """
        ctx, spec = self.ctx, self.declared.spec
        builds = any(action.verb == "build" for action in todo.actions)
        parent = self._parent(observation, parent_generation) if builds else None
        if not builds or spec.from_host or (spec.parent and parent is None):
            return
        declared = self._bound(parent)
        if derive_template.base_of(ctx, declared, observation) is None:
            deadline = ctx.deadline(freshness.PATIENCE)
            ctx.provider.resolve(declared.recipe, declared.spec.build, deadline)

    def carry_out(self, todo: Plan, observation: Observation, deadline: Deadline) -> Plan:
        """Build a generation, or make an earlier one current again; then delete those that are not
        retained.
        """
        ctx, parent = self.ctx, self._parent(observation)
        declared = self._bound(parent)
        spec = declared.spec
        own_generations = observation.generations(spec.tenant, spec.name)
        verbs = {action.verb for action in todo.actions}
        if "load" in verbs and not self._load(declared, observation, deadline):
            verbs.add("build")
            todo = Plan(tuple(map(_as_build, todo.actions)))
        if "build" in verbs:
            self._build(declared, parent, observation, deadline)
        elif "promote" in verbs:
            _promote(ctx, own_generations, candidate(spec, declared.digest, own_generations))
        if not verbs:
            return todo
        # A build takes minutes: observe the hosts that use old generations by now.
        deletions = _remove_surplus(ctx, declared, ctx.provider.observe(ctx.owner))
        return Plan((*(action for action in todo.actions if action.verb != "delete"), *deletions))

    def _build(
        self,
        declared: RenderedTemplate,
        parent: Template | None,
        observation: Observation,
        deadline: Deadline,
    ) -> None:
        """Build a generation: from a host, from its parent or another generation, or completely.
        Share it if that is declared.
        """
        ctx, spec = self.ctx, declared.spec
        own_generations = observation.generations(spec.tenant, spec.name)
        if spec.from_host:
            remaining = _remove_useless(ctx, declared, own_generations)
            _build_from_host(ctx, declared, remaining, deadline)
            return
        if spec.parent:
            origin: TemplateRecord | None = derive_template.require_parent(spec, parent)
        else:
            base = derive_template.base_of(ctx, declared, observation)
            origin = base.record if base else None
        remaining = _remove_useless(ctx, declared, own_generations)
        _build(ctx, declared, remaining, origin, deadline)
        if spec.share_dir:
            current = ctx.provider.observe(ctx.owner).template(spec.tenant, spec.name)
            if current:
                shared_files.save(ctx, declared, current.record)

    def _load(
        self, declared: RenderedTemplate, observation: Observation, deadline: Deadline
    ) -> bool:
        """Load a shared template; return whether that succeeded. The file can be another one than
        that of the plan by now.
        """
        ctx, spec = self.ctx, declared.spec
        shared = shared_files.find(ctx, declared, observation)
        if shared is None:
            return False
        own_generations = observation.generations(spec.tenant, spec.name)
        remaining = _remove_useless(ctx, declared, own_generations)
        return shared_files.load(ctx, shared, _after(ctx, remaining), deadline)

    def tidy(self, deadline: Deadline) -> Plan:
        """Delete the generations that are not retained and that no host uses."""
        with self.ctx.provider.exclusive(self.lock, deadline):
            observation = self.ctx.provider.observe(self.ctx.owner)
            declared = self._bound(self._parent(observation))
            return Plan(_remove_surplus(self.ctx, declared, observation))

    def _parent(self, observation: Observation, generation: str | None = None) -> Template | None:
        """Return the generation that the template is derived from; ``None`` if it is not derived or
        that generation does not exist.
        """
        spec = self.declared.spec
        return derive_template.parent_of(spec, observation, generation) if spec.parent else None

    def _bound(self, parent: Template | None) -> RenderedTemplate:
        """Return the declaration, bound to the parent if it is derived."""
        if self.declared.spec.from_host:
            return host_template.bind(self.declared)
        if not self.declared.spec.parent:
            return self.declared
        return derive_template.bind(self.ctx, self.declared, parent)


def _as_build(action: Action) -> Action:
    """Return the action of a plan whose shared file could not be used."""
    if action.verb != "load":
        return action
    return replace(action, verb="build", after={"generation": "new"})


def get_current(tenant: str, name: str, observation: Observation) -> Template:
    """Return the generation that new hosts are forked from.

    :raises NotFound: if there is none.
    """
    template = observation.template(tenant, name)
    if template is None:
        raise NotFound(
            "the template does not exist, or is unusable.",
            name=f"template {name}",
            cause="; ".join(
                generation.problem
                for generation in observation.generations(tenant, name)
                if generation.problem
            ),
            remedy="create the template, in the same tenant and with the same owner",
        )
    return template


def report_missing(
    ctx: Context, title: str, tenant: str, name: str, todo: Plan, observation: Observation
) -> None:
    """Report that the hosts of a plan have no template to fork from yet: another task may create it
    first.

    :param title: the planned object, with its kind.
    """
    creates_hosts = any(
        action.kind == "host" and action.verb in ("create", "replace") for action in todo.actions
    )
    if creates_hosts and observation.template(tenant, name) is None:
        ctx.progress(f"{title}: template {name} must be built first")


@dataclass(frozen=True)
class TemplateDeletion(LockedOperation):
    """The deletion of every generation of a template."""

    tenant: str
    name: str

    @property
    def lock(self) -> str:
        """Return the lock of the template."""
        return self.ctx.lock_name("template", self.tenant, self.name)

    def plan_from(self, observation: Observation) -> Plan:
        """Return the plan for an observation."""
        own_generations = observation.generations(self.tenant, self.name)
        return plan_deletion(own_generations, (), "it is declared absent")

    def carry_out(self, todo: Plan, observation: Observation, _deadline: Deadline) -> Plan:
        """Delete the generations.

        :raises OperationRefused: if a host uses one of them.
        """
        for template in observation.generations(self.tenant, self.name):
            self.ctx.provider.destroy(template.record)
            self.ctx.progress(f"{template.record.title}: deleted")
        return todo


def prune(ctx: Context, *, check: bool = False) -> list[str]:
    """Delete generations that are neither the newest of their template nor used by a host, then
    unused images.

    :param check: whether nothing is deleted.
    :return: the titles of the deleted objects.
    """
    observation = ctx.provider.observe(ctx.owner)
    used_keys = {
        (host.record.tenant, host.record.template, host.record.generation)
        for host in observation.hosts
    }
    removed_records = []
    for template in observation.templates:
        record = template.record
        latest = observation.template(record.tenant, record.name)
        key = (record.tenant, record.name, record.generation)
        if (
            template.usable
            and latest is not None
            and latest.record.uuid != record.uuid
            and key not in used_keys
        ):
            if not check:
                ctx.provider.destroy(record)
            removed_records.append(record)
    uuids = frozenset(record.uuid for record in removed_records)
    images = ctx.provider.prune_images(RECENT, check=check, ignored=uuids)
    return [*(record.title for record in removed_records), *(f"image {name}" for name in images)]


def _remove_useless(
    ctx: Context, declared: RenderedTemplate, own_generations: list[Template]
) -> list[Template]:
    """Delete the generations that a dead controller left incomplete (this controller holds the
    lock: every generation that is not frozen), and damaged ones of this declaration: the new one
    may have the same generation.

    :return: the generations that remain.
    :raises OperationRefused: if a host uses a damaged generation.
    """
    remaining = []
    for template in own_generations:
        draft = template.record.phase != "frozen"
        if draft or (template.problem and template.record.recipe == declared.digest):
            ctx.provider.destroy(template.record)
            ctx.progress(
                f"{template.record.title}: deleted ({'incomplete' if draft else template.problem})"
            )
        else:
            remaining.append(template)
    return remaining


def _check_machine(ctx: Context, spec: TemplateSpec) -> None:
    """Refuse a template whose machine the hypervisor cannot start, before its image is built.

    :raises Unsupported: with the reason.
    """
    name, memory_mib = f"template {spec.name}", ctx.provider.capacity().memory_mib
    if memory_mib and spec.hardware.memory_mib > memory_mib:
        raise Unsupported(
            f"the machine needs {spec.hardware.memory_mib} MiB of memory.",
            name=name,
            cause=f"the hypervisor has {memory_mib} MiB",
            remedy="reduce memory_mib",
        )
    ctx.provider.check_template(spec.hardware, name)


def _promote(ctx: Context, own_generations: list[Template], template: Template | None) -> None:
    """Make a generation current again, although later ones exist."""
    if template:
        ctx.provider.claim(template.record, promoted=_after(ctx, own_generations))
        ctx.progress(f"{template.record.title}: current again")


def _after(ctx: Context, own_generations: list[Template]) -> float:
    """Return a time from the current one on that is later than all on record: the clocks of
    controllers differ.
    """
    return max([ctx.clock.now(), *(template.record.since + 0.001 for template in own_generations)])


def _remove_surplus(
    ctx: Context, declared: RenderedTemplate, observation: Observation
) -> tuple[Action, ...]:
    """Delete the generations that are not retained, as currently observed."""
    spec = declared.spec
    used_generations = (
        None
        if observation.unreadable
        else freshness.used_generations(spec.tenant, spec.name, observation.hosts)
    )
    # Ask neither the mirror nor the age: the build is complete.
    todo = plan_template(
        replace(spec, upgrade=False, max_age=None),
        declared.digest,
        observation.templates,
        TemplateContext(used=used_generations),
    )
    deletions = tuple(action for action in todo.actions if action.verb == "delete")
    short_digests = {action.before["generation"] for action in deletions}
    for template in observation.generations(spec.tenant, spec.name):
        if template.record.generation[:12] in short_digests:
            ctx.provider.destroy(template.record)
            ctx.progress(f"{template.record.title}: deleted")
    return deletions


def _build(
    ctx: Context,
    declared: RenderedTemplate,
    own_generations: list[Template],
    parent: TemplateRecord | None,
    deadline: Deadline,
) -> None:
    """Build a generation, or derive it from its parent.

    :param own_generations: the generations that exist.
    :param parent: the parent, or the base of an ordinary template; ``None`` to build it.
    """
    spec, start_time = declared.spec, ctx.clock.monotonic()
    report = _stage_reporter(ctx, f"template {spec.name}", start_time)
    if parent:
        record = derive_template.draft(ctx, declared, parent, _after(ctx, own_generations))
    else:
        image = ctx.provider.ensure_image(declared.recipe, spec.build, report, deadline)
        record = _draft(ctx, declared, image, own_generations)
    existing = next(
        (
            template
            for template in own_generations
            if template.record.generation == record.generation
        ),
        None,
    )
    is_current = (
        existing
        and existing.usable
        and not existing.mismatch
        and not too_old(spec, existing.record, ctx.clock.now())
    )
    # The digest of a derived generation does not contain the versions of the added packages.
    if existing and is_current and not parent:
        # The mirror returned to an earlier state, or an earlier image is declared again.
        _promote(ctx, own_generations, existing)
        return
    if existing:
        record = replace(
            record, generation=codec.digest({"generation": record.generation, "again": record.uuid})
        )
    try:
        if parent:
            report(f"fork template {parent.name}")
            ctx.provider.derive_template(record, parent, deadline)
            record = _apply_difference(ctx, declared, parent, record, report, deadline)
        else:
            ctx.provider.create_template(record, deadline)
            ctx.provider.start(record, deadline)
            report("boot the guest")
        _fill_and_freeze(ctx, spec, record, report, deadline)
    except BaseException as error:
        undo(ctx, record, error)
        raise


def _build_from_host(
    ctx: Context, declared: RenderedTemplate, own_generations: list[Template], deadline: Deadline
) -> None:
    """Create a generation from a host.

    :param own_generations: the generations that exist.
    """
    spec = declared.spec
    report = _stage_reporter(ctx, f"template {spec.name}", ctx.clock.monotonic())
    with host_template.branched_host(ctx, spec, deadline) as origin:
        record = host_template.draft(ctx, declared, origin, _after(ctx, own_generations))
        try:
            report(f"fork host {spec.from_host}")
            ctx.provider.branches.fork_template(record, origin.branch, deadline)
            with ctx.guest(record, deadline) as guest:
                report("delete the identity of the host")
                host_template.scrub(ctx, record, origin.branch, guest, USER_NETWORK)
            _fill_and_freeze(ctx, spec, record, report, deadline)
        except BaseException as error:
            undo(ctx, record, error)
            raise


def _apply_difference(
    ctx: Context,
    declared: RenderedTemplate,
    parent: TemplateRecord,
    record: TemplateRecord,
    report: Callable[[str], None],
    deadline: Deadline,
) -> TemplateRecord:
    """Add the difference to a running fork of the parent, and restart the fork if a file is read
    only then.
    """
    difference = derive_template.difference_of(declared, parent)
    with ctx.guest(record, deadline) as guest:
        record = derive_template.apply_difference(
            ctx, declared.spec, difference, record, guest, report, deadline
        )
    if path := difference.restart_reason:
        report(f"restart the guest, because {path} is read at its start")
        ctx.provider.stop(record, deadline)
        ctx.provider.start(record, deadline)
    return record


def _fill_and_freeze(
    ctx: Context,
    spec: TemplateSpec,
    record: TemplateRecord,
    report: Callable[[str], None],
    deadline: Deadline,
) -> None:
    with ctx.guest(record, deadline) as guest:
        guest.hello()
        docker = record.docker == "running"
        if spec.provision or record.derivation:
            # A separate request, so that its duration is known.
            report("wait for Docker, load images and run commands")
            guest.prepare(docker=docker)
        if spec.provision:
            report(f"run {spec.provision.title}")
            provision.run(ctx, record, spec.provision, guest, deadline)
        report("wait for Docker and warm up")
        guest.warm_up(
            docker=docker,
            sparse=ctx.provider.capabilities.ram_file,
            derived=record.derivation is not None,
        )
    # The agent waits for messages again before its guest is frozen.
    deadline.pause(ctx.provider.capabilities.settle)
    report("freeze")
    ctx.provider.freeze(record, deadline)
    report("frozen")


def _draft(
    ctx: Context, declared: RenderedTemplate, image: str, own_generations: list[Template]
) -> TemplateRecord:
    spec, template_uuid = declared.spec, uuid.uuid4()
    promotion_time = _after(ctx, own_generations)
    return TemplateRecord(
        owner=ctx.owner,
        tenant=spec.tenant,
        name=spec.name,
        uuid=str(template_uuid),
        generation=template_digest(spec, image),
        recipe=declared.digest,
        image=image,
        hardware=spec.hardware,
        docker=spec.docker,
        ssh_user=spec.image.ssh_user,
        runtime=spec.image.runtime,
        phase="booting",
        created=ctx.clock.now(),
        mac=mac_of(template_uuid, ctx.provider.capabilities),
        promoted=promotion_time if promotion_time > ctx.clock.now() else 0.0,
        source=Source(declared.recipe.suite, declared.recipe.packages, without_secrets(spec.build)),
        disk_gib=spec.image.disk_gib if ctx.provider.capabilities.builds else 0,
        max_memory_mib=spec.max_memory_mib,
        provision=spec.provision.title if spec.provision else "",
        encrypted=spec.security.encrypted_data,
        profile=spec.security.profile,
        options=declared.options,
        security=spec.security if ctx.provider.capabilities.builds else None,
    )


def _stage_reporter(ctx: Context, title: str, start_time: float) -> Callable[[str], None]:
    def report(stage: str) -> None:
        ctx.progress(f"{title}: {stage} ({ctx.clock.monotonic() - start_time:.0f} s)")

    return report
