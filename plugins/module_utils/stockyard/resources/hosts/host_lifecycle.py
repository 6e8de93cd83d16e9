# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host at a time: made, started, restarted, taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace

from ...clock import Deadline
from ...errors import Conflict, StockyardError, Unsupported
from ...hypervisor.provider import Channel
from ...model.host import MODES, Host, HostRecord, HostSpec
from ...model.observation import Template
from ...model.template import TemplateRecord
from ...planning.plan import Plan
from .. import guest_status
from ..context import Context
from ..failures import host_work
from ..undo import undo
from ..volumes import attachment, declared
from . import egress, trust
from .docker_api import wait_for_docker
from .identity import RENEWABLE, check, identify, renew_certificate, settle, unit_failures
from .reservation import HostRequest, reserve
from .sizing import plug_in, recount, resize

# Seconds for a guest to say which units failed.
ASKING = 20.0
# What is done to hosts that stay; the verbs of :func:`mend`.
IN_PLACE = ("start", "restart", "resize", "renew", "relabel", "unlock", "synchronize")


@host_work
def create_host(
    ctx: Context, order: HostRequest, template: Template, deadline: Deadline
) -> HostRecord:
    """Make a host and wait until Docker answers in it.

    Whatever goes wrong, the half-made host is taken away again before the error is raised.
    """
    record = reserve(ctx, order, template.record)
    try:
        return _bring_up(ctx, record, template.record, deadline)
    except BaseException as error:
        undo(ctx, record, error)
        attachment.release(ctx, record)
        raise


def _bring_up(
    ctx: Context, record: HostRecord, template: TemplateRecord, deadline: Deadline
) -> HostRecord:
    start = ctx.clock.monotonic()

    def told(stage: str) -> None:
        ctx.progress(f"{record.title}: {stage} ({ctx.clock.monotonic() - start:.2f} s)")

    mode, reason = _fork(ctx, record, template, deadline)
    told(f"{mode} fork runs")
    channel = ctx.provider.channel(record, deadline)
    try:
        # Before the identity, with which its doors are opened and Docker may start.
        if declared.attach_declared(ctx, record, channel, deadline):
            told("has its volumes")
        identity = identify(ctx, record, channel, deadline)
        told("has its identity")
        ctx.provider.set_link(record, True)
        if _wait_until_reachable(ctx, record, deadline, channel):
            told("Docker answers")
        settle(channel, deadline)
    finally:
        channel.close()
    if plug_in(ctx, record, deadline):
        recount(ctx, record, record.size, deadline)
        told(f"has {record.size.vcpus} vCPUs and {record.size.memory_mib} MiB")
    if egress.ensure(ctx, replace(record, identity=identity), deadline):
        told("its way to the proxy is open")
    told("ready")
    return ctx.provider.claim(
        record, phase="ready", mode=mode, mode_reason=reason, identity=identity
    )


def _fork(
    ctx: Context, record: HostRecord, template: TemplateRecord, deadline: Deadline
) -> tuple[str, str]:
    """Fork in the mode that was asked for, or the next best one; say which and why."""
    reason = ""
    for mode in MODES[MODES.index(record.spec.fork_mode) :]:
        if mode not in ctx.provider.capabilities.modes:
            reason = reason or f"this hypervisor has no {mode} forks"
            continue
        try:
            ctx.provider.fork(record, template, mode, deadline)
            return mode, reason
        except Unsupported as error:
            reason = reason or str(error)
    raise Unsupported("no fork mode is possible.", name=record.title, cause=reason)


def _wait_until_reachable(
    ctx: Context, record: HostRecord, deadline: Deadline, channel: Channel | None = None
) -> bool:
    """Wait until Docker answers at the address that users are told.

    :param channel: the line to the guest's agent, if one is open: there is one at a time.
    :return: whether that was waited for: not when the caller does not want it, nor where no host
        answers at all.
    """
    wanted = ctx.wait and ctx.provider.capabilities.endpoints
    if wanted:
        client = ctx.pki(record.tenant).client(ctx.today())
        wait_for_docker(
            record,
            client,
            deadline,
            lambda: _failures(ctx, record, deadline.within(ASKING), channel),
        )
    return wanted


def _failures(ctx: Context, record: HostRecord, deadline: Deadline, channel: Channel | None) -> str:
    """Return the units of the guest that gave up; nothing if its agent cannot be asked."""
    if channel is not None:
        return unit_failures(channel, deadline)
    try:
        with closing(ctx.provider.channel(record, deadline)) as opened:
            return unit_failures(opened, deadline)
    except StockyardError:
        return ""


def check_starts(ctx: Context, todo: Plan, hosts: Iterable[Host]) -> None:
    """Check, for check mode, whether the hosts that a plan starts can be started.

    :raises StockyardError: as the start of the first one that cannot would.
    """
    starting = {a.name for a in todo.actions if a.kind == "host" and a.verb == "start"}
    for host in hosts:
        if host.record.name in starting and host.state != "paused":
            ctx.provider.check_start(host.record)


