# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases: a holder gets a ready host until a time, renews the lease, and releases it.

A lease is in the record of its host and is written by compare and set, so if many controllers lease
one host, one of them gets it. When a lease expires or is released, its host is deleted: no holder
gets a host that another one used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
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
from ..fleets.preflight import check_creatable
from ..hosts import access, host_lifecycle, reservation, trust
from ..templates import build_template
from ..volumes import declared
from . import lease_numbers, waiting

LOCK_WAIT = 5.0
# Seconds for an idle host to resume.
RESUME_PATIENCE = 60.0
# The number of attempts if other controllers change the same host.
TRIES = 10


@dataclass(frozen=True)
class LeaseResult:
    """The plan of an operation on a lease, and the record of its host; ``None`` if no host was
    leased.
    """

    plan: Plan
    record: HostRecord | None


@dataclass(frozen=True)
class HolderLease:
    """The lease of a holder: the existing one, or a new one. The deadline limits the wait for a
    free host.

    :param extend: extend an existing lease to the length of a new one.
    """

    ctx: Context
    spec: LeaseSpec
    extend: bool = False

    def plan(self) -> LeaseResult:
        """Return the actions that :meth:`apply` would take now. Changes and reserves nothing."""
        record = held_by(self.ctx, self.spec, self.ctx.provider.observe(self.ctx.owner))
        todo = Plan((_taking(self.spec, record),)) if record is None else self._plan_for(record)
        return LeaseResult(todo, record)

    def apply(self, deadline: Deadline) -> LeaseResult:
        """Lease a host, or extend the existing lease; return the actions that were taken."""
        ctx, spec = self.ctx, self.spec
        name = hashlib.sha256(f"{spec.holder} {spec.title}".encode()).hexdigest()[:16]
        # A holder with two simultaneous requests gets one host.
        with ctx.provider.exclusive(
            ctx.lock_name("holder", spec.tenant, name), ctx.deadline(deadline.left() + LOCK_WAIT)
        ):
            observation = ctx.provider.observe(ctx.owner)
            record = held_by(ctx, spec, observation)
            if record is None:
                record = acquire(ctx, spec, deadline.left(), observation)
                return LeaseResult(Plan((_taking(spec, record),)), record)
            todo = self._plan_for(record)
            if todo and record.lease:
                duration = spec.duration if self.extend else 0.0
                record = renew(ctx, record.lease.id, duration, observation)
            return LeaseResult(todo, record)

    def _plan_for(self, record: HostRecord) -> Plan:
        """Return the plan for a holder with a lease."""
        ctx, lease = self.ctx, record.lease
        if lease is None:
            return Plan()
        if self.extend:
            return Plan((_extending(lease, ctx.clock.now() + self.spec.duration),))
        if ctx.pki(record.tenant).lease_key(lease.id):
            return Plan()
        after, reason = {"host": record.name}, "this controller does not have the key of the lease"
        return Plan((Action("issue", "lease", lease.id, reason, {}, after),))


@dataclass(frozen=True)
class LeaseExtension:
    """The extension of a lease, as :func:`renew` does it.

    :param lease: the number of the lease.
    :param duration: seconds from now.
    """

    ctx: Context
    lease: str
    duration: float

    def plan(self) -> LeaseResult:
        """Return the actions that :meth:`apply` would take now. Changes nothing.

        :raises LeaseExpired: if the lease ended.
        """
        return self._plan_from(self.ctx.provider.observe(self.ctx.owner))

    def apply(self, _deadline: Deadline) -> LeaseResult:
        """Extend the lease; return the actions that were taken."""
        check_duration(self.duration)
        observation = self.ctx.provider.observe(self.ctx.owner)
        todo = self._plan_from(observation).plan
        return LeaseResult(todo, renew(self.ctx, self.lease, self.duration, observation))

    def _plan_from(self, observation: Observation) -> LeaseResult:
        record, current_lease = current_record(self.ctx, self.lease, observation)
        until = self.ctx.clock.now() + self.duration
        return LeaseResult(Plan((_extending(current_lease, until),)), record)


