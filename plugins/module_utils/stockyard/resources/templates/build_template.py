# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates: built once for each declaration, booted, warmed up and frozen."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

from ...clock import Deadline
from ...errors import NotFound
from ...guest.recipe import declared_digest, recipe, template_digest
from ...model import codec
from ...model.image import without_secrets
from ...model.observation import Observation, Template
from ...model.template import Source, TemplateRecord, TemplateSpec
from ...planning.plan import Action, Plan, plan_destroy
from ...planning.templates import (
    TemplateContext,
    candidate,
    generations,
    newest,
    plan_template,
    too_old,
)
from ..context import Context
from ..hosts.reservation import mac_of
from ..undo import undo
from . import cloud_image, freshness, preload, provision

SETTLE = 1.0
LOCK_WAIT = 5.0
# Seconds that an unused image is retained, because a template may be under construction from it.
RECENT = 3600.0


def resolved(spec: TemplateSpec) -> TemplateSpec:
    """Return the declaration with the digest of every file that it names.

    :raises InvalidInput: if a file cannot be read.
    """
    return provision.resolved(cloud_image.resolved(preload.resolved(spec)))


def plan(
    ctx: Context,
    spec: TemplateSpec,
    observation: Observation | None = None,
    used_generations: frozenset[str] | None = None,
) -> Plan:
    """Return the plan of :func:`ensure`. Changes nothing; asks the mirror if the declaration
    requires it.

    :param used_generations: the generations that hosts will use, if they differ from the observed
        ones.
    """
    spec, observation = resolved(spec), observation or ctx.provider.observe(ctx.owner)
    recipe_digest, templates = declared_digest(spec), observation.templates
    missing_updates = (
        freshness.lacking(ctx, spec, candidate(spec, recipe_digest, templates))
        if spec.upgrade
        else ()
    )
    used_generations = (
        freshness.used(spec.tenant, spec.name, observation.hosts)
        if used_generations is None
        else used_generations
    )
    # An unreadable record may use any generation: then none is deleted.
    template_context = TemplateContext(
        ctx.clock.now(), missing_updates, None if observation.unreadable else used_generations
    )
    return plan_template(spec, recipe_digest, templates, template_context)


def ensure(ctx: Context, spec: TemplateSpec, timeout: float) -> Plan:
    """Converge a template to its declaration: a frozen generation exists afterwards. Returns the
    actions that were taken.

    :param timeout: seconds for everything: packages, image, boot, warm-up, freeze.
    :raises Busy: if another controller builds it and does not end in time.
    """
    spec, deadline = resolved(spec), ctx.deadline(timeout)
    with ctx.provider.exclusive(ctx.lock_name("template", spec.tenant, spec.name), deadline):
        template_plan = plan(ctx, spec)
        verbs = {action.verb for action in template_plan.actions}
        if "build" in verbs:
            _remove_useless(ctx, spec)
            _build(ctx, spec, deadline)
        elif "promote" in verbs:
            _promote(
                ctx, _mine(ctx, spec), candidate(spec, declared_digest(spec), _mine(ctx, spec))
            )
        deletions = _remove_surplus(ctx, spec) if verbs else ()
        return Plan(
            (*(action for action in template_plan.actions if action.verb != "destroy"), *deletions)
        )


def tidy(ctx: Context, spec: TemplateSpec, timeout: float) -> Plan:
    """Delete the generations that are not retained and that no host uses."""
    with ctx.provider.exclusive(
        ctx.lock_name("template", spec.tenant, spec.name), ctx.deadline(timeout)
    ):
        return Plan(_remove_surplus(ctx, resolved(spec)))


def need(tenant: str, name: str, observation: Observation) -> Template:
    """Return the generation that new hosts are forked from.

    :raises NotFound: if there is none.
    """
    candidates = generations(tenant, name, observation.templates)
    template = newest(candidates)
    if template is None:
        raise NotFound(
            "there is no such template to fork from.",
            name=f"template {name}",
            cause="; ".join(generation.problem for generation in candidates if generation.problem),
            remedy="create the template, in the same tenant and with the same owner",
        )
    return template


