# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of one host: created, started, restarted, renewed, deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from ...clock import Deadline
from ...errors import Conflict, StockyardError, Unsupported
from ...guest.client import Guest
from ...model.branch import BranchRecord
from ...model.host import MODES, SUSPENDED, Host, HostRecord, HostSpec, Identity
from ...model.observation import Template
from ...model.template import TemplateRecord
from ...model.volume import VolumeRecord
from ...planning.plan import Plan
from .. import guest_status
from ..context import Context
from ..failures import host_work
from ..undo import undo
from ..volumes import attachment, branched, declared
from . import container_ports, egress, suspension, trust
from .docker_api import wait_for_docker
from .identity import check, discard, identify, refresh, renew_certificate, unit_failures
from .reservation import HostRequest, reserve
from .sizing import plug_in, refresh_limits, resize

# Seconds for a guest to report its failed units.
ASKING = 20.0
# The actions on hosts that remain; the verbs of :func:`update_in_place`.
IN_PLACE = (
    "start",
    "restart",
    "stop",
    "suspend",
    "resume",
    "resize",
    "renew",
    "relabel",
    "unlock",
    "synchronize",
)


@host_work
def create_host(
    ctx: Context, request: HostRequest, template: Template, deadline: Deadline
) -> HostRecord:
    """Create a host and wait until Docker answers in it.

    If any step fails, the incomplete host is deleted before the error is raised.
    """
    with ctx.provider.turns.take(f"host {request.name}", deadline):
        return _create_host(ctx, request, template, deadline)


def _create_host(
    ctx: Context, request: HostRequest, template: Template, deadline: Deadline
) -> HostRecord:
    record = reserve(ctx, request, template.record)
    try:
        return _bring_up(
            ctx,
            record,
            deadline,
            lambda: _fork(ctx, record, template.record, deadline),
            lambda guest: (
                "volumes attached" if declared.attach_declared(ctx, record, guest) else ""
            ),
        )
    except BaseException as error:
        undo(ctx, record, error)
        attachment.release(ctx, record, attachment.held_by(ctx, record))
        raise


@dataclass(frozen=True)
class Origin:
    """The origin of a child.

    :param branch: the branch that it is forked from.
    :param parent: its parent.
    :param containers: the action on its containers.
    :param volumes: the action on its volumes.
    :param lease: leases the reserved child if its parent is leased; returns its record.
    """

    branch: BranchRecord
    parent: HostRecord
    containers: str
    volumes: str
    lease: Callable[[HostRecord], HostRecord]


@host_work
def create_child(
    ctx: Context,
    request: HostRequest,
    template: TemplateRecord,
    origin: Origin,
    deadline: Deadline,
) -> HostRecord:
    """Create a host from a branch and wait until Docker answers in it.

    If any step fails, the incomplete host is deleted before the error is raised.

    :param template: the template that the parent was forked from.
    """
    with ctx.provider.turns.take(f"host {request.name}", deadline):
        return _create_child(ctx, request, template, origin, deadline)


def _create_child(
    ctx: Context,
    request: HostRequest,
    template: TemplateRecord,
    origin: Origin,
    deadline: Deadline,
) -> HostRecord:
    record = reserve(ctx, request, template, origin.branch.uuid)
    copies: list[VolumeRecord] = []

    def fork() -> tuple[str, str]:
        ctx.provider.branches.fork(record, origin.branch, deadline, copies)
        return "instant", ""

    def attach_volumes(guest: Guest) -> str:
        return _attach_copies(ctx, record, origin.branch, copies, guest)

    try:
        # No other holder can lease the child: it contains the data of its parent's holder.
        record = origin.lease(record)
        if origin.volumes == "copy":
            copies += branched.create_copies(ctx, record, origin.branch, origin.parent, deadline)
        return _bring_up(ctx, record, deadline, fork, attach_volumes, origin)
    except BaseException as error:
        if record.lease:
            ctx.pki(record.tenant).forget_lease(record.lease.id)
        unused_copies = branched.mark_deleted(ctx, record)
        undo(ctx, record, error)
        branched.delete(ctx, unused_copies)
        raise


