# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Named client certificates: issued into a directory, revoked, and then refused by every host of
the tenant.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...clock import Deadline
from ...errors import InvalidInput, OperationRefused, StockyardError, joined
from ...model import naming
from ...model.certificate_info import ClientCertificateInfo
from ...model.host import Host
from ...model.observation import Observation
from ...paths import expand_user
from ...pki.ledger import serial_of
from ...planning.plan import Action, Plan, plan_renewal
from ...planning.trust import Trust
from ..context import Context
from ..fleets.rollout import Work, run_all
from ..hosts import access, host_lifecycle, trust


@dataclass(frozen=True)
class Client:
    """A client certificate by the name that it carries.

    :param directory: the directory of its files; ``clients/NAME`` in the tenant's directory if
        empty.
    :param days: its validity in days.
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
        """Return the directory of its files."""
        return (
            expand_user(self.directory)
            if self.directory
            else ctx.pki(self.tenant).directory_of(self.name)
        )


@dataclass(frozen=True)
class CertificateIssue:
    """The issue of a client certificate into a directory, if it has no valid one."""

    ctx: Context
    client: Client

    def plan(self) -> Plan:
        """Return the actions that :meth:`apply` would take now. Changes nothing."""
        client, folder = self.client, self.client.folder(self.ctx)
        if self.ctx.pki(client.tenant).is_issued(folder, self.ctx.today()):
            return Plan()
        after = {"directory": str(folder), "days": client.days}
        reason = "no certificate of this client is valid for long enough"
        return Plan((Action("issue", "client", client.name, reason, {}, after),))

    def apply(self, _deadline: Deadline) -> Plan:
        """Issue the certificate; return the actions that were taken.

        :raises OperationRefused: if hosts exist, and this controller does not have the CA that they
            trust.
        """
        ctx, client = self.ctx, self.client
        pki, todo = ctx.pki(client.tenant), self.plan()
        if pki.existing_authority() is None and _unexpired(
            ctx.provider.observe(ctx.owner), client.tenant
        ):
            raise _no_authority(client.tenant)
        pki.issue(client.name, client.folder(ctx), ctx.today(), client.days)
        return todo


@dataclass(frozen=True)
class CertificateRevocation:
    """The revocation of certificates: every running host of the tenant refuses them. Hosts that are
    off get the list when they are started.

    :param title: the client, as the plan shows it.
    :param serials: the end of each certificate, by serial.
    """

    ctx: Context
    tenant: str
    title: str
    serials: dict[str, float]

    def plan(self) -> Plan:
        """Return the actions that :meth:`apply` would take now. Changes nothing."""
        return self._plan_from(self.ctx.provider.observe(self.ctx.owner))

    def apply(self, deadline: Deadline) -> Plan:
        """Revoke the certificates; return the actions that were taken.

        :raises StockyardError: if a host could not be renewed; it stays due, and the next run
            renews it.
        """
        ctx, tenant = self.ctx, self.tenant
        if ctx.pki(tenant).existing_authority() is None:
            raise _no_authority(tenant)
        observation = ctx.provider.observe(ctx.owner)
        todo = self._plan_from(observation)
        trust.prepare(ctx, tenant, observation.hosts)
        ctx.pki(tenant).revoke(self.serials, ctx.today())
        try:
            _push(ctx, tenant, observation, deadline)
        finally:
            # The operator's own certificate may be among them: then a new one is issued at once.
            access.sync_known_hosts(ctx, tenant)
        return todo

    def _plan_from(self, observation: Observation) -> Plan:
        hosts = sorted(observation.hosts, key=lambda host: host.record.name)
        current_trust = trust.current(self.ctx, self.tenant, hosts)
        revoked = {**current_trust.revoked, **self.serials}
        later_trust = Trust(current_trust.authority, current_trust.renew_before, revoked)
        new_serials = sorted(self.serials.keys() - current_trust.revoked.keys())
        before = {"serials": new_serials}
        actions = (
            [Action("revoke", "client", self.title, "it is declared absent", before, {})]
            if new_serials
            else []
        )
        for host in hosts:
            if _runs(host, self.tenant):
                actions += plan_renewal(host, later_trust)
        return Plan(tuple(actions))


def describe(ctx: Context, client: Client) -> tuple[ClientCertificateInfo, ...]:
    """Return the valid certificates of a client; the last one has the latest end."""
    revoked = ctx.pki(client.tenant).revoked(ctx.today())
    directory = str(client.folder(ctx))
    issued = ctx.pki(client.tenant).issued(client.name)
    return tuple(
        ClientCertificateInfo(
            name=client.name,
            tenant=client.tenant,
            directory=directory,
            serial=serial,
            not_after=expiry,
        )
        for serial, expiry in sorted(issued.items(), key=lambda item: item[1])
        if serial not in revoked and expiry > ctx.clock.now()
    )


def serials_of(
    ctx: Context, client: Client, certificate: str = "", serial: str = ""
) -> dict[str, float]:
    """Return the serials that are revoked with a client: all that this controller issued to it, the
    one in its directory, and the one that the user names.

    :param certificate: PEM.
    :param serial: in hex.
    """
    pki = ctx.pki(client.tenant)
    authority = pki.existing_authority()
    if authority is None:
        raise _no_authority(client.tenant)
    expiries = pki.issued(client.name)
    if certificate:
        expiries |= serial_of(certificate, authority)
    if serial:
        # Its end is not known, but it is not later than that of its CA.
        expiries[_hex(serial)] = authority.certificate.not_valid_after_utc.timestamp()
    return {number: expiry for number, expiry in expiries.items() if expiry > ctx.clock.now()}


def _push(ctx: Context, tenant: str, observation: Observation, deadline: Deadline) -> None:
    """Renew every running host of a tenant that is due, each under the lock of its own convergence,
    as observed under that lock.
    """
    groups = {
        (bool(host.record.fleet), host.record.fleet or host.record.name)
        for host in _due(ctx, tenant, observation)
    }
    errors = []
    for fleet, name in sorted(groups):
        try:
            with ctx.provider.exclusive(
                ctx.lock_name("fleet" if fleet else "host", tenant, name), deadline
            ):
                due_hosts = [
                    host
                    for host in _due(ctx, tenant, ctx.provider.observe(ctx.owner))
                    if (host.record.fleet or host.record.name) == name
                ]
                run_all(ctx, [_renewer(ctx, host, deadline) for host in due_hosts])
        except StockyardError as error:
            errors.append(error)
    if errors:
        failure = joined(
            "some hosts did not receive the list of revoked certificates.",
            errors,
            f"tenant {tenant}",
        )
        advice = "run again; the remaining hosts stay due for a renewal"
        failure.remedy = "; ".join(part for part in (failure.remedy, advice) if part)
        raise failure from errors[0]


def _renewer(ctx: Context, host: Host, deadline: Deadline) -> Work:
    return lambda: host_lifecycle.renew(ctx, host.record, deadline)


def _due(ctx: Context, tenant: str, observation: Observation) -> list[Host]:
    return [
        host
        for host in _unexpired(observation, tenant)
        if _runs(host, tenant) and trust.reasons(ctx, host.record)
    ]


def _unexpired(observation: Observation, tenant: str) -> list[Host]:
    return [host for host in observation.of_tenant(tenant) if host.record.identity]


def _runs(host: Host, tenant: str) -> bool:
    return host.record.tenant == tenant and host.serving


def _hex(serial: str) -> str:
    try:
        return f"{int(serial.replace(':', ''), 16):x}"
    except ValueError as error:
        raise InvalidInput(
            f"{serial!a} is not a hexadecimal serial number.",
            remedy="write the number as openssl shows it",
        ) from error


def _no_authority(tenant: str) -> OperationRefused:
    return OperationRefused(
        "the tenant has no CA, neither in pki_dir nor in the options.",
        name=f"tenant {tenant}",
        remedy="restore the CA, or converge the yard first, which gives hosts certificates "
        "of a new CA",
    )
