# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The identity of a fork, from the controller's side of the channel."""

from __future__ import annotations

import base64
import os
import uuid
from dataclasses import replace
from typing import Any

from ...clock import Deadline
from ...errors import GuestBroken, GuestError, InvalidInput, StockyardError
from ...hypervisor.provider import Channel
from ...model import untrusted
from ...model.host import HostRecord, Identity, host_key
from ...model.naming import shown
from ...model.network import GuestNetwork
from ...model.observation import Record
from ..context import Context
from ..guest_status import Status, greet
from . import egress

ENTROPY_BYTES = 64
# The first agent that answers ``csr``.
RENEWABLE = 2


def identify(ctx: Context, record: HostRecord, channel: Channel, deadline: Deadline) -> Identity:
    """Give a fork its identity: entropy, names, new keys, and a certificate.

    :raises GuestError: if the agent's answer is not one of a stockyard guest.
    """
    machine_id = uuid.uuid4().hex
    answer = channel.request(_request(ctx, record, machine_id), deadline)
    host_key = host_key_of(answer, record)
    if answer.get("mac") != record.mac:
        raise GuestError(
            f"the guest still has MAC {shown(answer.get('mac'))} after the change.",
            name=record.title,
        )
    request, admission = _admission(ctx, record, answer)
    channel.request(request, deadline)
    return replace(Identity(machine_id, host_key, "", 0.0), **admission)


def renew_certificate(
    ctx: Context, record: HostRecord, identity: Identity, channel: Channel, deadline: Deadline
) -> Identity:
    """Give a host a new certificate for its key, and the current authorities and revocations; all
    other parts of its identity stay.

    Clients that a new CA or revocation list excludes are cut off. With a new CA, the operator's SSH
    key is installed too unless the declaration names keys: a controller without the old CA has lost
    the old key as well.
    """
    request, admission = _admission(ctx, record, channel.request({"op": "csr"}, deadline))
    same_authority = admission["authority"] == identity.authority
    request["cut"] = not same_authority or admission["revoked"].keys() != identity.revoked.keys()
    if not same_authority:
        request["authorized_keys"] = _authorized_keys(
            ctx, record, ctx.provider.guest_network(record)
        )
    channel.request(request, deadline)
    return replace(identity, **admission)


def check(ctx: Context, record: HostRecord, channel: Channel, deadline: Deadline) -> Status:
    """Check that the agent at the other end belongs to this host; return its status.

    :raises GuestBroken: if the disk holds another identity, or none.
    """
    status = greet(ctx, channel, deadline)
    if status.uuid != record.uuid:
        raise GuestBroken(
            "the host's disk has a different identity, or none.",
            name=record.title,
            cause=f"the agent reports {shown(status.uuid)}",
            remedy="replace the host",
        )
    return status


def _admission(
    ctx: Context, record: HostRecord, answer: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sign the guest's request; return the message that installs the certificate, and the facts for
    the record.
    """
    csr = answer.get("csr")
    if not isinstance(csr, str):
        raise GuestError("the guest sent no certificate request.", name=record.title)
    pki, current_time = ctx.pki(record.tenant), ctx.today()
    authority = pki.authority(current_time)
    # The list is read after the revocations for the record: it may contain more than them, never
    # less.
    revoked = pki.revoked(current_time)
    certificate = authority.sign_server(csr, record.name, record.address, current_time)
    # Certificates of the second CA open only this host. It has a list too: a front that checks
    # lists requires one of every CA.
    lease_authority = authority.of_leases(record.uuid, current_time)
    ca, crl = (
        authority.pem() + lease_authority.pem(),
        pki.crl(current_time) + lease_authority.sign_crl((), current_time),
    )
    request = {"op": "admit", "ca": ca, "certificate": certificate.pem, "crl": crl}
    admission = {
        "certificate": certificate.serial,
        "not_after": certificate.not_after,
        "authority": authority.fingerprint,
        "revoked": revoked,
        "leasable": True,
    }
    return request, admission


def settle(channel: Channel, deadline: Deadline) -> None:
    """Make the guest's identity durable and restart its journal: the last step before the host is
    ready.
    """
    channel.request({"op": "settle"}, deadline)


def _request(ctx: Context, record: HostRecord, machine_id: str) -> dict[str, Any]:
    network = ctx.provider.guest_network(record)
    return {
        "op": "identify",
        "entropy": base64.b64encode(os.urandom(ENTROPY_BYTES)).decode(),
        "time": ctx.clock.now(),
        "uuid": record.uuid,
        "hostname": record.name,
        "machine_id": machine_id,
        **egress.guest_side(record, network),
        "authorized_keys": _authorized_keys(ctx, record, network),
        "engine_identity": record.spec.engine_identity,
    }


def unit_failures(channel: Channel, deadline: Deadline) -> str:
    """Return the failed units of a guest, with their last log lines; an empty string if the agent
    does not answer.
    """
    try:
        reply = channel.request({"op": "unit-failures"}, deadline)
        failures = untrusted.items(untrusted.item(reply, "failures", "the reply"), "failures")
        return " | ".join(untrusted.words(line, "a failure") for line in failures[:20])
    # An agent of an older template does not know the request. The caller's own wait ends by its
    # deadline.
    except (StockyardError, untrusted.MalformedData):
        return ""


def _authorized_keys(ctx: Context, record: HostRecord, network: GuestNetwork) -> list[str]:
    """Return the SSH keys of a host, which are decided here and not on record: a controller with a
    new home directory has a new key, and that changes no declaration.
    """
    return egress.authorized_keys(record, network, ctx.pki(record.tenant).operator_key())


def host_key_of(answer: dict[str, Any], record: Record) -> str:
    """Return the public half of the SSH host key that a guest created.

    :raises GuestError: if the guest sent no such key.
    """
    try:
        return host_key(answer.get("ssh_host_key"))
    except InvalidInput as error:
        raise GuestError(
            "the guest sent no usable SSH host key.",
            name=record.title,
            cause=error.message,
            remedy=error.remedy,
        ) from error
