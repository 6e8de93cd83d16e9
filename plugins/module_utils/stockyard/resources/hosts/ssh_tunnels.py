# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reverse tunnels of OpenSSH into hosts: processes in the background, each with a control socket in
a directory of the tenant. A tunnel ends when its host's machine ends, because its connection does.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...clock import Deadline
from ...model.host import HostRecord
from ..context import Context

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


def tunnel_folder(ctx: Context, tenant: str) -> Path:
    """Return the directory of the sockets of a tenant's tunnels."""
    return ctx.pki(tenant).directory / "tunnels"


@contextmanager
def pinned_host(record: HostRecord) -> Iterator[Path]:
    """Return a file with the SSH host key of a host."""
    with tempfile.TemporaryDirectory() as scratch:
        known_hosts = Path(scratch) / "known_hosts"
        known_hosts.write_text(f"{record.known_host}\n", encoding="ascii")
        yield known_hosts


def ssh_target(record: HostRecord, key: Path, known_hosts: Path) -> list[str]:
    """Return the arguments of ssh that name a host, its key and the user's key."""
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


def run_ssh(arguments: list[str], folder: Path, deadline: Deadline) -> tuple[int, str]:
    """Run ssh in the directory of its sockets: a relative path is never too long for one. Return
    the exit code and the messages.
    """
    # A file and not a pipe: the process in the background would keep the pipe open.
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.run(
                ["ssh", "-F", "/dev/null", *arguments],
                cwd=folder,
                timeout=max(deadline.left(), 1.0),
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=output,
                start_new_session=True,
            )
            code = process.returncode
        except subprocess.TimeoutExpired:
            code = -1
        output.seek(0)
        return code, output.read().decode(errors="replace").strip()
