# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Templates on vSphere: their sources, how they are frozen, and the problems that prevent forks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...clock import Deadline
from ...errors import DeadlineExceeded, HypervisorError, Unsupported
from ...guest.client import Guest
from ...model.host import HostSpec
from ...model.template import TemplateRecord
from .inventory import machine as read_machine
from .inventory import properties
from .place import Place
from .records import Machine
from .reservations import LEAVING
from .session import Session

POLL = 0.1
FREEZE = 120.0


def image(session: Session, ref: Any, source: str) -> str:
    """Return the name of the machine that templates are cloned from, with its current version."""
    values = properties(session, ref, ("config.instanceUuid", "config.changeVersion"), source)
    if not values.get("config.instanceUuid"):
        raise HypervisorError(
            "the kind of the machine cannot be read.",
            name=source,
            remedy="inspect the machine in vCenter",
        )
    return f"{values['config.instanceUuid']}@{values.get('config.changeVersion', '')}"


def refuse_changed(origin: Machine, change: str, template: TemplateRecord) -> None:
    """Check that a template's source is unchanged.

    A cold clone is a copy of the source, not of the frozen machine, so the source must still match
    the template.

    :raises Unsupported: if the source was changed.
    """
    if change != origin.change:
        raise Unsupported(
            "the source was changed after the template was built.",
            name=template.title,
            cause=f"{origin.name} is at {origin.change}",
            remedy="rebuild the template",
        )


def refuse_cold_clone(template: TemplateRecord) -> None:
    """Refuse a cold clone of a derived template.

    :raises Unsupported: if the template is derived.
    """
    if template.derivation:
        raise Unsupported(
            "hosts of a derived template are instant clones only.",
            name=template.title,
            cause="a cold clone is a copy of the source, without the difference of the template",
            remedy="omit fork_mode, and rebuild the template if it does not run",
        )


def freeze(session: Session, guest: Guest, machine: Machine, name: str, deadline: Deadline) -> None:
    """Let the guest freeze itself, and wait for its frozen state.

    :raises DeadlineExceeded: if the guest does not freeze in time.
    """
    with guest:
        guest.freeze()
    limit = deadline.within(FREEZE)
    while not read_machine(session, machine.ref, name).frozen:
        if limit.passed():
            raise DeadlineExceeded(
                f"the guest did not freeze within {limit.seconds:g} s.",
                name=name,
                cause="runtime.instantCloneFrozen is still false",
                remedy="install open-vm-tools in the source, and use a virtual hardware that "
                "supports instant clones",
            )
        limit.pause(POLL)


def problem(
    record: TemplateRecord, machine: Machine | None, values: Mapping[str, str], frozen: bool
) -> str:
    """Return the reason that prevents forks of a template; empty if there is none.

    :param values: the register.
    :param frozen: whether the template must be frozen.
    """
    if LEAVING + record.uuid in values:
        return "it is being deleted"
    if record.phase != "frozen":
        return ""
    if machine is None or machine.power != "poweredOn":
        return "its machine is no longer running, so the frozen state is lost"
    return "it is no longer frozen" if frozen and not machine.frozen else ""


def _check_addresses(spec: HostSpec) -> None:
    """Refuse options that machines with their own addresses cannot have."""
    if spec.bind:
        raise Unsupported("bind: a host on vSphere has its own address.", remedy="omit bind")
    if spec.egress_allow:
        raise Unsupported(
            "egress_allow is not possible on vSphere.",
            cause="packets of a port group do not pass a process of stockyard",
            remedy="omit egress_allow, and add rules to the network's gateway",
        )
    if spec.publish:
        raise Unsupported(
            "publish: a host on vSphere has its own address, which other machines can reach.",
            remedy="omit publish",
        )


def check_host(spec: HostSpec, place: Place, template: TemplateRecord | None = None) -> None:
    """Check that a host's declaration is possible here.

    :param template: its template, if that exists.
    :raises Unsupported: with the reason, if it is not.
    """
    if template and spec.fork_mode != "instant":
        refuse_cold_clone(template)
    _check_addresses(spec)
    if not place.endpoints:
        return
    if place.addresses is None:
        raise Unsupported(
            "hosts need addresses, and vSphere does not assign any.",
            name=place.cluster,
            cause="a host has no link until its certificate contains its address, so DHCP is "
            "not possible",
            remedy="reserve a range in the hypervisor's URI, as in "
            "?addresses=192.0.2.10-192.0.2.99/24",
        )
    if not place.network or spec.network != place.network:
        raise Unsupported(
            f"network: {spec.network or 'none'} is not the network of the addresses.",
            name=place.cluster,
            remedy=f"declare network: {place.network or 'NAME'} for the hosts, and "
            "network=NAME in the hypervisor's URI",
        )
    if bool(place.addresses.gateway) != (spec.egress == "open"):
        cause = (
            "the network has a gateway" if place.addresses.gateway else "the network has no gateway"
        )
        raise Unsupported(
            f"egress {spec.egress} is not possible in network {place.network}.",
            cause=cause,
            remedy="use egress open with a gateway in the hypervisor's URI, and none or "
            "proxy without a gateway",
        )
