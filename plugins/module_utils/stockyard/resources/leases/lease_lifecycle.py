# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases: a ready host is taken for a holder until a time, kept for longer, and given back.

A lease is in the record of its host and is written by compare and set, so of many who ask one gets
a host. When it is over, by its time or by the holder's word, the host is taken away: nobody gets a
host that somebody had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

from ...clock import Deadline
from ...errors import Busy, Conflict, LeaseExpired, NotFound, OperationRefused, StockyardError
from ...model.host import Host, HostRecord
from ...model.lease import Lease, LeaseSpec, check_duration
from ...model.observation import Observation
from ...pki.authority import Authority
from ...planning import lease_policy
from ...planning.plan import Action, Plan
from .. import guest_status
from ..context import Context
from ..fleets.preflight import admit
from ..hosts import access, host_lifecycle, reservation, trust
from ..templates import build_template
from ..volumes import declared
from . import lease_numbers

LOCK_WAIT = 5.0
POLL = 0.5
# How often something is tried that others, who are at work on the same host, may be in the way of.
TRIES = 10


def plan(ctx: Context, spec: LeaseSpec, extend: bool = False) -> Plan:
    """What :func:`ensure` would do. Writes nothing, and reserves nothing."""
    held = held_by(ctx, spec)
    return Plan((_taking(spec, held),)) if held is None else _planned(ctx, spec, held, extend)


def ensure(ctx: Context, spec: LeaseSpec, extend: bool, wait: float) -> tuple[Plan, HostRecord]:
    """Have a lease of what is asked for: the one that the holder has, or else a new one.

    :param extend: let one that he has last as long as a new one would.
    :param wait: seconds to wait for a host that is free.
    """
    name = hashlib.sha256(f"{spec.holder} {spec.title}".encode()).hexdigest()[:16]
    # One holder who asks twice at once is to get one host.
    with ctx.provider.exclusive(
        ctx.lock_name("holder", spec.tenant, name), ctx.deadline(wait + LOCK_WAIT)
    ):
        held = held_by(ctx, spec)
        if held is None:
            record = take(ctx, spec, wait)
            return Plan((_taking(spec, record),)), record
        todo = _planned(ctx, spec, held, extend)
        if todo and held.lease:
            held = renew(ctx, held.lease.id, spec.duration if extend else 0.0)
        return todo, held


def take(ctx: Context, spec: LeaseSpec, wait: float) -> HostRecord:
    """Take a host that is ready and nobody's; returns its record, with the lease.

    :param wait: seconds to wait for one.
    :raises Busy: when none is free.
    :raises NotFound: when there is none at all of what was asked for.
    """
    deadline, own = ctx.deadline(wait), lease_numbers.draw(ctx)
    authority = _authority(ctx, spec.tenant)
    while True:
        found, silent = (
            lease_policy.asked_for(spec, ctx.provider.observe(ctx.owner).hosts),
            list[str](),
        )
        for host in lease_policy.in_turn(found, own):
            if not lease_policy.why_not(host, authority.fingerprint, ctx.clock.now()):
                try:
                    # A guest that is behind in time refuses every certificate of now.
                    guest_status.synchronize(ctx, host.record, ctx.deadline(guest_status.PATIENCE))
                except StockyardError as error:
                    silent.append(str(error))
                    continue
                with suppress(Conflict, NotFound):
                    return _take(ctx, spec, host.record, own, authority)
        if deadline.passed():
            raise _none_free(ctx, spec, found, authority, silent)
        deadline.pause(POLL)


def renew(ctx: Context, lease: str, duration: float) -> HostRecord:
    """Let a lease last from now on at least as long as is asked for; its holder gets a new
    certificate. It never gets shorter: the certificate that he has would outlast it.

    :param duration: seconds; 0 leaves its end as it is and gives the certificate alone.
    :raises LeaseExpired: when it ended. That is for good: the host is, or will be, taken away.
    """

    def attempt(record: HostRecord, held: Lease) -> HostRecord:
        if record.phase != "ready":
            raise lease_numbers.ended(lease, held)
        guest_status.synchronize(ctx, record, ctx.deadline(guest_status.PATIENCE))
        until = max(held.until, ctx.clock.now() + duration)
        return _certified(ctx, record, replace(held, until=until), _authority(ctx, record.tenant))

    return _on_living(ctx, lease, attempt)


def extend(ctx: Context, lease: str, duration: float) -> tuple[Plan, HostRecord]:
    """The same; returns what was done, too."""
    check_duration(duration)
    return plan_extension(ctx, lease, duration)[0], renew(ctx, lease, duration)


