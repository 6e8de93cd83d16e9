# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The socket of an endpoint in its machines: each one is the end of a reverse tunnel of OpenSSH,
which leads to a socket on the hypervisor, and outlives the service of the endpoint.

A machine gets no other path to the hypervisor: ssh opens connections to that socket only.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..clock import Deadline
from ..errors import HypervisorError, MissingDependency
from ..model.host import HostRecord
from ..resources.context import Context
from ..resources.hosts.ssh_tunnels import pinned_host, run_ssh, ssh_target, tunnel_folder

# The socket in a machine.
GUEST_SOCKET = "/var/lib/stockyard/endpoint.sock"
# Seconds for a running machine to accept the tunnel.
PATIENCE = 60.0
RETRY = 0.5


class SocketTunnels:
    """The tunnels of one endpoint.

    :param name: the name of the endpoint.
    """

    def __init__(self, ctx: Context, tenant: str, name: str) -> None:
        self.ctx = ctx
        self.folder = tunnel_folder(ctx, tenant)
        self.name = f"endpoint-{name}"

    @contextmanager
    def place(self) -> Iterator[Path]:
        """Return the path at which the endpoint must serve its tunnels, until the end of the block.
        It is short, as the path of a socket must be.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield Path(f"/proc/self/fd/{folder}/{self.name}")
        finally:
            os.close(folder)

    def open(self, record: HostRecord, path: str, deadline: Deadline) -> None:
        """Open the tunnel of a machine if it is not open.

        :param path: the socket in the machine.
        :raises HypervisorError: if the machine does not accept the tunnel.
        :raises MissingDependency: if ssh is not installed.
        """
        deadline = deadline.within(PATIENCE)
        control = _control(record)
        try:
            if run_ssh(["-S", control, "-O", "check", "any"], self.folder, deadline)[0] == 0:
                return
        except FileNotFoundError as error:
            raise MissingDependency(
                "ssh is not installed.", remedy="install openssh-client"
            ) from error
        self.forget(record)
        # sshd does not replace a socket.
        temporary = f"/tmp/stockyard-{secrets.token_hex(8)}.sock"  # noqa: S108  # in the machine
        with pinned_host(record) as known_hosts:
            target = ssh_target(record, self.ctx.pki(record.tenant).ssh_key, known_hosts)
            forward = f"{temporary}:./{self.name}"
            master = ["-f", "-N", "-T", "-M", "-S", control, "-R", forward, *target]
            while True:
                code, output = run_ssh(master, self.folder, deadline)
                if code == 0:
                    break
                if deadline.passed() or "Permission denied" in output:
                    raise _failure(record, output)
                deadline.pause(RETRY)
            # With the owner and the mode of Docker's own socket.
            script = f"chown root:docker {temporary}; chmod 660 {temporary}; mv {temporary} {path}"
            command = ["-T", "-S", control, *target, f"sudo sh -ec '{script}'"]
            code, output = run_ssh(command, self.folder, deadline)
            if code:
                run_ssh(["-S", control, "-O", "exit", "any"], self.folder, deadline)
                raise _failure(record, output)

    def forget(self, record: HostRecord) -> None:
        """Remove the control socket of a tunnel that was killed. A live tunnel ends with its
        machine.
        """
        (self.folder / _control(record)).unlink(missing_ok=True)


def _control(record: HostRecord) -> str:
    return f"{record.uuid}-endpoint"


def _failure(record: HostRecord, output: str) -> HypervisorError:
    return HypervisorError(
        "the socket of the endpoint cannot be opened in the machine.",
        name=record.title,
        cause=output[-500:],
    )
