# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity of a fork, from the controller's side of the channel."""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...errors import GuestBroken, GuestError, StockyardError
from ...guest.client import Guest, IdentityRequest, ServerCertificate
from ...model.host import HostRecord, Identity
from ...model.naming import shown
from ...model.network import GuestNetwork
from ...model.template import TemplateRecord
from ..context import Context
from ..guest_status import CLOCK, Status, read_status
from . import egress

ENTROPY_BYTES = 64
RESEEDING = "new entropy after a suspension"


@dataclass(frozen=True)
class _Admission:
    """A signed certificate with its files, and the facts about it for the host's record."""

    files: ServerCertificate
    serial: str
    not_after: float
    authority: str
    revoked: Mapping[str, float]
    key: str

    def added_to(self, identity: Identity) -> Identity:
        """Return an identity with this certificate."""
        return replace(
            identity,
            certificate=self.serial,
            not_after=self.not_after,
            authority=self.authority,
            revoked=dict(self.revoked),
            leasable=True,
            key=self.key,
        )


def identify(ctx: Context, record: HostRecord, guest: Guest) -> Identity:
    """Give a fork its identity: entropy, names, new keys, and a certificate.

    :raises GuestError: if the agent's answer is not one of a stockyard guest.
    """
    machine_id = uuid.uuid4().hex
    identity = guest.identify(_request(ctx, record, machine_id))
    if identity.mac != record.mac:
        raise GuestError(
            f"the guest still has MAC {shown(identity.mac)} after the change.",
            name=record.title,
        )
    admission = _sign(ctx, record, identity.csr)
    guest.renew_certificate(admission.files)
    return admission.added_to(Identity(machine_id, identity.ssh_host_key, "", 0.0))


def discard(record: HostRecord, guest: Guest) -> None:
    """Discard the identity of the parent in a fork of a branch, before :func:`identify`."""
    guest.discard_identity(_entropy(), record.ssh_user)


def scrub(record: TemplateRecord, guest: Guest, network: GuestNetwork) -> None:
    """Delete the identity of a host, and the traces of its users, in a template that is created
    from it.

    :param network: the network of templates.
    """
    guest.scrub(
        network,
        record.mac,
        entropy=_entropy(),
        machine_id=uuid.uuid4().hex,
        user=record.ssh_user,
    )


def refresh(ctx: Context, guest: Guest) -> None:
    """Set the clock of a resumed guest, and reseed its generators: their state was on a disk.

    The agents of earlier templates do only a part of this, and the kernel of such a guest reseeds
    itself later.
    """
    if guest.supports(RESEEDING):
        guest.reseed(_entropy())
    if guest.supports(CLOCK) and not ctx.provider.capabilities.sets_clocks:
        guest.set_clock(ctx.clock.now())


def renew_certificate(
    ctx: Context, record: HostRecord, identity: Identity, guest: Guest
) -> Identity:
    """Give a host a new certificate for its key, and the current authorities and revocations; all
    other parts of its identity stay. A request for another key is refused: a renewal must not
    certify the key of an intruder.

    Clients that a new CA or revocation list excludes are cut off. With a new CA, the operator's SSH
    key is installed too unless the declaration names keys: a controller without the old CA has lost
    the old key as well.
    """
    admission = _sign(ctx, record, guest.csr().pem, identity.key)
    same_authority = admission.authority == identity.authority
    keys = (
        () if same_authority else _authorized_keys(ctx, record, ctx.provider.guest_network(record))
    )
    guest.renew_certificate(
        admission.files,
        cut=not same_authority or admission.revoked.keys() != identity.revoked.keys(),
        authorized_keys=keys,
    )
    return admission.added_to(identity)


def check(ctx: Context, record: HostRecord, guest: Guest) -> Status:
    """Check that the agent at the other end belongs to this host; return its status.

    :raises GuestBroken: if the disk holds another identity, or none.
    """
    status = read_status(ctx, guest)
    if status.uuid != record.uuid:
        raise GuestBroken(
            "the host's disk has a different identity, or none.",
            name=record.title,
            cause=f"the agent reports {shown(status.uuid)}",
            remedy="replace the host",
        )
    return status


def _sign(ctx: Context, record: HostRecord, csr: str, certified_key: str = "") -> _Admission:
    """Sign the guest's certificate request.

    :param certified_key: the digest of the only key that is signed; any key if empty.
    """
    pki, current_time = ctx.pki(record.tenant), ctx.today()
    authority = pki.authority(current_time)
    # The list is read after the revocations for the record: it may contain more than them, never
    # less.
    revoked = pki.revoked(current_time)
    certificate = authority.sign_server(
        csr,
        record.name,
        record.address,
        current_time,
        certified_key=certified_key,
        published_address=record.spec.publish.address if record.spec.publish else "",
    )
    # Certificates of the second CA open only this host. It has a list too: a front that checks
    # lists requires one of every CA.
    lease_authority = authority.of_leases(record.uuid, current_time)
    files = ServerCertificate(
        ca=authority.pem() + lease_authority.pem(),
        certificate=certificate.pem,
        crl=pki.crl(current_time) + lease_authority.sign_crl((), current_time),
    )
    return _Admission(
        files,
        certificate.serial,
        certificate.not_after,
        authority.fingerprint,
        revoked,
        certificate.key,
    )


def _entropy() -> str:
    return base64.b64encode(os.urandom(ENTROPY_BYTES)).decode()


def _request(ctx: Context, record: HostRecord, machine_id: str) -> IdentityRequest:
    network = ctx.provider.guest_network(record)
    return IdentityRequest(
        entropy=_entropy(),
        time=ctx.clock.now(),
        uuid=record.uuid,
        hostname=record.name,
        machine_id=machine_id,
        network=network,
        mac=record.mac,
        proxy=egress.proxy_in_guest(record, network),
        authorized_keys=_authorized_keys(ctx, record, network),
        engine_identity=record.spec.engine_identity,
    )


def unit_failures(guest: Guest) -> str:
    """Return the failed units of a guest, with their last log lines; an empty string if the agent
    does not answer, or cannot report them. The caller's own wait ends by its deadline.
    """
    try:
        return " | ".join(guest.unit_failures().lines)
    except StockyardError:
        return ""


def _authorized_keys(ctx: Context, record: HostRecord, network: GuestNetwork) -> tuple[str, ...]:
    """Return the SSH keys of a host, which are decided here and not on record: a controller with a
    new home directory has a new key, and that changes no declaration.
    """
    return tuple(egress.authorized_keys(record, network, ctx.pki(record.tenant).operator_key()))