def _attach_copies(
    ctx: Context,
    record: HostRecord,
    branch: BranchRecord,
    copies: Sequence[VolumeRecord],
    guest: Guest,
) -> str:
    """Attach the copies of volumes to a child; without copies, remove the volumes from it. Return
    the progress message.
    """
    if copies:
        branched.adopt(ctx, record, copies, guest)
        return "copies of volumes attached"
    if branch.volumes:
        branched.drop(ctx, record, branch, guest)
        return "volumes unmounted"
    return ""


def _bring_up(
    ctx: Context,
    record: HostRecord,
    deadline: Deadline,
    start_machine: Callable[[], tuple[str, str]],
    attach_volumes: Callable[[Guest], str],
    origin: Origin | None = None,
) -> HostRecord:
    """Start a reserved host and make it ready.

    :param start_machine: starts its machine; returns the fork mode and the reason for it.
    :param attach_volumes: attaches its volumes; returns the progress message, if there is one.
    :param origin: the origin of a child; ``None`` for a fork of a template.
    """
    start = ctx.clock.monotonic()

    def report(stage: str) -> None:
        ctx.progress(f"{record.title}: {stage} ({ctx.clock.monotonic() - start:.2f} s)")

    mode, reason = start_machine()
    report(f"started as {mode} fork")
    with egress.opening(ctx, record, deadline) as open_egress:
        identity = _make_own(ctx, record, deadline, report, attach_volumes, origin)
        if plug_in(ctx, record, deadline):
            refresh_limits(ctx, record, record.size, deadline)
            report(f"resized to {record.size.vcpus} vCPUs and {record.size.memory_mib} MiB")
        if open_egress(replace(record, identity=identity)):
            report("proxy tunnel opened" if record.spec.egress == "proxy" else "uplink opened")
    if container_ports.ensure(ctx, replace(record, identity=identity), deadline):
        report("ports of containers are forwarded")
    report("ready")
    return ctx.provider.claim(
        record, phase="ready", mode=mode, mode_reason=reason, identity=identity
    )


def _make_own(
    ctx: Context,
    record: HostRecord,
    deadline: Deadline,
    report: Callable[[str], None],
    attach_volumes: Callable[[Guest], str],
    origin: Origin | None,
) -> Identity:
    """Give a running machine its volumes and its identity, connect its network, and wait until
    Docker answers. Return the identity.
    """
    with ctx.guest(record, deadline) as guest:
        # Before the identity, because with the identity the host opens its ports and Docker may
        # start.
        if origin:
            discard(record, guest)
            report("identity of the parent discarded")
        if message := attach_volumes(guest):
            report(message)
        if origin and origin.containers != "keep":
            guest.change_containers(origin.containers)
            report(f"action on containers: {origin.containers}")
        identity = identify(ctx, record, guest)
        report("identity installed")
        ctx.provider.set_link(record, True)
        if _wait_until_reachable(ctx, record, deadline, guest):
            report("Docker answers")
        guest.settle(restart_agent=origin is not None)
    return identity


def _fork(
    ctx: Context, record: HostRecord, template: TemplateRecord, deadline: Deadline
) -> tuple[str, str]:
    """Fork in the requested mode, or in the next best one; return the mode and the reason
    for it.
    """
    reason = ""
    for mode in MODES[MODES.index(record.spec.fork_mode) :]:
        if mode not in ctx.provider.capabilities.modes:
            reason = reason or f"this hypervisor does not support {mode} forks"
            continue
        try:
            ctx.provider.fork(record, template, mode, deadline)
            return mode, reason
        except Unsupported as error:
            reason = reason or str(error)
    raise Unsupported("no fork mode is possible.", name=record.title, cause=reason)


def _wait_until_reachable(
    ctx: Context, record: HostRecord, deadline: Deadline, guest: Guest | None = None
) -> bool:
    """Wait until Docker answers at the address that users are given.

    :param guest: the client of the guest's agent, if one is open: only one can be open at a time.
    :return: whether the function waited: it does not if the caller does not require it, nor if
        hosts of this hypervisor have no endpoints.
    """
    required = ctx.wait and ctx.provider.capabilities.endpoints
    if required:
        client = ctx.pki(record.tenant).client(ctx.today())
        wait_for_docker(
            record,
            client,
            deadline,
            lambda: _failures(ctx, record, deadline.within(ASKING), guest),
        )
    return required