def tell_missing(
    ctx: Context, title: str, tenant: str, name: str, todo: Plan, observation: Observation
) -> None:
    """Report that the hosts of a plan have no template to fork from yet: another task may create it
    first.

    :param title: the planned object, with its kind.
    """
    creates_hosts = any(
        action.kind == "host" and action.verb in ("create", "replace") for action in todo.actions
    )
    if creates_hosts and newest(generations(tenant, name, observation.templates)) is None:
        ctx.progress(f"{title}: there is no template {name} yet, and has to be one before")


def plan_removal(ctx: Context, tenant: str, name: str) -> Plan:
    """Return the plan of :func:`remove`."""
    return plan_destroy(
        generations(tenant, name, ctx.provider.observe(ctx.owner).templates),
        (),
        "it is to be absent",
    )


def remove(ctx: Context, tenant: str, name: str, timeout: float) -> Plan:
    """Delete every generation of a template.

    :raises OperationRefused: if a host uses one of them.
    """
    with ctx.provider.exclusive(
        ctx.lock_name("template", tenant, name), ctx.deadline(min(timeout, LOCK_WAIT))
    ):
        todo = plan_removal(ctx, tenant, name)
        for template in generations(tenant, name, ctx.provider.observe(ctx.owner).templates):
            ctx.provider.destroy(template.record)
            ctx.progress(f"{template.record.title}: destroyed")
        return todo


def prune(ctx: Context) -> list[str]:
    """Delete generations that are neither the newest of their template nor used by a host, then
    unused images.

    :return: the titles of the deleted objects.
    """
    observation = ctx.provider.observe(ctx.owner)
    used_keys = {
        (host.record.tenant, host.record.template, host.record.generation)
        for host in observation.hosts
    }
    removed_titles = []
    for template in observation.templates:
        record = template.record
        latest = newest(generations(record.tenant, record.name, observation.templates))
        key = (record.tenant, record.name, record.generation)
        if (
            template.usable
            and latest is not None
            and latest.record.uuid != record.uuid
            and key not in used_keys
        ):
            ctx.provider.destroy(record)
            removed_titles.append(record.title)
    return removed_titles + [f"image {name}" for name in ctx.provider.prune_images(RECENT)]


def _remove_useless(ctx: Context, spec: TemplateSpec) -> None:
    """Delete the generations that a dead controller left incomplete (this controller holds the
    lock: every generation that is not frozen), and damaged ones of this declaration: the new one
    may have the same generation.

    :raises OperationRefused: if a host uses a damaged generation.
    """
    for template in generations(spec.tenant, spec.name, ctx.provider.observe(ctx.owner).templates):
        draft = template.record.phase != "frozen"
        if draft or (template.problem and template.record.recipe == declared_digest(spec)):
            ctx.provider.destroy(template.record)
            ctx.progress(
                f"{template.record.title}: {'half-made' if draft else template.problem}, destroyed"
            )


def _mine(ctx: Context, spec: TemplateSpec) -> list[Template]:
    return generations(spec.tenant, spec.name, ctx.provider.observe(ctx.owner).templates)


def _promote(ctx: Context, own_generations: list[Template], template: Template | None) -> None:
    """Make a generation current again, although later ones exist."""
    if template:
        ctx.provider.claim(template.record, promoted=_after(ctx, own_generations))
        ctx.progress(f"{template.record.title}: rules again")


def _after(ctx: Context, own_generations: list[Template]) -> float:
    """Return a time from the current one on that is later than all on record: the clocks of
    controllers differ.
    """
    return max([ctx.clock.now(), *(template.record.since + 0.001 for template in own_generations)])


def _remove_surplus(ctx: Context, spec: TemplateSpec) -> tuple[Action, ...]:
    """Delete the generations that are not retained, as currently observed."""
    observation = ctx.provider.observe(ctx.owner)
    used_generations = (
        None
        if observation.unreadable
        else freshness.used(spec.tenant, spec.name, observation.hosts)
    )
    # Ask neither the mirror nor the age: the build is complete.
    offline_spec = replace(spec, upgrade=False, max_age=None)
    todo = plan_template(
        offline_spec,
        declared_digest(spec),
        observation.templates,
        TemplateContext(used=used_generations),
    )
    deletions = tuple(action for action in todo.actions if action.verb == "destroy")
    short_digests = {action.before["generation"] for action in deletions}
    for template in generations(spec.tenant, spec.name, observation.templates):
        if template.record.generation[:12] in short_digests:
            ctx.provider.destroy(template.record)
            ctx.progress(f"{template.record.title}: destroyed")
    return deletions


