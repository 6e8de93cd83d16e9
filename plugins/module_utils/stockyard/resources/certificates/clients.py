# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Named client certificates: issued into a directory, revoked, and refused by every host of the
tenant.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...clock import Deadline
from ...errors import InvalidInput, OperationRefused, StockyardError
from ...model import naming
from ...model.host import Host
from ...pki.ledger import serial_of
from ...planning.plan import Action, Plan, plan_renewal
from ...planning.trust import Trust
from ..context import Context
from ..fleets.rollout import Work, each
from ..hosts import access, host_lifecycle, trust


@dataclass(frozen=True)
class Client:
    """A client certificate by the name that it carries.

    :param directory: where it is put; ``clients/NAME`` in the tenant's directory when empty.
    :param days: how long it lasts.
    """

    name: str
    tenant: str = "default"
    directory: str = ""
    days: int = 90

    def __post_init__(self) -> None:
        naming.name("client", self.name)
        naming.name("tenant", self.tenant)
        naming.whole("days", self.days, 1, 3650)

    def folder(self, ctx: Context) -> Path:
        """Where it is put."""
        return (
            Path(self.directory).expanduser()
            if self.directory
            else ctx.pki(self.tenant).directory_of(self.name)
        )


def plan_issue(ctx: Context, client: Client) -> Plan:
    """What :func:`issue` would do. Writes nothing."""
    folder = client.folder(ctx)
    if ctx.pki(client.tenant).is_issued(folder, ctx.today()):
        return Plan()
    after = {"directory": str(folder), "days": client.days}
    return Plan(
        (
            Action(
                "issue",
                "client",
                client.name,
                "no certificate of it is there that lasts",
                {},
                after,
            ),
        )
    )


def issue(ctx: Context, client: Client) -> Plan:
    """Have a client certificate in a directory.

    :raises Refused: when there are hosts, and the CA that they trust is not here.
    """
    pki, todo = ctx.pki(client.tenant), plan_issue(ctx, client)
    if pki.found() is None and _living(ctx, client.tenant):
        raise _no_authority(client.tenant)
    pki.issue(client.name, client.folder(ctx), ctx.today(), client.days)
    return todo


def plan_revocation(ctx: Context, tenant: str, title: str, serials: dict[str, float]) -> Plan:
    """What :func:`revoke` would do. Writes nothing."""
    found = sorted(ctx.provider.observe(ctx.owner).hosts, key=lambda h: h.record.name)
    now = trust.current(ctx, tenant, found)
    fresh = sorted(serials.keys() - now.revoked.keys())
    after = Trust(now.authority, now.renew_before, {**now.revoked, **serials})
    first = (
        [Action("revoke", "client", title, "it is to be absent", {"serials": fresh}, {})]
        if fresh
        else []
    )
    return Plan((*first, *(a for h in found if _runs(h, tenant) for a in plan_renewal(h, after))))


def revoke(
    ctx: Context, tenant: str, title: str, serials: dict[str, float], timeout: float
) -> Plan:
    """Revoke certificates, and have every running host of the tenant refuse them. Hosts that are
    off learn of it when they are started.

    :raises StockyardError: when a host could not be told; it stays due, and the next run tells it.
    """
    deadline = ctx.deadline(timeout)
    if ctx.pki(tenant).found() is None:
        raise _no_authority(tenant)
    todo = plan_revocation(ctx, tenant, title, serials)
    found = ctx.provider.observe(ctx.owner).hosts
    trust.prepare(ctx, tenant, found)
    ctx.pki(tenant).revoke(serials, ctx.today())
    try:
        _push(ctx, tenant, deadline)
    finally:
        # The operator's own certificate may be among them: there is another one at once.
        access.sync_known_hosts(ctx, tenant)
    return todo


def described(ctx: Context, client: Client) -> list[dict[str, Any]]:
    """What of a client is valid now, as modules return it."""
    revoked = ctx.pki(client.tenant).revoked(ctx.today())
    folder = str(client.folder(ctx))
    return [
        {
            "name": client.name,
            "tenant": client.tenant,
            "directory": folder,
            "serial": serial,
            "not_after": end,
        }
        for serial, end in sorted(
            ctx.pki(client.tenant).issued(client.name).items(), key=lambda item: item[1]
        )
        if serial not in revoked and end > ctx.clock.now()
    ]


def serials_of(
    ctx: Context, client: Client, certificate: str = "", serial: str = ""
) -> dict[str, float]:
    """What is revoked with a client: all that was issued to it here, what lies in its directory,
    and what is named.

    :param certificate: PEM.
    :param serial: in hex.
    """
    pki = ctx.pki(client.tenant)
    authority = pki.found()
    if authority is None:
        raise _no_authority(client.tenant)
    found = pki.issued(client.name)
    if certificate:
        found |= serial_of(certificate, authority)
    if serial:
        # How long it lasts is not known; not longer than its CA.
        found[_hex(serial)] = authority.certificate.not_valid_after_utc.timestamp()
    return {number: end for number, end in found.items() if end > ctx.clock.now()}


def _push(ctx: Context, tenant: str, deadline: Deadline) -> None:
    """Tell every running host of a tenant that is behind, each held as its own convergence holds
    it.
    """
    groups = {(bool(h.record.fleet), h.record.fleet or h.record.name) for h in _due(ctx, tenant)}
    errors = []
    for fleet, name in sorted(groups):
        try:
            with ctx.provider.exclusive(
                ctx.lock_name("fleet" if fleet else "host", tenant, name), deadline
            ):
                mine = [h for h in _due(ctx, tenant) if (h.record.fleet or h.record.name) == name]
                each(ctx, [_renewer(ctx, h, deadline) for h in mine])
        except StockyardError as error:
            errors.append(error)
    if errors:
        raise StockyardError(
            "not every host was told what is revoked.",
            name=f"tenant {tenant}",
            cause="; ".join(map(str, errors)),
            remedy="run again: the others are told, and these stay due",
        ) from errors[0]


def _renewer(ctx: Context, host: Host, deadline: Deadline) -> Work:
    return lambda: host_lifecycle.renew(ctx, host.record, deadline)


def _due(ctx: Context, tenant: str) -> list[Host]:
    return [h for h in _living(ctx, tenant) if _runs(h, tenant) and trust.reasons(ctx, h.record)]


def _living(ctx: Context, tenant: str) -> list[Host]:
    return [
        h
        for h in ctx.provider.observe(ctx.owner).hosts
        if h.record.tenant == tenant and h.record.identity
    ]


def _runs(host: Host, tenant: str) -> bool:
    return host.record.tenant == tenant and host.serving


def _hex(serial: str) -> str:
    try:
        return f"{int(serial.replace(':', ''), 16):x}"
    except ValueError as error:
        raise InvalidInput(
            f"{serial!a} is no serial number in hex.", remedy="write it as openssl shows it"
        ) from error


def _no_authority(tenant: str) -> OperationRefused:
    return OperationRefused(
        "its CA is not here: neither in pki_dir nor given.",
        name=f"tenant {tenant}",
        remedy="bring it back, or converge the yard first: hosts are admitted to a new one",
    )