def plan_extension(ctx: Context, lease: str, duration: float) -> tuple[Plan, HostRecord]:
    """What :func:`extend` would do. Writes nothing.

    :raises LeaseExpired: when the lease ended.
    """
    record, held = _living(ctx, lease)
    return Plan((_extending(held, ctx.clock.now() + duration),)), record


def plan_release(ctx: Context, lease: str, again: bool) -> Plan:
    """What :func:`release` would do. Writes nothing.

    :raises NotFound: if no lease of this yard ever had this number.
    :raises StockyardError: if no other host can be made in its place, and that is asked for.
    """
    seen = ctx.provider.observe(ctx.owner)
    record = lease_numbers.find(lease, seen)
    if record is None:
        lease_numbers.check(ctx, lease)
    if record is None or record.lease is None or record.lease.ended(ctx.clock.now()):
        return Plan()
    if again:
        _check_replacement(ctx, record, seen)
    state = {"lease": lease, "holder": record.lease.holder}
    return Plan((Action("destroy", "host", record.name, "its lease is given back", state, {}),))


def release(ctx: Context, lease: str, again: bool, timeout: float) -> Plan:
    """Delete the host of a lease. A lease that has ended changes nothing.

    :param again: make another host in its place at once; else the next run of its fleet does.
    :raises NotFound: if no lease of this yard ever had this number.
    :raises StockyardError: before anything is changed, if no other host can be made, and that is
        asked for.
    """
    deadline, todo = ctx.deadline(timeout), plan_release(ctx, lease, again)
    record = None
    with suppress(LeaseExpired):
        # From here on nobody else can have it, and whoever finds it half-destroyed goes on with it.
        record = _on_living(ctx, lease, lambda found, _held: _leaving(ctx, found))
    if record is None:
        ctx.progress(f"lease {lease}: it was over; nothing is done")
        return Plan()
    host_lifecycle.destroy(ctx, record)
    if again:
        _make_another(ctx, record, deadline)
    access.sync_known_hosts(ctx, record.tenant)
    return todo


def _take(
    ctx: Context, spec: LeaseSpec, record: HostRecord, own: str, authority: Authority
) -> HostRecord:
    now = ctx.clock.now()
    return _certified(ctx, record, Lease(own, spec.holder, now, now + spec.duration, ""), authority)


def _certified(ctx: Context, record: HostRecord, lease: Lease, authority: Authority) -> HostRecord:
    """Put a lease on record, with a certificate of its host's own CA; then give it out."""
    pki, now = ctx.pki(record.tenant), ctx.today()
    signer, until = authority.of_leases(record.uuid, now), datetime.fromtimestamp(lease.until, UTC)
    certificate, key = signer.issue_until(lease.holder, now, until, pki.lease_key(lease.id))
    before = record.lease
    claimed = ctx.provider.claim(record, lease=replace(lease, certificate=certificate.serial))
    try:
        # Whoever was stopped on the way here comes too late.
        if before and before.ended(ctx.clock.now()):
            raise lease_numbers.ended(lease.id, before)
        pki.keep_lease(lease.id, certificate, key, now)
    except BaseException:
        # Nobody got it: the host is as it was.
        _give_back(ctx, claimed, before)
        raise
    ctx.progress(f"{record.title}: leased by {lease.holder} until {until:%Y-%m-%d %H:%M:%S} UTC")
    return claimed


def _give_back(ctx: Context, record: HostRecord, before: Lease | None) -> None:
    with suppress(Conflict, NotFound):
        ctx.provider.claim(record, lease=before)


def _leaving(ctx: Context, record: HostRecord) -> HostRecord:
    return record if record.phase == "deleting" else ctx.provider.claim(record, phase="deleting")


def _on_living(
    ctx: Context, lease: str, attempt: Callable[[HostRecord, Lease], HostRecord]
) -> HostRecord:
    """Do something to the host of a lease that lasts; again when somebody else changed its record
    meanwhile.

    :raises LeaseExpired: when it does not last.
    """
    for number in range(TRIES):
        record, held = _living(ctx, lease)
        try:
            return attempt(record, held)
        except NotFound as error:
            raise lease_numbers.ended(lease, held) from error
        except Conflict:
            if number == TRIES - 1:
                raise
    raise AssertionError("unreachable")