@dataclass(frozen=True)
class LeaseRelease:
    """The release of a lease: its host is deleted. A lease that has ended changes nothing.

    :param lease: the number of the lease.
    :param replacement: create a replacement at once; otherwise the next run of its fleet does.
    """

    ctx: Context
    lease: str
    replacement: bool = False

    def plan(self) -> Plan:
        """Return the actions that :meth:`apply` would take now. Changes nothing.

        :raises NotFound: if this yard never issued a lease with this number.
        :raises StockyardError: if a replacement is requested and cannot be created.
        """
        return self._plan_from(self.ctx.provider.observe(self.ctx.owner))

    def apply(self, deadline: Deadline) -> Plan:
        """Delete the host of the lease; return the actions that were taken."""
        ctx, observation = self.ctx, self.ctx.provider.observe(self.ctx.owner)
        todo, record = self._plan_from(observation), None
        with suppress(LeaseExpired):
            # From here on no other holder can get the host, and a run that finds it half-deleted
            # completes the deletion.
            record = _on_living(
                ctx, self.lease, observation, lambda leased_host, _lease: _leaving(ctx, leased_host)
            )
        if record is None:
            ctx.progress(f"lease {self.lease}: already expired, nothing changed")
            return Plan()
        host_lifecycle.destroy(ctx, record)
        if self.replacement:
            _make_another(ctx, record, deadline)
        access.sync_known_hosts(ctx, record.tenant)
        return todo

    def _plan_from(self, observation: Observation) -> Plan:
        record = lease_numbers.find_record(self.lease, observation)
        if record is None:
            lease_numbers.check(self.ctx, self.lease)
        if record is None or record.lease is None or record.lease.ended(self.ctx.clock.now()):
            return Plan()
        if self.replacement:
            _check_replacement(self.ctx, record, observation)
        state = {"lease": self.lease, "holder": record.lease.holder}
        return Plan((Action("delete", "host", record.name, "its lease was released", state, {}),))


def acquire(
    ctx: Context, spec: LeaseSpec, wait: float, observation: Observation | None = None
) -> HostRecord:
    """Lease a host that is ready and free; returns its record, with the lease.

    :param wait: seconds to wait for a host, which is created if its fleet and its pool allow it.
    :param observation: the present observation, if the caller has one.
    :raises Busy: if no host is free.
    :raises NotFound: if no such host exists.
    """
    deadline = ctx.deadline(wait)
    search = _Search(ctx, spec, lease_numbers.draw(ctx), _authority(ctx, spec.tenant))
    queue = waiting.queue_of(ctx, spec)
    # Requests that wait already come first.
    ahead = ctx.provider.queues.length(queue, ctx.clock.now())
    record = search.take(observation or ctx.provider.observe(ctx.owner), ahead)
    if record is None and wait > 0:
        record = waiting.wait(ctx, spec, search, deadline)
    if record is None:
        raise search.error(ahead)
    return record


@dataclass
class _Search:
    """The search of one request for a free host.

    :param number: the number of the lease.
    :param hosts: the hosts that it can choose from, as last observed.
    :param failures: why free hosts could not be leased.
    """

    ctx: Context
    spec: LeaseSpec
    number: str
    authority: Authority
    hosts: list[Host] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def take(self, observation: Observation, ahead: int) -> HostRecord | None:
        """Lease a host if more hosts are free than requests are ahead."""
        ctx = self.ctx
        self.hosts, self.failures = lease_policy.asked_for(self.spec, observation.hosts), []
        free_hosts = self._free(self.hosts)
        if len(free_hosts) <= ahead:
            return None
        for host in lease_policy.in_turn(free_hosts, self.number):
            try:
                record = _awake(ctx, host)
            except (Conflict, NotFound):
                continue
            except StockyardError as error:
                self.failures.append(str(error))
                continue
            with suppress(Conflict, NotFound):
                return _claim_host(ctx, self.spec, record, self.number, self.authority)
        return None

    def free(self, observation: Observation) -> int:
        """Return the number of free hosts, without those that could not be leased."""
        hosts = self._free(lease_policy.asked_for(self.spec, observation.hosts))
        return max(0, len(hosts) - len(self.failures))

    def _free(self, hosts: list[Host]) -> list[Host]:
        current_time = self.ctx.clock.now()
        return [
            host
            for host in hosts
            if not lease_policy.why_not(host, self.authority.fingerprint, current_time)
        ]

    def error(self, ahead: int) -> Conflict | NotFound:
        """Return the error for a request that got no host.

        :param ahead: the number of requests that waited already.
        """
        requests = [f"{ahead} earlier requests wait for a host"] if ahead else []
        return _none_free(
            self.ctx, self.spec, self.hosts, self.authority, [*self.failures, *requests]
        )


