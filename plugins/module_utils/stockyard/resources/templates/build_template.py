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
# Seconds in which a template may still be on its way to being made of an image.
RECENT = 3600.0


def resolved(spec: TemplateSpec) -> TemplateSpec:
    """The declaration with the digest of every file that it names.

    :raises InvalidInput: when one cannot be read.
    """
    return provision.resolved(cloud_image.resolved(preload.resolved(spec)))


def plan(
    ctx: Context,
    spec: TemplateSpec,
    seen: Observation | None = None,
    used: frozenset[str] | None = None,
) -> Plan:
    """What :func:`ensure` would do. Changes nothing; asks the mirror where the declaration says so.

    :param used: generations that hosts will live on, where that is not what is observed.
    """
    spec, seen = resolved(spec), seen or ctx.provider.observe(ctx.owner)
    declared, mine = declared_digest(spec), seen.templates
    lacking = freshness.lacking(ctx, spec, candidate(spec, declared, mine)) if spec.upgrade else ()
    used = freshness.used(spec.tenant, spec.name, seen.hosts) if used is None else used
    # Where something cannot be read it may live on any of them: none goes.
    outside = TemplateContext(ctx.clock.now(), lacking, None if seen.unreadable else used)
    return plan_template(spec, declared, mine, outside)


def ensure(ctx: Context, spec: TemplateSpec, timeout: float) -> Plan:
    """Have a frozen template of this declaration. Returns what was done.

    :param timeout: seconds for everything: packages, image, boot, warm-up, freeze.
    :raises Busy: when another controller builds it and does not end in time.
    """
    spec, deadline = resolved(spec), ctx.deadline(timeout)
    with ctx.provider.exclusive(ctx.lock_name("template", spec.tenant, spec.name), deadline):
        first = plan(ctx, spec)
        verbs = {a.verb for a in first.actions}
        if "build" in verbs:
            _remove_useless(ctx, spec)
            _build(ctx, spec, deadline)
        elif "promote" in verbs:
            _promote(
                ctx, _mine(ctx, spec), candidate(spec, declared_digest(spec), _mine(ctx, spec))
            )
        gone = _remove_surplus(ctx, spec) if verbs else ()
        return Plan((*(a for a in first.actions if a.verb != "destroy"), *gone))


def tidy(ctx: Context, spec: TemplateSpec, timeout: float) -> Plan:
    """Take away the generations that are not kept and that no host lives on any more."""
    with ctx.provider.exclusive(
        ctx.lock_name("template", spec.tenant, spec.name), ctx.deadline(timeout)
    ):
        return Plan(_remove_surplus(ctx, resolved(spec)))


def need(tenant: str, name: str, seen: Observation) -> Template:
    """The generation that new hosts are forked from.

    :raises NotFound: when there is none.
    """
    mine = generations(tenant, name, seen.templates)
    found = newest(mine)
    if found is None:
        raise NotFound(
            "there is no such template to fork from.",
            name=f"template {name}",
            cause="; ".join(t.problem for t in mine if t.problem),
            remedy="create the template, in the same tenant and with the same owner",
        )
    return found


def tell_missing(
    ctx: Context, whose: str, tenant: str, name: str, todo: Plan, seen: Observation
) -> None:
    """Say of a plan that its hosts have nothing yet to be forked from: another task may make it
    before.

    :param whose: what is planned, with its kind.
    """
    makes = any(a.kind == "host" and a.verb in ("create", "replace") for a in todo.actions)
    if makes and newest(generations(tenant, name, seen.templates)) is None:
        ctx.progress(f"{whose}: there is no template {name} yet, and has to be one before")


def plan_removal(ctx: Context, tenant: str, name: str) -> Plan:
    """What :func:`remove` would do."""
    return plan_destroy(
        generations(tenant, name, ctx.provider.observe(ctx.owner).templates),
        (),
        "it is to be absent",
    )


def remove(ctx: Context, tenant: str, name: str, timeout: float) -> Plan:
    """Take every generation of a template away.

    :raises Refused: when hosts live on one.
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
    """Take away generations that are neither the newest of their template nor under a host, then
    unused images.

    :return: what was removed, in words.
    """
    seen = ctx.provider.observe(ctx.owner)
    used = {(h.record.tenant, h.record.template, h.record.generation) for h in seen.hosts}
    removed = []
    for template in seen.templates:
        record = template.record
        latest = newest(generations(record.tenant, record.name, seen.templates))
        key = (record.tenant, record.name, record.generation)
        if (
            template.usable
            and latest is not None
            and latest.record.uuid != record.uuid
            and key not in used
        ):
            ctx.provider.destroy(record)
            removed.append(record.title)
    return removed + [f"image {name}" for name in ctx.provider.prune_images(RECENT)]


def _remove_useless(ctx: Context, spec: TemplateSpec) -> None:
    """Take away what was left by a controller that died (we hold the lock: whatever is not frozen),
    and what is damaged of this very declaration: the new one may have the same generation.

    :raises Refused: when hosts live on a damaged one.
    """
    for template in generations(spec.tenant, spec.name, ctx.provider.observe(ctx.owner).templates):
        half = template.record.phase != "frozen"
        if half or (template.problem and template.record.recipe == declared_digest(spec)):
            ctx.provider.destroy(template.record)
            ctx.progress(
                f"{template.record.title}: {'half-made' if half else template.problem}, destroyed"
            )


def _mine(ctx: Context, spec: TemplateSpec) -> list[Template]:
    return generations(spec.tenant, spec.name, ctx.provider.observe(ctx.owner).templates)


def _promote(ctx: Context, mine: list[Template], chosen: Template | None) -> None:
    """Let a generation rule again, though later ones are there."""
    if chosen:
        ctx.provider.claim(chosen.record, promoted=_after(ctx, mine))
        ctx.progress(f"{chosen.record.title}: rules again")


def _after(ctx: Context, mine: list[Template]) -> float:
    """A moment of now that is later than any that is on record: controllers' clocks differ."""
    return max([ctx.clock.now(), *(t.record.since + 0.001 for t in mine)])


