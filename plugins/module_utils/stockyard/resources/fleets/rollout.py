# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carrying out the plan of a fleet, wave by wave; a wave that fails is the last."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from ...clock import Deadline
from ...errors import GuestBroken, StockyardError
from ...model.fleet import FleetSpec
from ...model.host import Host, HostRecord
from ...model.observation import Template
from ...planning.plan import Action, Plan
from ..context import Context
from ..hosts import host_lifecycle, reservation
from ..hosts.drain import drain

Work = Callable[[], object]
KEPT = (
    "the host and its disk are kept: run again, or replace the host if its guest is broken "
    "(host, state: replaced)"
)


@dataclass(frozen=True)
class Rollout:
    """One run's work on one fleet.

    :param template: what new hosts are forked from; ``None`` where none are made.
    :param kept: hosts that somebody leased when they were to go: their names are not free.
    """

    ctx: Context
    spec: FleetSpec
    template: Template | None
    deadline: Deadline
    kept: set[str] = field(default_factory=set)

    def apply(self, todo: Plan, found: Iterable[Host]) -> None:
        """Do all of a plan, or as much of it as goes well."""
        there = {
            h.record.name: h
            for h in found
            if (h.record.tenant, h.record.fleet) == (self.spec.tenant, self.spec.name)
        }
        waves = todo.waves()
        for number, wave in enumerate(waves):
            later = sum(len(w) for w in waves[number + 1 :])
            try:
                self._take(wave, there, last=not later)
            except StockyardError as error:
                if later:
                    self._stopped(error, later)
                raise

    def _take(self, wave: tuple[Action, ...], there: dict[str, Host], last: bool) -> None:
        """One wave: hosts that go make room first, then all others, a few at a time."""
        each(self.ctx, [self._farewell(there.pop(a.name)) for a in wave if a.verb == "destroy"])
        rest: dict[str, list[Action]] = {}
        for action in wave:
            if action.verb != "destroy" and not (
                action.verb == "create" and action.name in self.kept
            ):
                rest.setdefault(action.name, []).append(action)
        # What others are to be taken away for has to serve first, whether the caller waits or not.
        ctx = self.ctx if last else replace(self.ctx, wait=True)
        each(self.ctx, [self._doer(ctx, do, there.get(name)) for name, do in rest.items()])

    def _doer(self, ctx: Context, actions: list[Action], host: Host | None) -> Work:
        """What is to be done to one host, one after the other."""

        def do() -> None:
            record = host.record if host else None
            for action in actions:
                if record and action.verb in host_lifecycle.IN_PLACE:
                    record = self._mend(ctx, record, action.verb)
                else:
                    if host and action.verb == "replace" and not self._farewell(host)():
                        return
                    self._make(ctx, action.name)

        return do

    def _mend(self, ctx: Context, record: HostRecord, verb: str) -> HostRecord:
        """Do to a host what a plan's verb says. The only failure to start that replaces it is that
        of a guest which is proven to be lost: a taken port or a lost connection is no fault of the
        host.
        """
        try:
            return host_lifecycle.update_in_place(
                ctx, record, verb, self.spec.labels, self.spec.host, self.deadline
            )
        except GuestBroken as error:
            if verb != "start" or record.lease or self.template is None or self.deadline.passed():
                raise
            ctx.progress(f"{record.title}: its guest is lost, the host is replaced: {error}")
            host_lifecycle.destroy(ctx, record)
            return self._make(ctx, record.name)
        except StockyardError as error:
            if verb == "start":
                error.name = error.name or record.title
                error.remedy = "; ".join(part for part in (error.remedy, KEPT) if part)
            raise

    def _make(self, ctx: Context, name: str) -> HostRecord:
        if self.template is None:
            raise AssertionError("a fleet of none has hosts to be made")
        order = reservation.HostRequest(
            self.spec.tenant, self.spec.name, name, self.spec.host, self.spec.labels, self.spec.ttl
        )
        return host_lifecycle.create_host(ctx, order, self.template, self.deadline)

    def _farewell(self, host: Host) -> Callable[[], bool]:
        """Work that takes a host away, and says whether it is gone: not when somebody leased it
        meanwhile.
        """

        def leave() -> None:
            host_lifecycle.destroy(self.ctx, drain(self.ctx, host, self.spec.update, self.deadline))

        def gone() -> bool:
            left = host_lifecycle.delete_unless_leased(self.ctx, host.record, leave)
            if not left:
                self.kept.add(host.record.name)
            return left

        return gone

    def _stopped(self, error: StockyardError, later: int) -> None:
        self.ctx.progress(
            f"fleet {self.spec.name}: the rollout stops, {later} actions are not taken"
        )
        stays = f"{later} actions were not taken, their hosts did not change; run again"
        error.remedy = "; ".join(part for part in (error.remedy, stays) if part)


def each(ctx: Context, work: list[Work]) -> None:
    """Do all of it, as many at once as the hypervisor serves well; then raise what went wrong, all
    of it.
    """
    with ThreadPoolExecutor(max_workers=max(1, ctx.provider.capabilities.parallel)) as pool:
        futures = [pool.submit(one) for one in work]
    errors = [e for e in (f.exception() for f in futures) if e is not None]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise StockyardError(
            f"{len(errors)} of {len(work)} hosts failed.", cause="; ".join(str(e) for e in errors)
        )
