# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports of containers: the hypervisor forwards each port that Docker publishes in a host.

The provider starts a process for that, which asks the relay in the guest through SSH.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from ...clock import Deadline
from ...errors import MissingDependency, Unsupported
from ...files import write_atomic
from ...model.host import Host, HostRecord, HostSpec
from ...model.template import TemplateRecord
from ..context import Context
from .ssh_tunnels import ssh_target, tunnel_folder

RELAY = "sudo -n env PYTHONPATH=/usr/lib/stockyard python3 -S -m stockyard_ports.relay"
# A guest that was reset no longer knows the connection, and does not end it.
KEEP_ALIVE = ("-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=2")


def check(ctx: Context, spec: HostSpec, template: TemplateRecord | None) -> None:
    """Refuse hosts whose container ports cannot be forwarded.

    :raises Unsupported: with the reason.
    :raises MissingDependency: if ssh is not installed.
    """
    if not spec.container_ports:
        return
    capabilities = ctx.provider.capabilities
    if not capabilities.container_ports:
        raise Unsupported(
            "container_ports is not possible on this hypervisor.",
            cause="stockyard forwards ports on qemu:///session only",
            remedy="omit container_ports; on a network, all ports of a host are reachable at its "
            "own address",
        )
    if capabilities.endpoints and not shutil.which("ssh"):
        raise MissingDependency("ssh is not installed.", remedy="install openssh-client")
    if template and template.security and not template.security.settings().starts_proxies:
        raise Unsupported(
            "container_ports is not possible with the security of the template.",
            name=template.title,
            cause=f"profile {template.security.profile}; Docker in the template starts no "
            "docker-proxy as root",
            remedy="declare the published ports in ports, or use the security profile trusted",
        )


def ensure(ctx: Context, record: HostRecord, deadline: Deadline) -> bool:
    """Start the process that forwards a host's container ports if it does not run; returns whether
    it was started now.

    :raises HypervisorError: if the guest does not answer.
    """
    if not (record.spec.container_ports and record.identity):
        return False
    return ctx.provider.follow_ports(record, _line(ctx, record), deadline)


def ensure_all(ctx: Context, hosts: Iterable[Host], deadline: Deadline) -> None:
    """Start the processes of all serving hosts that have lost theirs."""
    for host in hosts:
        if host.serving:
            ensure(ctx, host.record, deadline)


def forget(ctx: Context, record: HostRecord) -> None:
    """Delete the file that pins the SSH host key of a host."""
    _known_hosts(ctx, record).unlink(missing_ok=True)


def _line(ctx: Context, record: HostRecord) -> list[str]:
    """Return the command of ssh that leads to the relay."""
    known_hosts = _known_hosts(ctx, record)
    known_hosts.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(known_hosts, f"{record.known_host}\n")
    target = ssh_target(record, ctx.pki(record.tenant).ssh_key.absolute(), known_hosts)
    return ["ssh", "-F", "/dev/null", "-T", *KEEP_ALIVE, *target, RELAY]


def _known_hosts(ctx: Context, record: HostRecord) -> Path:
    return (tunnel_folder(ctx, record.tenant) / f"{record.uuid}-ports").absolute()
