# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The egress of a host.

The provider opens the uplink of a host with egress ``open`` or
``allow``. Egress through a proxy is a reverse
tunnel of OpenSSH, from the guest to the proxy. The guest has no other egress then: its network
accepts incoming connections and allows no outgoing ones. The client on the hypervisor opens
connections to the declared proxy only, for any request of the guest. The tunnel ends when the
host's machine ends, because its connection does.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ...clock import Deadline
from ...errors import HypervisorError, MissingDependency
from ...model.host import Host, HostRecord, HostSpec
from ...model.network import PROXY_PORT, UPLINKED, GuestNetwork
from ..context import Context
from .container_ports import RELAY
from .ssh_tunnels import pinned_host, run_ssh, ssh_target, tunnel_folder

RETRY = 0.5
# Seconds for a running guest to accept the tunnel.
PATIENCE = 60.0
# The message of ssh if the guest's port is in use: by another controller's tunnel, by a tunnel that
# is about to end, or by a program in the guest.
THERE = "remote port forwarding failed for listen port"
# Any proxy answers this, if only to refuse it.
QUESTION = b"OPTIONS * HTTP/1.0\r\n\r\n"
ANSWER = 10.0


def proxy_in_guest(record: HostRecord, network: GuestNetwork) -> str:
    """Return the URL of the proxy in a guest; an empty string if it has none."""
    return f"http://{network.address}:{PROXY_PORT}" if record.spec.egress == "proxy" else ""


def authorized_keys(record: HostRecord, network: GuestNetwork, operator: str) -> list[str]:
    """Return the SSH keys that may log in. If the operator's key is not among them, it may still
    open the tunnel and start the relay of container ports, and do nothing else.
    """
    spec = record.spec
    keys = list(spec.authorized_keys)
    has_tunnel = spec.egress == "proxy"
    if keys and (has_tunnel or spec.container_ports):
        listen = f'port-forwarding,permitlisten="{network.address}:{PROXY_PORT}"'
        rights = f"restrict,{listen}" if has_tunnel else "restrict"
        command = RELAY if spec.container_ports else "/bin/false"
        keys.append(f'{rights},command="{command}" {operator}')
    return keys or [operator]


def reopen_tunnels(ctx: Context, hosts: Iterable[Host], deadline: Deadline) -> None:
    """Open the tunnels and uplinks of all serving hosts that have lost theirs."""
    for host in hosts:
        if host.serving:
            ensure(ctx, host.record, deadline)


def check(ctx: Context, spec: HostSpec) -> None:
    """Refuse hosts that need a tunnel if the program for it is not installed.

    :raises MissingDependency: naming the program.
    """
    if spec.egress == "proxy" and ctx.provider.capabilities.endpoints and not shutil.which("ssh"):
        raise MissingDependency("ssh is not installed.", remedy="install openssh-client")


def ensure(ctx: Context, record: HostRecord, deadline: Deadline) -> bool:
    """Open a host's way out if it is not open; returns whether it was opened now.

    :raises HypervisorError: if it cannot be opened.
    """
    if record.spec.egress in UPLINKED and record.identity:
        with ctx.provider.uplink(record, deadline) as connect:
            return connect()
    if (
        record.spec.egress != "proxy"
        or not ctx.provider.capabilities.endpoints
        or record.identity is None
    ):
        return False
    check(ctx, record.spec)
    folder = tunnel_folder(ctx, record.tenant)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if run_ssh(["-S", record.uuid, "-O", "check", "any"], folder, deadline)[0] == 0:
        return False
    (folder / record.uuid).unlink(missing_ok=True)
    _open(ctx, record, folder, deadline.within(PATIENCE))
    return True


@contextmanager
def opening(
    ctx: Context, record: HostRecord, deadline: Deadline
) -> Iterator[Callable[[HostRecord], bool]]:
    """Begin to open the way out of a host that starts. Yield a function that completes it, for the
    record with the identity of the host; the function returns whether it was opened.

    An uplink opens while the guest starts: its processes do not need the guest. A tunnel needs it.
    """
    if record.spec.egress in UPLINKED:
        with ctx.provider.uplink(record, deadline) as connect:
            yield lambda _identified: connect()
    else:
        yield lambda identified: ensure(ctx, identified, deadline)


def forget(ctx: Context, record: HostRecord) -> None:
    """Remove the socket of a tunnel that was killed. A live tunnel ends with its host."""
    (tunnel_folder(ctx, record.tenant) / record.uuid).unlink(missing_ok=True)


def command(record: HostRecord, network: GuestNetwork, key: Path, known_hosts: Path) -> list[str]:
    """Return the arguments of ssh for a tunnel, without a shell, other forwards or the user's
    configuration.
    """
    forward = f"{network.address}:{PROXY_PORT}:{record.spec.egress_proxy}"
    return [
        "-f",
        "-N",
        "-T",
        "-M",
        "-S",
        record.uuid,
        "-R",
        forward,
        *ssh_target(record, key, known_hosts),
    ]


def question(record: HostRecord, network: GuestNetwork, key: Path, known_hosts: Path) -> list[str]:
    """Return the arguments of ssh for a connection to the guest's end of a tunnel, whichever
    controller opened it.
    """
    return ["-T", "-W", f"{network.address}:{PROXY_PORT}", *ssh_target(record, key, known_hosts)]


def _open(ctx: Context, record: HostRecord, folder: Path, deadline: Deadline) -> None:
    with pinned_host(record) as known_hosts:
        connection = (
            record,
            ctx.provider.guest_network(record),
            ctx.pki(record.tenant).ssh_key,
            known_hosts,
        )
        while True:
            code, output = run_ssh(command(*connection), folder, deadline)
            if code == 0 or (THERE in output and _answers(question(*connection), folder, deadline)):
                return
            _give_up(record, output, deadline)
            deadline.pause(RETRY)


def _give_up(record: HostRecord, output: str, deadline: Deadline) -> None:
    """Raise an error if another attempt is of no use.

    :raises HypervisorError: if the time is up, or ssh refused the keys.
    """
    if THERE in output and deadline.passed():
        raise HypervisorError(
            f"the tunnel to the proxy cannot be opened: port {PROXY_PORT} of the guest is in "
            "use by a program that does not answer as a proxy.",
            name=record.title,
            cause=output[-500:],
            remedy=f"stop the program that listens on port {PROXY_PORT} in the guest, or "
            "replace the host",
        )
    if deadline.passed() or "Permission denied" in output or "verification failed" in output:
        raise HypervisorError(
            "the tunnel to the proxy cannot be opened.",
            name=record.title,
            cause=output[-500:],
            remedy="replace the host if a controller with another operator key created it",
        )


def _answers(arguments: list[str], folder: Path, deadline: Deadline) -> bool:
    """Return whether a proxy answers at the port that is in use: then another controller's tunnel
    leads to it.
    """
    controller_end, ssh_end = socket.socketpair()
    controller_end.settimeout(max(deadline.within(ANSWER).left(), 1.0))
    with (
        controller_end,
        subprocess.Popen(
            ["ssh", "-F", "/dev/null", *arguments],
            cwd=folder,
            stdin=ssh_end.fileno(),
            stdout=ssh_end.fileno(),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process,
    ):
        ssh_end.close()
        try:
            controller_end.sendall(QUESTION)
            # A few bytes are enough, however long the guest's answer is.
            return controller_end.recv(5) == b"HTTP/"
        except OSError:
            return False
        finally:
            process.kill()