def renew(
    ctx: Context, lease: str, duration: float, observation: Observation | None = None
) -> HostRecord:
    """Extend a lease to at least the given duration from now, and issue a new certificate to its
    holder. A lease is never shortened: the holder's certificate would outlast it.

    :param duration: seconds; 0 keeps the end of the lease and issues only the certificate.
    :param observation: the present observation, if the caller has one.
    :raises LeaseExpired: if the lease ended. This is final: the host is deleted, or will be.
    """

    def attempt(record: HostRecord, current_lease: Lease) -> HostRecord:
        if record.phase != "ready":
            raise lease_numbers.ended(lease, current_lease)
        _synchronize(ctx, record)
        until = max(current_lease.until, ctx.clock.now() + duration)
        return _certified(
            ctx, record, replace(current_lease, until=until), _authority(ctx, record.tenant)
        )

    return _on_living(ctx, lease, observation or ctx.provider.observe(ctx.owner), attempt)


def _awake(ctx: Context, host: Host) -> HostRecord:
    """Return the record of a free host, which runs and has the right time: a guest that is behind
    in time refuses every certificate that is issued now.
    """
    if host.record.idle:
        return host_lifecycle.resume(ctx, host.record, ctx.deadline(RESUME_PATIENCE))
    guest_status.synchronize(ctx, host.record, ctx.deadline(guest_status.PATIENCE))
    return host.record


def _synchronize(ctx: Context, record: HostRecord) -> None:
    """Set the clock of a host; that of a suspended one is set when it is resumed."""
    try:
        guest_status.synchronize(ctx, record, ctx.deadline(guest_status.PATIENCE))
    except StockyardError:
        host = ctx.provider.observe(ctx.owner).host(record.tenant, record.name)
        if host is None or not host.suspended:
            raise


def _claim_host(
    ctx: Context, spec: LeaseSpec, record: HostRecord, number: str, authority: Authority
) -> HostRecord:
    current_time = ctx.clock.now()
    return _certified(
        ctx,
        record,
        Lease(number, spec.holder, current_time, current_time + spec.duration, ""),
        authority,
    )


def grant(ctx: Context, record: HostRecord, lease: Lease) -> HostRecord:
    """Put a lease on the record of a host, and issue its certificate; return the record."""
    return _certified(ctx, record, lease, _authority(ctx, record.tenant))


def _certified(ctx: Context, record: HostRecord, lease: Lease, authority: Authority) -> HostRecord:
    """Put a lease on record, with a certificate of its host's own CA; then issue the
    certificate.
    """
    pki, current_time = ctx.pki(record.tenant), ctx.today()
    signer, until = (
        authority.of_leases(record.uuid, current_time),
        datetime.fromtimestamp(lease.until, UTC),
    )
    certificate, key = signer.issue_until(
        lease.holder, current_time, until, pki.lease_key(lease.id)
    )
    previous = record.lease
    claimed_record = ctx.provider.claim(
        record, lease=replace(lease, certificate=certificate.serial)
    )
    try:
        # The previous lease may have ended before this point: then the renewal is too late.
        if previous and previous.ended(ctx.clock.now()):
            raise lease_numbers.ended(lease.id, previous)
        pki.keep_lease(lease.id, certificate, key, current_time)
    except BaseException:
        # The certificate was not issued: restore the host's record.
        _give_back(ctx, claimed_record, previous)
        raise
    ctx.progress(f"{record.title}: leased by {lease.holder} until {until:%Y-%m-%d %H:%M:%S} UTC")
    return claimed_record


def _give_back(ctx: Context, record: HostRecord, previous: Lease | None) -> None:
    with suppress(Conflict, NotFound):
        ctx.provider.claim(record, lease=previous)


def _leaving(ctx: Context, record: HostRecord) -> HostRecord:
    return record if record.phase == "deleting" else ctx.provider.claim(record, phase="deleting")


def _on_living(
    ctx: Context,
    lease: str,
    observation: Observation,
    attempt: Callable[[HostRecord, Lease], HostRecord],
) -> HostRecord:
    """Run an operation on the host of a current lease; repeat it if another controller changed its
    record in between.

    :param observation: for the first attempt; each further one observes again.
    :raises LeaseExpired: if the lease has ended.
    """
    for attempt_number in range(TRIES):
        record, current_lease = current_record(ctx, lease, observation)
        try:
            return attempt(record, current_lease)
        except NotFound as error:
            raise lease_numbers.ended(lease, current_lease) from error
        except Conflict:
            if attempt_number == TRIES - 1:
                raise
            observation = ctx.provider.observe(ctx.owner)
    raise AssertionError("unreachable")


