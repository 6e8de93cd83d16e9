# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands and files for a template under construction, by SSH with a key and a host key that are
created for the purpose and deleted before the freeze.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from ...clock import Deadline
from ...errors import DeadlineExceeded, GuestError, MissingDependency
from ...guest.archive import pack
from ...guest.client import Guest
from ...model.host import known_host
from ...model.recipe import GuestFile
from ...model.template import TemplateRecord
from ..context import Context
from .playbook import PlaybookWorkspace, SshTarget, workshop

PROGRAM = "ssh"
TAIL = 2000
UNPACK = "tar --extract --preserve-permissions --keep-directory-symlink --file=-"


class Shell:
    """Root's shell in a template. On a hypervisor without machines its methods do nothing.

    :param command: the program that runs a command line in the guest; empty for no machine.
    """

    def __init__(self, command: list[str], title: str, deadline: Deadline) -> None:
        self._command = command
        self._title = title
        self._deadline = deadline

    def run(self, script: str, source: IO[bytes] | int = subprocess.DEVNULL) -> str:
        """Run a shell script as root until its first error, and return its output.

        :param source: an open file for its standard input.

        :raises GuestError: if it fails, with its output.
        """
        if not self._command:
            return ""
        try:
            process = subprocess.run(
                [*self._command, f"sudo sh -euc {shlex.quote(script)}"],
                stdin=source,
                capture_output=True,
                timeout=max(self._deadline.left(), 1.0),
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DeadlineExceeded(
                f"a command in the template did not end within {self._deadline.seconds:g} s.",
                name=self._title,
                cause=script[:TAIL],
                remedy="raise timeout",
            ) from error
        output = process.stdout.decode(errors="replace")
        if process.returncode:
            text = (process.stderr.decode(errors="replace") or output).strip()
            raise GuestError(
                f"a command in the template failed (code {process.returncode}).",
                name=self._title,
                cause=text[-TAIL:],
            )
        return output

    def send(self, folder: Path, target: str) -> None:
        """Copy the files of a directory to a new directory of the guest that only root can read."""
        if not self._command:
            return
        with (folder.parent / f"{folder.name}.tar").open("w+b") as archive:
            with tarfile.open(fileobj=archive, mode="w") as tar:
                for path in sorted(folder.iterdir()):
                    tar.add(path, path.name, filter=_of_root)
            archive.seek(0)
            place = shlex.quote(target)
            self.run(
                f"rm -rf {place}; mkdir -p -m 0700 {place}; {UNPACK} --directory={place}", archive
            )

    def write(self, files: dict[str, GuestFile]) -> None:
        """Write files in the guest, owned by root."""
        if not self._command or not files:
            return
        with tempfile.TemporaryFile() as archive:
            pack(archive, files)
            archive.seek(0)
            self.run(f"{UNPACK} --directory=/", archive)

    def delete(self, paths: Sequence[str]) -> None:
        """Delete files in the guest."""
        if paths:
            self.run(f"rm -f {shlex.join(paths)}")


@contextmanager
def opened(
    ctx: Context, record: TemplateRecord, guest: Guest, deadline: Deadline
) -> Iterator[Shell]:
    """Open a shell in a running template for the length of a ``with`` block."""
    command: list[str] = []
    with ExitStack() as stack:
        if ctx.provider.capabilities.endpoints:
            connection = connected(ctx, record, guest, deadline)
            command = _command(*stack.enter_context(connection))
        yield Shell(command, record.title, deadline)


@contextmanager
def connected(
    ctx: Context, record: TemplateRecord, guest: Guest, deadline: Deadline
) -> Iterator[tuple[SshTarget, PlaybookWorkspace]]:
    """Enable SSH logins in a running template for the length of a ``with`` block; afterwards the
    template has neither a key nor a session of them.
    """
    with workshop() as workspace:
        network = ctx.provider.template_network(record)
        ssh = guest.enable_ssh(network, record.mac, (workspace.public_key(),))
        with ctx.provider.reach(record, deadline) as (address, port):
            yield SshTarget(record.ssh_user, address, port, ssh.host_key), workspace
            guest.disable_ssh(network, record.mac, record.ssh_user)


def _command(target: SshTarget, workspace: PlaybookWorkspace) -> list[str]:
    """Return the command that runs a command line in the guest. Neither the user's SSH
    configuration nor the user's SSH agent affects the connection.
    """
    if not shutil.which(PROGRAM):
        raise MissingDependency(
            f"{PROGRAM} is not installed.",
            name="derived template",
            remedy="install the package openssh-client on the machine that opens the hypervisor",
        )
    known_hosts = workspace.write(
        "known_hosts", f"{known_host(target.host_key, (target.address, target.port))}\n"
    )
    options = {
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "UpdateHostKeys": "no",
        "BatchMode": "yes",
        "ConnectTimeout": "60",
        "ControlMaster": "auto",
        "ControlPersist": "60s",
        "ControlPath": str(workspace.folder / "master"),
    }
    return [
        PROGRAM,
        "-F",
        "/dev/null",
        "-T",
        *(f"-o{option}={value}" for option, value in options.items()),
        "-i",
        str(workspace.key),
        "-p",
        str(target.port),
        "--",
        f"{target.user}@{target.address}",
    ]


def _of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