def _build(ctx: Context, spec: TemplateSpec, deadline: Deadline) -> None:
    start_time = ctx.clock.monotonic()
    report = _teller(ctx, f"template {spec.name}", start_time)
    image = ctx.provider.ensure_image(
        recipe(spec.image, spec.docker, spec.security), spec.build, report, deadline
    )
    own_generations = _mine(ctx, spec)
    existing = next(
        (
            template
            for template in own_generations
            if template.record.generation == template_digest(spec, image)
        ),
        None,
    )
    if existing and existing.usable and not too_old(spec, existing.record, ctx.clock.now()):
        # The mirror returned to an earlier state, or an earlier image is declared again.
        _promote(ctx, own_generations, existing)
        return
    record = _draft(ctx, spec, image, own_generations)
    if existing:
        record = replace(
            record, generation=codec.digest({"generation": record.generation, "again": record.uuid})
        )
    try:
        ctx.provider.create_template(record, deadline)
        _boot_and_freeze(ctx, spec, record, report, deadline)
    except BaseException as error:
        undo(ctx, record, error)
        raise


def _boot_and_freeze(
    ctx: Context,
    spec: TemplateSpec,
    record: TemplateRecord,
    report: Callable[[str], None],
    deadline: Deadline,
) -> None:
    ctx.provider.start(record, deadline)
    report("boot the guest")
    channel = ctx.provider.channel(record, deadline)
    try:
        channel.request({"op": "hello"}, deadline)
        docker = record.docker == "running"
        if spec.provision:
            report("wait for Docker")
            channel.request(
                {"op": "prepare", "timeout": deadline.left(), "docker": docker}, deadline
            )
            report(f"run {spec.provision.title}")
            provision.run(ctx, record, spec.provision, channel, deadline)
        report("wait for Docker and warm up")
        sparse = ctx.provider.capabilities.ram_file
        channel.request(
            {"op": "warm-up", "timeout": deadline.left(), "docker": docker, "sparse": sparse},
            deadline,
        )
    finally:
        channel.close()
    # The agent waits for messages again before its guest is frozen.
    deadline.pause(SETTLE)
    report("freeze")
    ctx.provider.freeze(record, deadline)
    report("frozen")


def _draft(
    ctx: Context, spec: TemplateSpec, image: str, own_generations: list[Template]
) -> TemplateRecord:
    template_uuid, image_recipe = uuid.uuid4(), recipe(spec.image, spec.docker, spec.security)
    promotion_time = _after(ctx, own_generations)
    return TemplateRecord(
        owner=ctx.owner,
        tenant=spec.tenant,
        name=spec.name,
        uuid=str(template_uuid),
        generation=template_digest(spec, image),
        recipe=declared_digest(spec),
        image=image,
        hardware=spec.hardware,
        docker=spec.docker,
        ssh_user=spec.image.ssh_user,
        phase="booting",
        created=ctx.clock.now(),
        mac=mac_of(template_uuid, ctx.provider.capabilities),
        promoted=promotion_time if promotion_time > ctx.clock.now() else 0.0,
        source=Source(image_recipe.suite, image_recipe.packages, without_secrets(spec.build)),
        disk_gib=spec.image.disk_gib if ctx.provider.capabilities.builds else 0,
        max_memory_mib=spec.max_memory_mib,
        provision=spec.provision.title if spec.provision else "",
        encrypted=spec.security.encrypted_data,
    )


def _teller(ctx: Context, title: str, start_time: float) -> Callable[[str], None]:
    def report(stage: str) -> None:
        ctx.progress(f"{title}: {stage} ({ctx.clock.monotonic() - start_time:.0f} s)")

    return report