def current_record(ctx: Context, lease: str, observation: Observation) -> tuple[HostRecord, Lease]:
    """Return the host of a lease, and the lease.

    :raises LeaseExpired: if the lease has ended.
    """
    record = lease_numbers.find_record(lease, observation)
    if record is None:
        lease_numbers.check(ctx, lease)
    if record is None or record.lease is None or record.lease.ended(ctx.clock.now()):
        raise lease_numbers.ended(lease, record.lease if record else None)
    return record, record.lease


def _check_replacement(ctx: Context, old_host: HostRecord, observation: Observation) -> None:
    """Refuse a release whose host cannot be replaced: the holder can release it without a
    replacement.
    """
    replacement_plan = Plan(
        (Action("replace", "host", old_host.name, "its lease was released", {}, {}),)
    )
    try:
        trust.current(ctx, old_host.tenant, observation.hosts)
        template = build_template.get_current(old_host.tenant, old_host.template, observation)
        check_creatable(
            ctx, old_host.tenant, old_host.spec, replacement_plan, observation, template
        )
        declared.validate_plan(
            ctx, old_host.tenant, old_host.template, old_host.spec, replacement_plan, observation
        )
    except StockyardError as error:
        error.remedy = "; ".join(
            filter(None, (error.remedy, "or release the lease without a replacement of its host"))
        )
        raise


def _make_another(ctx: Context, old_host: HostRecord, deadline: Deadline) -> None:
    """Create a host like a deleted one, unless a controller that works on its fleet created it
    already, or does so now.
    """
    try:
        with ctx.provider.exclusive(
            ctx.lock_name("fleet", old_host.tenant, old_host.fleet), deadline.within(LOCK_WAIT)
        ):
            observation = ctx.provider.observe(ctx.owner)
            if observation.host(old_host.tenant, old_host.name):
                return
            trust.prepare(ctx, old_host.tenant, observation.hosts)
            host_lifecycle.create_host(
                ctx,
                reservation.request_like(old_host),
                build_template.get_current(old_host.tenant, old_host.template, observation),
                deadline,
            )
    except Busy:
        ctx.progress(
            f"fleet {old_host.fleet}: locked by another controller; the next run creates "
            f"{old_host.title} again"
        )


def _extending(lease: Lease, until: float) -> Action:
    after = {"until": max(lease.until, until)}
    return Action(
        "extend", "lease", lease.id, "the task requests it", {"until": lease.until}, after
    )


def _taking(spec: LeaseSpec, record: HostRecord | None) -> Action:
    name, after = (
        record.name if record else f"of {spec.title}",
        {"holder": spec.holder, "duration": spec.duration},
    )
    return Action("lease", "host", name, f"{spec.holder} requests a lease", {}, after)


def held_by(ctx: Context, spec: LeaseSpec, observation: Observation) -> HostRecord | None:
    """Return the host that a holder has leased of this kind; the one with the longest lease."""
    records = (host.record for host in lease_policy.asked_for(spec, observation.hosts))
    current_time = ctx.clock.now()
    own_records = [
        record
        for record in records
        if lease_policy.is_held(record, current_time)
        and record.lease
        and record.lease.holder == spec.holder
    ]
    return max(
        own_records, key=lambda record: record.lease.until if record.lease else 0.0, default=None
    )


def _authority(ctx: Context, tenant: str) -> Authority:
    authority = ctx.pki(tenant).existing_authority()
    if authority is None:
        raise OperationRefused(
            "the tenant has no CA, neither in pki_dir nor in the options.",
            name=f"tenant {tenant}",
            remedy="restore the CA: without it, no host can accept a new lease",
        )
    return authority


def _none_free(
    ctx: Context, spec: LeaseSpec, hosts: list[Host], authority: Authority, failures: list[str]
) -> Conflict | NotFound:
    """Return the error for a lease that no host is free for.

    :param failures: why free hosts could not be leased.
    """
    if not hosts:
        return NotFound(
            "no host matches the request.", name=spec.title, remedy="create a fleet first"
        )
    reasons = sorted(
        {lease_policy.why_not(host, authority.fingerprint, ctx.clock.now()) for host in hosts}
        - {""}
    )
    return Busy(
        f"none of the {len(hosts)} matching hosts is free.",
        name=spec.title,
        cause="; ".join([*reasons, *failures][:5]),
        remedy="wait longer, or raise min_ready and max of the fleet and converge it",
    )