def _remove_surplus(ctx: Context, spec: TemplateSpec) -> tuple[Action, ...]:
    """Take away the generations that are not kept, as things are now."""
    seen = ctx.provider.observe(ctx.owner)
    used = None if seen.unreadable else freshness.used(spec.tenant, spec.name, seen.hosts)
    # No question to the mirror, and none about age: what was to be built is built.
    quiet = replace(spec, upgrade=False, max_age=None)
    todo = plan_template(quiet, declared_digest(spec), seen.templates, TemplateContext(used=used))
    gone = tuple(a for a in todo.actions if a.verb == "destroy")
    digits = {a.before["generation"] for a in gone}
    for template in generations(spec.tenant, spec.name, seen.templates):
        if template.record.generation[:12] in digits:
            ctx.provider.destroy(template.record)
            ctx.progress(f"{template.record.title}: destroyed")
    return gone


def _build(ctx: Context, spec: TemplateSpec, deadline: Deadline) -> None:
    begin = ctx.clock.monotonic()
    told = _teller(ctx, f"template {spec.name}", begin)
    image = ctx.provider.ensure_image(
        recipe(spec.image, spec.docker, spec.security), spec.build, told, deadline
    )
    mine = _mine(ctx, spec)
    twin = next((t for t in mine if t.record.generation == template_digest(spec, image)), None)
    if twin and twin.usable and not too_old(spec, twin.record, ctx.clock.now()):
        # The mirror went back, or an image that was left behind is wanted again.
        _promote(ctx, mine, twin)
        return
    record = _draft(ctx, spec, image, mine)
    if twin:
        record = replace(
            record, generation=codec.digest({"generation": record.generation, "again": record.uuid})
        )
    try:
        ctx.provider.create_template(record, deadline)
        _boot_and_freeze(ctx, spec, record, told, deadline)
    except BaseException as error:
        undo(ctx, record, error)
        raise


def _boot_and_freeze(
    ctx: Context,
    spec: TemplateSpec,
    record: TemplateRecord,
    told: Callable[[str], None],
    deadline: Deadline,
) -> None:
    ctx.provider.start(record, deadline)
    told("boot the guest")
    channel = ctx.provider.channel(record, deadline)
    try:
        channel.request({"op": "hello"}, deadline)
        docker = record.docker == "running"
        if spec.provision:
            told("wait for Docker")
            channel.request(
                {"op": "prepare", "timeout": deadline.left(), "docker": docker}, deadline
            )
            told(f"run {spec.provision.title}")
            provision.run(ctx, record, spec.provision, channel, deadline)
        told("wait for Docker and warm up")
        sparse = ctx.provider.capabilities.ram_file
        channel.request(
            {"op": "warm-up", "timeout": deadline.left(), "docker": docker, "sparse": sparse},
            deadline,
        )
    finally:
        channel.close()
    # The agent goes back to sleep before it is frozen.
    deadline.pause(SETTLE)
    told("freeze")
    ctx.provider.freeze(record, deadline)
    told("frozen")


def _draft(ctx: Context, spec: TemplateSpec, image: str, mine: list[Template]) -> TemplateRecord:
    own, guest = uuid.uuid4(), recipe(spec.image, spec.docker, spec.security)
    late = _after(ctx, mine)
    return TemplateRecord(
        owner=ctx.owner,
        tenant=spec.tenant,
        name=spec.name,
        uuid=str(own),
        generation=template_digest(spec, image),
        recipe=declared_digest(spec),
        image=image,
        hardware=spec.hardware,
        docker=spec.docker,
        ssh_user=spec.image.ssh_user,
        phase="booting",
        created=ctx.clock.now(),
        mac=mac_of(own, ctx.provider.capabilities),
        promoted=late if late > ctx.clock.now() else 0.0,
        source=Source(guest.suite, guest.packages, without_secrets(spec.build)),
        disk_gib=spec.image.disk_gib if ctx.provider.capabilities.builds else 0,
        max_memory_mib=spec.max_memory_mib,
        provision=spec.provision.title if spec.provision else "",
        encrypted=spec.security.encrypted_data,
    )


def _teller(ctx: Context, title: str, begin: float) -> Callable[[str], None]:
    def told(stage: str) -> None:
        ctx.progress(f"{title}: {stage} ({ctx.clock.monotonic() - begin:.0f} s)")

    return told
