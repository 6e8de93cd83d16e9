# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rollout of a fleet's plan, wave by wave; it stops after a wave that fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from ...clock import Deadline
from ...errors import Conflict, GuestBroken, StockyardError, joined
from ...model.fleet import FleetSpec
from ...model.host import Host, HostRecord
from ...model.observation import Template
from ...planning.plan import Action, Plan
from ..context import Context
from ..hosts import host_lifecycle, reservation
from ..hosts.drain import drain

Work = Callable[[], object]
# Seconds after which a job no longer keeps the next one waiting, and the most jobs for each slot.
SLOW, MOST_FOR_EACH_SLOT = 15.0, 4
KEPT = (
    "the host and its disk are retained: run again, or replace the host if its guest is "
    "broken (host, state: replaced)"
)


@dataclass(frozen=True)
class Rollout:
    """One run's work on one fleet.

    :param template: the template that new hosts are forked from; ``None`` if no host is created.
    :param retained: hosts that were leased before the rollout could delete them: their names are in
        use.
    :param resumed: the records of suspended hosts that were resumed before they are replaced.
    """

    ctx: Context
    spec: FleetSpec
    template: Template | None
    deadline: Deadline
    retained: set[str] = field(default_factory=set)
    resumed: dict[str, HostRecord] = field(default_factory=dict)

    def apply(self, todo: Plan, hosts: Iterable[Host]) -> None:
        """Carry out a plan, up to the first wave that fails.

        :param hosts: the hosts of the fleet.
        """
        members = {host.record.name: host for host in hosts}
        waves = todo.waves()
        for number, wave in enumerate(waves):
            remaining_actions = sum(len(actions) for actions in waves[number + 1 :])
            try:
                self._run_wave(wave, members, last=not remaining_actions)
            except StockyardError as error:
                if remaining_actions:
                    self._stopped(error, remaining_actions)
                raise

    def _run_wave(self, wave: tuple[Action, ...], members: dict[str, Host], last: bool) -> None:
        """Carry out one wave: first delete hosts to free capacity, then run all other actions in
        parallel.
        """
        run_all(
            self.ctx,
            [
                self._farewell(members.pop(removal.name))
                for removal in wave
                if removal.verb == "delete"
            ],
        )
        actions_by_host: dict[str, list[Action]] = {}
        for action in wave:
            if action.verb != "delete" and not (
                action.verb == "create" and action.name in self.retained
            ):
                actions_by_host.setdefault(action.name, []).append(action)
        # New hosts must serve before old ones are deleted for them, whether the caller waits or
        # not.
        ctx = self.ctx if last else replace(self.ctx, wait=True)
        run_all(
            self.ctx,
            [
                self._doer(ctx, actions, members.get(name))
                for name, actions in actions_by_host.items()
            ],
        )

    def _doer(self, ctx: Context, actions: list[Action], host: Host | None) -> Work:
        """Return the work on one host: its actions, in order."""

        def run() -> None:
            record = host.record if host else None
            for action in actions:
                if record and action.verb in host_lifecycle.IN_PLACE:
                    record = self._update_in_place(ctx, record, action.verb)
                    if action.verb == "resume":
                        self.resumed[record.name] = record
                else:
                    if host and action.verb == "replace" and not self._farewell(host)():
                        return
                    self._make(ctx, action.name)

        return run

    def _update_in_place(self, ctx: Context, record: HostRecord, verb: str) -> HostRecord:
        """Carry out an action on a host that remains.

        A failed start replaces the host only if its guest is proven to be lost: a used port or a
        lost connection is no fault of the host.
        """
        if verb == "suspend":
            return self._suspend_idle(ctx, record)
        try:
            return host_lifecycle.update_in_place(
                ctx, record, verb, self.spec.labels, self.spec.host, self.deadline
            )
        except GuestBroken as error:
            if (
                verb not in ("start", "resume")
                or record.lease
                or self.template is None
                or self.deadline.passed()
            ):
                raise
            ctx.progress(f"{record.title}: replacing the host, because its guest is lost: {error}")
            host_lifecycle.destroy(ctx, record)
            return self._make(ctx, record.name)
        except StockyardError as error:
            if verb in ("start", "resume"):
                error.name = error.name or record.title
                error.remedy = "; ".join(part for part in (error.remedy, KEPT) if part)
            raise

    def _suspend_idle(self, ctx: Context, record: HostRecord) -> HostRecord:
        try:
            return host_lifecycle.suspend(ctx, record, self.deadline, idle=True)
        except Conflict:
            ctx.progress(f"{record.title}: not suspended, because its record changed")
            return record

    def _make(self, ctx: Context, name: str) -> HostRecord:
        if self.template is None:
            raise AssertionError("a fleet without hosts has hosts to create")
        order = reservation.HostRequest(
            self.spec.tenant,
            self.spec.name,
            name,
            self.spec.host,
            self.spec.labels,
            self.spec.ttl,
            self.spec.growth_limit,
            self.spec.terms,
        )
        return host_lifecycle.create_host(ctx, order, self.template, self.deadline)

    def _farewell(self, host: Host) -> Callable[[], bool]:
        """Return work that drains and deletes a host, and returns whether the host is deleted: it
        is not if a user leased it since the plan was made.
        """

        def drain_and_delete() -> None:
            record, update = self.resumed.get(host.record.name), self.spec.update
            if host.suspended and not record and (update.hook or update.patience):
                # Its work ends before the host, as on a running host.
                record = host_lifecycle.resume(self.ctx, host.record, self.deadline)
            present_host = Host(record, "running") if record else host
            host_lifecycle.destroy(self.ctx, drain(self.ctx, present_host, update, self.deadline))

        def delete() -> bool:
            deleted = host_lifecycle.delete_unless_leased(self.ctx, host.record, drain_and_delete)
            if not deleted:
                self.retained.add(host.record.name)
            return deleted

        return delete

    def _stopped(self, error: StockyardError, remaining_actions: int) -> None:
        self.ctx.progress(
            f"fleet {self.spec.name}: rollout stopped, {remaining_actions} actions skipped"
        )
        advice = (
            f"{remaining_actions} actions were skipped, and their hosts are unchanged; run again"
        )
        error.remedy = "; ".join(part for part in (error.remedy, advice) if part)


