# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The authorities and revocations of a tenant's hosts: collected from the keys at hand and the
records.
"""

from __future__ import annotations

from collections.abc import Iterable

from ...errors import StockyardError
from ...model.host import Host, HostRecord
from ...pki.authority import RENEW_PART
from ...planning.trust import Trust
from ..context import Context


def current(ctx: Context, tenant: str, hosts: Iterable[Host]) -> Trust:
    """Return the trust that hosts of a tenant must have, as far as it is known. Changes nothing.

    :param hosts: all hosts of the yard. Revocations by other controllers are on their records.
    :raises InvalidInput: if the CA cannot be used.
    """
    pki, current_time = ctx.pki(tenant), ctx.today()
    authority = pki.existing_authority()
    revoked = {**_recorded(tenant, hosts), **pki.revoked(current_time)}
    valid_revocations = {
        serial: expiry for serial, expiry in revoked.items() if expiry > ctx.clock.now()
    }
    if authority is None:
        return Trust("", 0.0, valid_revocations)
    # Not from the life of the old certificate, but from that of a new one: the CA may end before.
    due = current_time + authority.server_life(current_time) * RENEW_PART
    return Trust(authority.fingerprint, due.timestamp(), valid_revocations)


def prepare(ctx: Context, tenant: str, hosts: Iterable[Host]) -> Trust:
    """Create all files that the renewal of hosts needs. Returns the previous trust: the reason to
    act.
    """
    previous = current(ctx, tenant, hosts)
    if not previous.authority and any(
        host.record.identity for host in hosts if host.record.tenant == tenant
    ):
        ctx.progress(
            f"tenant {tenant}: creating a new CA, because this controller has none; hosts get new "
            "certificates"
        )
    ctx.pki(tenant).authority(ctx.today())
    ctx.pki(tenant).revoke(previous.revoked, ctx.today())
    return previous


def reasons(ctx: Context, record: HostRecord) -> list[str]:
    """Return why a host must be renewed, according to the keys at hand."""
    return current(ctx, record.tenant, ()).reasons(record.identity)


def drifts(ctx: Context, hosts: Iterable[Host]) -> dict[str, list[str]]:
    """Return the reasons why each host must be renewed, by uuid; if they cannot be determined, the
    error.
    """
    hosts = list(hosts)
    reasons_by_host = {}
    for tenant in {host.record.tenant for host in hosts}:
        records = [host.record for host in hosts if host.record.tenant == tenant]
        try:
            trust = current(ctx, tenant, hosts)
            reasons_by_host.update(
                {record.uuid: trust.reasons(record.identity) for record in records}
            )
        except StockyardError as error:
            reasons_by_host.update({record.uuid: [str(error)] for record in records})
    return reasons_by_host


def _recorded(tenant: str, hosts: Iterable[Host]) -> dict[str, float]:
    identities = [
        host.record.identity
        for host in hosts
        if host.record.tenant == tenant and host.record.identity
    ]
    return {
        serial: expiry for identity in identities for serial, expiry in identity.revoked.items()
    }
