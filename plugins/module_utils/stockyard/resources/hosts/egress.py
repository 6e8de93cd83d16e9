# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one way out of a host whose egress is a proxy: a reverse tunnel of OpenSSH's, from guest to
proxy.

The guest has no other way out: its network takes connections in and lets none out. The client on
the hypervisor opens connections to the one proxy that it was told of and to nothing else, whatever
the guest asks for. It ends by itself when the host's machine ends, because its connection does.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ...clock import Deadline
from ...errors import HypervisorError, MissingDependency
from ...model.host import Host, HostRecord, HostSpec
from ...model.network import PROXY_PORT, GuestNetwork
from ..context import Context

RETRY = 0.5
# Seconds for a guest that runs to let the tunnel in.
PATIENCE = 60.0
# What ssh says where the guest's port is held: by another controller's tunnel, by one that is about
# to end, or by a program of the guest's.
THERE = "remote port forwarding failed for listen port"
# Any proxy answers this, if only to refuse it.
QUESTION = b"OPTIONS * HTTP/1.0\r\n\r\n"
ANSWER = 10.0
OPTIONS = {
    "BatchMode": "yes",
    "ConnectTimeout": "30",
    "ExitOnForwardFailure": "yes",
    "GlobalKnownHostsFile": "/dev/null",
    "IdentitiesOnly": "yes",
    "IdentityAgent": "none",
    "StrictHostKeyChecking": "yes",
    "UpdateHostKeys": "no",
}


def guest_side(record: HostRecord, network: GuestNetwork) -> dict[str, Any]:
    """What the guest is told: its network, and where in it the proxy is."""
    proxy = f"http://{network.address}:{PROXY_PORT}" if record.spec.egress == "proxy" else ""
    return {"network": {**asdict(network), "mac": record.mac}, "proxy": proxy}


def authorized_keys(record: HostRecord, network: GuestNetwork, operator: str) -> list[str]:
    """Who may log in. Where that is not the operator, his key may still open the tunnel, and do
    nothing else.
    """
    declared = list(record.spec.authorized_keys)
    if declared and record.spec.egress == "proxy":
        listen = f'permitlisten="{network.address}:{PROXY_PORT}"'
        declared.append(f'restrict,port-forwarding,{listen},command="/bin/false" {operator}')
    return declared or [operator]


def mend(ctx: Context, hosts: Iterable[Host], deadline: Deadline) -> None:
    """Open the tunnels of all these hosts that serve and have lost theirs."""
    for host in hosts:
        if host.serving:
            ensure(ctx, host.record, deadline)


def check(ctx: Context, spec: HostSpec) -> None:
    """Refuse hosts that need a tunnel if the program for it is not installed.

    :raises MissingDependency: naming it.
    """
    if spec.egress == "proxy" and ctx.provider.capabilities.endpoints and not shutil.which("ssh"):
        raise MissingDependency("ssh is not installed.", remedy="install openssh-client")


def ensure(ctx: Context, record: HostRecord, deadline: Deadline) -> bool:
    """Have a host's tunnel; returns whether it was opened now.

    :raises HypervisorError: when it cannot be opened.
    """
    if (
        record.spec.egress != "proxy"
        or not ctx.provider.capabilities.endpoints
        or record.identity is None
    ):
        return False
    check(ctx, record.spec)
    folder = _folder(ctx, record)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if _ssh(["-S", record.uuid, "-O", "check", "any"], folder, deadline)[0] == 0:
        return False
    (folder / record.uuid).unlink(missing_ok=True)
    _open(ctx, record, folder, deadline.within(PATIENCE))
    return True


def forget(ctx: Context, record: HostRecord) -> None:
    """Remove what a tunnel that was killed left behind. One that lives ends with its host."""
    (_folder(ctx, record) / record.uuid).unlink(missing_ok=True)


def command(record: HostRecord, network: GuestNetwork, key: Path, known_hosts: Path) -> list[str]:
    """The arguments of ssh: a tunnel, no shell, no other forwards, nobody else's configuration."""
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
        *_target(record, key, known_hosts),
    ]


def question(record: HostRecord, network: GuestNetwork, key: Path, known_hosts: Path) -> list[str]:
    """The arguments of ssh: a connection to the guest's end of a tunnel, whoever keeps that."""
    return ["-T", "-W", f"{network.address}:{PROXY_PORT}", *_target(record, key, known_hosts)]


def _target(record: HostRecord, key: Path, known_hosts: Path) -> list[str]:
    options = {**OPTIONS, "UserKnownHostsFile": str(known_hosts)}
    flags = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    return [
        *flags,
        "-i",
        str(key),
        "-p",
        str(record.ssh_port),
        "--",
        f"{record.ssh_user}@{record.address}",
    ]


def _open(ctx: Context, record: HostRecord, folder: Path, deadline: Deadline) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        known = Path(scratch) / "known_hosts"
        known.write_text(f"{record.known_host}\n", encoding="ascii")
        way = (record, ctx.provider.guest_network(record), ctx.pki(record.tenant).ssh_key, known)
        while True:
            code, said = _ssh(command(*way), folder, deadline)
            if code == 0 or (THERE in said and _answers(question(*way), folder, deadline)):
                return
            _give_up(record, said, deadline)
            deadline.pause(RETRY)


def _give_up(record: HostRecord, said: str, deadline: Deadline) -> None:
    """:raises HypervisorError: when it is of no use to try again."""
    if THERE in said and deadline.passed():
        raise HypervisorError(
            f"the tunnel to its proxy cannot be opened: port {PROXY_PORT} of the guest is held by "
            f"something that does "
            "not answer as a proxy does.",
            name=record.title,
            cause=said[-500:],
            remedy=f"stop what listens on port {PROXY_PORT} in the guest, or replace the host",
        )
    if deadline.passed() or "Permission denied" in said or "verification failed" in said:
        raise HypervisorError(
            "the tunnel to its proxy cannot be opened.",
            name=record.title,
            cause=said[-500:],
            remedy="replace the host if it was made by a controller with another key for the "
            "operator",
        )


def _answers(line: list[str], folder: Path, deadline: Deadline) -> bool:
    """Whether a proxy is behind the port that is held: then another controller's tunnel leads
    there.
    """
    ours, theirs = socket.socketpair()
    ours.settimeout(max(deadline.within(ANSWER).left(), 1.0))
    with (
        ours,
        subprocess.Popen(
            ["ssh", "-F", "/dev/null", *line],
            cwd=folder,
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as asking,
    ):
        theirs.close()
        try:
            ours.sendall(QUESTION)
            # A few bytes, whatever the guest has to say.
            return ours.recv(5) == b"HTTP/"
        except OSError:
            return False
        finally:
            asking.kill()


def _ssh(arguments: list[str], folder: Path, deadline: Deadline) -> tuple[int, str]:
    """Run ssh in the directory of its sockets: a relative path is never too long for one."""
    # A file and not a pipe: what goes to the background would keep the pipe open.
    with tempfile.TemporaryFile() as said:
        try:
            done = subprocess.run(
                ["ssh", "-F", "/dev/null", *arguments],
                cwd=folder,
                timeout=max(deadline.left(), 1.0),
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                start_new_session=True,
            )
            code = done.returncode
        except subprocess.TimeoutExpired:
            code = -1
        said.seek(0)
        return code, said.read().decode(errors="replace").strip()


def _folder(ctx: Context, record: HostRecord) -> Path:
    return ctx.pki(record.tenant).directory / "tunnels"