@host_work
def start(ctx: Context, record: HostRecord, deadline: Deadline) -> HostRecord:
    """Boot a host that is off and wait until it is itself again and Docker answers.

    What it is to trust by now, and a certificate that is due, it gets before its network link comes
    up.
    """
    begin = ctx.clock.monotonic()
    attachment.check_keys(ctx, record)
    if warning := ctx.provider.start(record, deadline):
        ctx.progress(f"{record.title}: warning: {warning}")
    more = plug_in(ctx, record, deadline)
    record = _renewed(ctx, record, deadline, booted=True)
    if more:
        recount(ctx, record, record.size, deadline)
    ctx.provider.set_link(record, True)
    reached = _wait_until_reachable(ctx, record, deadline)
    egress.ensure(ctx, record, deadline)
    ctx.progress(
        f"{record.title}: booted{', Docker answers' * reached} "
        f"({ctx.clock.monotonic() - begin:.1f} s)"
    )
    return record


@host_work
def renew(ctx: Context, record: HostRecord, deadline: Deadline) -> HostRecord:
    """Admit a running host anew where that is due, and wait until Docker answers to the
    operator.
    """
    renewed = _renewed(ctx, record, deadline)
    if renewed is not record:
        _wait_until_reachable(ctx, renewed, deadline)
    return renewed


def _renewed(
    ctx: Context, record: HostRecord, deadline: Deadline, *, booted: bool = False
) -> HostRecord:
    """Make sure that a guest is this host, give it its volumes after a boot, and admit it anew
    where that is due.
    """
    channel = ctx.provider.channel(record, deadline)
    try:
        status = check(ctx, record, channel, deadline)
        # Before anything is asked of it that has a date.
        guest_status.correct(ctx, record, status, channel, deadline)
        if booted:
            attachment.resume(ctx, record, channel, deadline)
        why = trust.reasons(ctx, record)
        if not (why and record.identity):
            return record
        if status.agent < RENEWABLE:
            raise Unsupported(
                f"it is due ({'; '.join(why)}), and its agent is too old for it.",
                name=record.title,
                remedy="rebuild its template and replace the host",
            )
        identity = renew_certificate(ctx, record, record.identity, channel, deadline)
    finally:
        channel.close()
    ctx.progress(f"{record.title}: admitted anew ({'; '.join(why)})")
    return ctx.provider.claim(record, identity=identity)


@host_work
def update_in_place(  # what each verb wants
    ctx: Context,
    record: HostRecord,
    verb: str,
    labels: dict[str, str],
    spec: HostSpec,
    deadline: Deadline,
) -> HostRecord:
    """Do to a host that stays what a plan's verb says; return its record."""
    if verb == "relabel":
        return relabel(ctx, record, labels)
    if verb == "resize":
        return resize(ctx, record, spec, deadline)
    if verb == "synchronize":
        guest_status.synchronize(ctx, record, deadline)
        return record
    return {"start": start, "restart": restart, "renew": renew, "unlock": unlock}[verb](
        ctx, record, deadline
    )


def unlock(ctx: Context, record: HostRecord, deadline: Deadline) -> HostRecord:
    """Give a host that booted by itself the keys of its volumes, and wait until Docker answers."""
    record = _renewed(ctx, record, deadline, booted=True)
    _wait_until_reachable(ctx, record, deadline)
    return record


@host_work
def restart(ctx: Context, record: HostRecord, deadline: Deadline) -> HostRecord:
    """Shut a host down and boot it; it keeps its identity."""
    attachment.check_keys(ctx, record)
    ctx.provider.stop(record, deadline)
    return start(ctx, record, deadline)


def relabel(ctx: Context, record: HostRecord, labels: dict[str, str]) -> HostRecord:
    """Change a host's labels where it is."""
    return ctx.provider.claim(record, labels=dict(labels))


@host_work
def destroy(ctx: Context, record: HostRecord) -> None:
    """Take a host away: its machine, its disk, its record."""
    if record.phase in ("ready", "draining"):
        record = ctx.provider.claim(record, phase="deleting")
    # What is here first: whoever dies on the way is followed by somebody who still finds the
    # record.
    egress.forget(ctx, record)
    if record.lease:
        ctx.pki(record.tenant).forget_lease(record.lease.id)
    attachment.unmount_before_delete(ctx, record)
    ctx.provider.destroy(record)
    attachment.release(ctx, record)
    ctx.progress(f"{record.title}: destroyed")


def delete_unless_leased(ctx: Context, record: HostRecord, leave: Callable[[], None]) -> bool:
    """Take away a host that its fleet does not need as it is, unless somebody leased it since it
    was looked at.

    :param leave: takes it away.
    :return: whether it is gone.
    """
    try:
        leave()
    except Conflict:
        now = next(
            (
                h.record
                for h in ctx.provider.observe(ctx.owner).hosts
                if h.record.uuid == record.uuid
            ),
            None,
        )
        if now is None or now.lease is None:
            raise
        ctx.progress(f"{record.title}: leased by {now.lease.holder} meanwhile; left as it is")
        return False
    return True