def _failures(ctx: Context, record: HostRecord, deadline: Deadline, guest: Guest | None) -> str:
    """Return the failed units of the guest; an empty string if its agent cannot be asked."""
    if guest is not None:
        return unit_failures(guest.within(deadline))
    try:
        with ctx.guest(record, deadline) as opened_guest:
            return unit_failures(opened_guest)
    except StockyardError:
        return ""


def check_starts(ctx: Context, todo: Plan, hosts: Iterable[Host]) -> None:
    """Check, for check mode, whether the hosts that a plan starts or resumes can be started.

    :raises StockyardError: the error that the action on the first failing host would raise.
    """
    verbs = {action.name: action.verb for action in todo.actions if action.kind == "host"}
    for host in hosts:
        verb = verbs.get(host.record.name)
        if (verb == "start" and host.state != "paused") or (
            verb == "resume" and host.state == SUSPENDED
        ):
            ctx.provider.check_start(host.record)


@host_work
def start(ctx: Context, record: HostRecord, deadline: Deadline) -> HostRecord:
    """Boot a host that is off, and wait until it has its identity and Docker answers.

    Before its network link comes up, the host gets the authorities to trust and a certificate that
    is due.
    """
    record = _power_on(ctx, record, deadline, "booted")
    return ctx.provider.claim(record, shut_down=False, awake_since=ctx.clock.now())


@host_work
def resume(ctx: Context, record: HostRecord, deadline: Deadline) -> HostRecord:
    """Resume a suspended host with its memory, and wait until Docker answers.

    The clock and the random generators of the guest are set before its network link comes up. The
    record shows an unfinished resume, so the next run completes it.
    """
    if not record.resuming:
        record = ctx.provider.claim(record, resuming=True)
    record = _power_on(ctx, record, deadline, "resumed")
    current_time = ctx.clock.now()
    return ctx.provider.claim(
        record, resuming=False, idle=False, shut_down=False, awake_since=current_time
    )


@host_work
def suspend(
    ctx: Context, record: HostRecord, deadline: Deadline, *, idle: bool = False
) -> HostRecord:
    """Suspend a running host: its memory is saved, and it uses no RAM and no CPU time.

    :param idle: whether the host was idle, so that a lease can resume it.
    :raises Conflict: if a user leased the idle host since it was observed.
    :raises OperationRefused: if it has an encrypted volume.
    """
    start_time = ctx.clock.monotonic()
    suspension.check_volumes(ctx, record)
    if idle or record.idle:
        record = ctx.provider.claim(record, idle=idle)
    ctx.provider.suspend(record, deadline)
    if record.resuming:
        record = ctx.provider.claim(record, resuming=False)
    egress.forget(ctx, record)
    ctx.progress(f"{record.title}: suspended ({ctx.clock.monotonic() - start_time:.1f} s)")
    return record


@host_work
def shut_down(ctx: Context, record: HostRecord, deadline: Deadline) -> HostRecord:
    """Shut a host down in place of a suspension: its disk and its volumes stay."""
    start_time = ctx.clock.monotonic()
    # Noted first: if this run dies after the shutdown, a resume of the yard still starts the host.
    record = ctx.provider.claim(record, shut_down=True)
    ctx.provider.stop(record, deadline)
    if record.resuming or record.idle:
        record = ctx.provider.claim(record, resuming=False, idle=False)
    egress.forget(ctx, record)
    ctx.progress(
        f"{record.title}: shut down, because its memory can contain the key of an encrypted volume "
        f"({ctx.clock.monotonic() - start_time:.1f} s)"
    )
    return record


def _power_on(ctx: Context, record: HostRecord, deadline: Deadline, outcome: str) -> HostRecord:
    attachment.check_keys(ctx, record)
    with ctx.provider.turns.take(record.title, deadline):
        return _start_machine(ctx, record, deadline, outcome)


def _start_machine(
    ctx: Context, record: HostRecord, deadline: Deadline, outcome: str
) -> HostRecord:
    start_time = ctx.clock.monotonic()
    if warning := ctx.provider.start(record, deadline):
        ctx.progress(f"{record.title}: warning: {warning}")
    plugged_in = plug_in(ctx, record, deadline)
    record = _renewed(ctx, record, deadline, booted=True)
    if plugged_in:
        refresh_limits(ctx, record, record.size, deadline)
    ctx.provider.set_link(record, True)
    answers = _wait_until_reachable(ctx, record, deadline)
    egress.ensure(ctx, record, deadline)
    container_ports.ensure(ctx, record, deadline)
    ctx.progress(
        f"{record.title}: {outcome}{', Docker answers' * answers} "
        f"({ctx.clock.monotonic() - start_time:.1f} s)"
    )
    return record