def _living(ctx: Context, lease: str) -> tuple[HostRecord, Lease]:
    record = lease_numbers.find(lease, ctx.provider.observe(ctx.owner))
    if record is None:
        lease_numbers.check(ctx, lease)
    if record is None or record.lease is None or record.lease.ended(ctx.clock.now()):
        raise lease_numbers.ended(lease, record.lease if record else None)
    return record, record.lease


def _check_replacement(ctx: Context, old: HostRecord, seen: Observation) -> None:
    """Refuse a release whose host cannot be replaced: the holder can release it without that."""
    replacing = Plan((Action("replace", "host", old.name, "its lease is given back", {}, {}),))
    try:
        trust.current(ctx, old.tenant, seen.hosts)
        template = build_template.need(old.tenant, old.template, seen)
        admit(ctx, old.tenant, old.spec, replacing, seen, template)
        declared.validate_plan(ctx, old.tenant, old.template, old.spec, replacing, seen)
    except StockyardError as error:
        error.remedy = "; ".join(
            filter(None, (error.remedy, "or release the lease without replacing its host"))
        )
        raise


def _make_another(ctx: Context, old: HostRecord, deadline: Deadline) -> None:
    """Make a host like one that is gone, unless whoever is at work on its fleet did it already, or
    does it now.
    """
    try:
        with ctx.provider.exclusive(
            ctx.lock_name("fleet", old.tenant, old.fleet), deadline.within(LOCK_WAIT)
        ):
            seen = ctx.provider.observe(ctx.owner)
            if any((h.record.tenant, h.record.name) == (old.tenant, old.name) for h in seen.hosts):
                return
            trust.prepare(ctx, old.tenant, seen.hosts)
            host_lifecycle.create_host(
                ctx,
                reservation.request_like(old),
                build_template.need(old.tenant, old.template, seen),
                deadline,
            )
    except Busy:
        ctx.progress(
            f"fleet {old.fleet}: another controller is at work on it; the next run makes "
            f"{old.title} again"
        )


def _planned(ctx: Context, spec: LeaseSpec, record: HostRecord, extend: bool) -> Plan:
    """What is to be done for a holder who has a lease."""
    lease = record.lease
    if lease is None or (not extend and ctx.pki(record.tenant).lease_key(lease.id)):
        return Plan()
    if not extend:
        return Plan(
            (Action("issue", "lease", lease.id, "its key is not here", {}, {"host": record.name}),)
        )
    return Plan((_extending(lease, ctx.clock.now() + spec.duration),))


def _extending(lease: Lease, until: float) -> Action:
    after = {"until": max(lease.until, until)}
    return Action("extend", "lease", lease.id, "it was asked for", {"until": lease.until}, after)


def _taking(spec: LeaseSpec, record: HostRecord | None) -> Action:
    name, after = (
        record.name if record else f"of {spec.title}",
        {"holder": spec.holder, "duration": spec.duration},
    )
    return Action("lease", "host", name, f"{spec.holder} asks for one", {}, after)


def held_by(ctx: Context, spec: LeaseSpec) -> HostRecord | None:
    """The host that a holder has of what he asks for; the one that he has for longest."""
    found = (h.record for h in lease_policy.asked_for(spec, ctx.provider.observe(ctx.owner).hosts))
    now = ctx.clock.now()
    mine = [
        r
        for r in found
        if lease_policy.is_held(r, now) and r.lease and r.lease.holder == spec.holder
    ]
    return max(mine, key=lambda r: r.lease.until if r.lease else 0.0, default=None)


def _authority(ctx: Context, tenant: str) -> Authority:
    found = ctx.pki(tenant).found()
    if found is None:
        raise OperationRefused(
            "its CA is not here: neither in pki_dir nor given.",
            name=f"tenant {tenant}",
            remedy="bring it back: without it no host can be told who has it",
        )
    return found


def _none_free(
    ctx: Context, spec: LeaseSpec, found: list[Host], authority: Authority, silent: list[str]
) -> Conflict | NotFound:
    """Return the error about a lease that no host is free for.

    :param silent: why hosts that are free could not be given out.
    """
    if not found:
        return NotFound(
            "there is no such host to lease.", name=spec.title, remedy="create a fleet first"
        )
    why = sorted(
        {lease_policy.why_not(h, authority.fingerprint, ctx.clock.now()) for h in found} - {""}
    )
    return Busy(
        f"none of {len(found)} hosts is free.",
        name=spec.title,
        cause="; ".join([*why, *silent][:5]),
        remedy="wait longer, or raise min_ready and max of the fleet and converge it",
    )
