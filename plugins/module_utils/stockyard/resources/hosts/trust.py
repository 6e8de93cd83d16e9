# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a tenant's hosts are to trust: gathered from the keys at hand and from what is on record."""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import StockyardError
from ...model.host import Host, HostRecord
from ...pki.authority import RENEW_PART
from ...planning.trust import Trust
from ..context import Context


def current(ctx: Context, tenant: str, found: Iterable[Host]) -> Trust:
    """What hosts of a tenant are to be admitted with, as far as it is known now. Writes nothing.

    :param found: all hosts of the yard. What was revoked by a controller elsewhere is on their
        records.
    :raises InvalidInput: when the CA cannot be used.
    """
    pki, now = ctx.pki(tenant), ctx.today()
    authority = pki.found()
    revoked = {**_recorded(tenant, found), **pki.revoked(now)}
    living = {serial: end for serial, end in revoked.items() if end > ctx.clock.now()}
    if authority is None:
        return Trust("", 0.0, living)
    # Not of the life that it had, but of the one that a new one would have: the CA may end before.
    due = now + authority.server_life(now) * RENEW_PART
    return Trust(authority.fingerprint, due.timestamp(), living)


def prepare(ctx: Context, tenant: str, found: Iterable[Host]) -> Trust:
    """The same, with everything on disk that admitting hosts needs. Returns what it was before: the
    reason to act.
    """
    before = current(ctx, tenant, found)
    if not before.authority and any(h.record.identity for h in found if h.record.tenant == tenant):
        ctx.progress(
            f"tenant {tenant}: its CA is not here; a new one is made, and hosts are admitted to it"
        )
    ctx.pki(tenant).authority(ctx.today())
    ctx.pki(tenant).revoke(before.revoked, ctx.today())
    return before


def reasons(ctx: Context, record: HostRecord) -> list[str]:
    """Why a host has to be admitted anew, by the keys at hand."""
    return current(ctx, record.tenant, ()).reasons(record.identity)


def drifts(ctx: Context, found: Iterable[Host]) -> dict[str, list[str]]:
    """For each host, by uuid, why it has to be admitted anew; why that cannot be known, where it
    cannot.
    """
    found = list(found)
    answer = {}
    for tenant in {h.record.tenant for h in found}:
        mine = [h.record for h in found if h.record.tenant == tenant]
        try:
            trust = current(ctx, tenant, found)
            answer.update({r.uuid: trust.reasons(r.identity) for r in mine})
        except StockyardError as error:
            answer.update({r.uuid: [str(error)] for r in mine})
    return answer


def _recorded(tenant: str, found: Iterable[Host]) -> dict[str, float]:
    identities = [
        h.record.identity for h in found if h.record.tenant == tenant and h.record.identity
    ]
    return {serial: end for identity in identities for serial, end in identity.revoked.items()}