def run_all(ctx: Context, work: list[Work]) -> None:
    """Run all jobs, as many in parallel as the hypervisor serves well; then raise all their errors
    as one.

    A job that takes long waits for its guest, and does not delay the other jobs.
    """
    width = max(1, ctx.provider.capabilities.parallel)
    slots = Slots(width, SLOW)
    with ThreadPoolExecutor(max_workers=width * MOST_FOR_EACH_SLOT) as pool:
        futures = []
        for job in work:
            slots.wait()
            futures.append(pool.submit(slots.run, job))
    errors = [error for error in (future.exception() for future in futures) if error is not None]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise joined(f"{len(errors)} of {len(work)} hosts failed.", errors)


class Slots:
    """Slots for parallel jobs. A job leaves its slot when it ends, or when it is slow.

    :param width: the number of slots.
    :param slow: seconds after which a job leaves its slot.
    """

    def __init__(self, width: int, slow: float) -> None:
        self._free = threading.Semaphore(width)
        self._slow = slow

    def wait(self) -> None:
        """Wait for a free slot and take it for the next job."""
        self._free.acquire()

    def run(self, job: Work) -> object:
        """Run a job in a slot."""
        slot = _Slot(self._free)
        timer = threading.Timer(self._slow, slot.leave)
        timer.daemon = True
        timer.start()
        try:
            return job()
        finally:
            timer.cancel()
            slot.leave()


class _Slot:
    """The slot of one job, which is left once."""

    def __init__(self, free: threading.Semaphore) -> None:
        self._free = free
        self._held = threading.Lock()

    def leave(self) -> None:
        """Free the slot, unless the job has left it."""
        if self._held.acquire(blocking=False):
            self._free.release()