@host_work
def renew(ctx: Context, record: HostRecord, deadline: Deadline) -> HostRecord:
    """Renew a running host if it is due, and wait until Docker answers to the operator."""
    renewed_record = _renewed(ctx, record, deadline)
    if renewed_record is not record:
        _wait_until_reachable(ctx, renewed_record, deadline)
    return renewed_record


def _renewed(
    ctx: Context, record: HostRecord, deadline: Deadline, *, booted: bool = False
) -> HostRecord:
    """Check that a guest belongs to this host, attach its volumes after a boot, and renew it if it
    is due.
    """
    with ctx.guest(record, deadline) as guest:
        # Before any request whose result contains a date.
        if record.resuming:
            refresh(ctx, guest)
        status = check(ctx, record, guest)
        guest_status.correct(ctx, record, status, guest)
        if booted:
            attachment.resume(ctx, record, guest)
        drift = trust.reasons(ctx, record)
        if not (drift and record.identity):
            return record
        guest.require("certificate renewal")
        identity = renew_certificate(ctx, record, record.identity, guest)
    ctx.progress(f"{record.title}: certificate renewed ({'; '.join(drift)})")
    return ctx.provider.claim(record, identity=identity)


@host_work
def update_in_place(  # the arguments of all verbs
    ctx: Context,
    record: HostRecord,
    verb: str,
    labels: dict[str, str],
    spec: HostSpec,
    deadline: Deadline,
) -> HostRecord:
    """Carry out a plan's action on a host that remains; return its record."""
    if verb == "relabel":
        return relabel(ctx, record, labels)
    if verb == "resize":
        return resize(ctx, record, spec, deadline)
    if verb == "synchronize":
        guest_status.synchronize(ctx, record, deadline)
        return record
    return {
        "start": start,
        "restart": restart,
        "stop": shut_down,
        "suspend": suspend,
        "resume": resume,
        "renew": renew,
        "unlock": unlock,
    }[verb](ctx, record, deadline)


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


def relabel(
    ctx: Context, record: HostRecord, labels: dict[str, str], containers: str | None = None
) -> HostRecord:
    """Change a host's labels in place.

    :param containers: the facts of its containers, if they change too.
    """
    if containers is None:
        return ctx.provider.claim(record, labels=dict(labels))
    return ctx.provider.claim(record, labels=dict(labels), containers=containers)


@host_work
def destroy(ctx: Context, record: HostRecord) -> None:
    """Delete a host: its machine, its disk, its record."""
    if record.phase in ("ready", "draining"):
        record = ctx.provider.claim(record, phase="deleting")
    # Delete the controller's files first: if this run dies, a later one still finds the record.
    egress.forget(ctx, record)
    container_ports.forget(ctx, record)
    if record.lease:
        ctx.pki(record.tenant).forget_lease(record.lease.id)
    if record.branch and record.phase == "creating":
        # No user ever had the host, so its copies of volumes contain nothing of theirs.
        copies = branched.mark_deleted(ctx, record)
        ctx.provider.destroy(record)
        branched.delete(ctx, copies)
    else:
        volumes = attachment.held_by(ctx, record)
        attachment.unmount_before_delete(ctx, record, volumes)
        ctx.provider.destroy(record)
        attachment.release(ctx, record, volumes)
    ctx.progress(f"{record.title}: deleted")


def delete_unless_leased(ctx: Context, record: HostRecord, delete: Callable[[], None]) -> bool:
    """Delete a host that its fleet does not need in its current form, unless a user leased it since
    it was observed.

    :param delete: deletes the host.
    :return: whether the host is deleted.
    """
    try:
        delete()
    except Conflict:
        current_record = next(
            (
                host.record
                for host in ctx.provider.observe(ctx.owner).hosts
                if host.record.uuid == record.uuid
            ),
            None,
        )
        if current_record is None or current_record.lease is None:
            raise
        ctx.progress(
            f"{record.title}: skipped, because {current_record.lease.holder} leased it during "
            "the run"
        )
        return False
    return True
