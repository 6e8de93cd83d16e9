# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of ansible-playbook against one machine, with an inventory and keys that are deleted
after the run.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...clock import Deadline
from ...errors import DeadlineExceeded, GuestError, MissingDependency
from ...model.host import known_host
from ...model.provision import Provision
from ...model.template import TemplateRecord
from ...paths import expand_user

PROGRAM = "ansible-playbook"
GROUP = "template"
TAIL = 3000
# No setting of the user redirects the play, accepts the key of another machine, or skips a play
# that matches no host.
SETTINGS = {
    "ANSIBLE_HOST_KEY_CHECKING": "True",
    "ANSIBLE_HOST_PATTERN_MISMATCH": "error",
    "ANSIBLE_NOCOLOR": "True",
    "ANSIBLE_RETRY_FILES_ENABLED": "False",
    "ANSIBLE_INVENTORY_ENABLED": "yaml",
}
# Seconds that Ansible waits for a connection, and for sudo: an emulated machine that just booted
# needs more than ten.
DEFAULTS = {"ANSIBLE_TIMEOUT": "60"}
DROPPED = (
    "ANSIBLE_FORCE_COLOR",
    "ANSIBLE_CHECK_MODE_MARKERS",
    "ANSIBLE_INVENTORY",
    "ANSIBLE_LIMIT",
)


@dataclass(frozen=True)
class SshTarget:
    """The SSH address of the machine.

    :param host_key: the host key that the machine must present.
    """

    user: str
    address: str = ""
    port: int = 0
    host_key: str = ""


class PlaybookWorkspace:
    """A directory for the files of one run, readable only by this user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = folder / "key"

    def public_key(self) -> str:
        """Create a key pair for the login of :func:`play`, and return its public half."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519

        key_pair = ed25519.Ed25519PrivateKey.generate()
        private = key_pair.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        with open(os.open(self.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
            handle.write(private)
        return (
            key_pair.public_key()
            .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
            .decode()
        )

    def write(self, name: str, text: str) -> Path:
        """Write a file."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path


@contextmanager
def workshop() -> Iterator[PlaybookWorkspace]:
    """Create a workspace; it is always deleted afterwards."""
    # Under the system's own directory: the path of a socket in it must be short.
    with tempfile.TemporaryDirectory(prefix="stockyard-") as folder:
        yield PlaybookWorkspace(Path(folder))


def find_program() -> str:
    """Return the path of ansible-playbook: the user's, or the one next to the running Python.

    :raises MissingDependency: if it is not installed.
    """
    program = shutil.which(PROGRAM) or shutil.which(PROGRAM, path=str(Path(sys.executable).parent))
    if not program:
        raise MissingDependency(
            f"{PROGRAM} is not installed.",
            name="provision",
            remedy="install ansible-core on the machine that opens the hypervisor",
        )
    return program


def play(
    provision: Provision,
    target: SshTarget,
    workspace: PlaybookWorkspace,
    record: TemplateRecord,
    deadline: Deadline,
    *,
    dry: bool = False,
) -> None:
    """Run a playbook to its end.

    :param dry: check the syntax only, and contact no machine.
    :raises GuestError: if the run fails.
    """
    program = find_program()
    playbook = (
        expand_user(provision.playbook).absolute()
        if provision.playbook
        else _of_roles(provision, workspace)
    )
    inventory = workspace.write("inventory.json", json.dumps(_inventory(target, workspace, record)))
    variables = workspace.write("variables.json", json.dumps(provision.variables or {}))
    command = [
        program,
        "--inventory",
        str(inventory),
        "--extra-vars",
        f"@{variables}",
        str(playbook),
    ]
    code, output = _run(
        [*command, *(["--syntax-check"] if dry else [])], playbook.parent, record, deadline
    )
    if code:
        raise GuestError(
            f"the {provision.title} failed (code {code}); the template was not frozen.",
            name=record.title,
            cause=output[-TAIL:],
            remedy="correct the playbook, and run again",
        )


def _of_roles(provision: Provision, workspace: PlaybookWorkspace) -> Path:
    roles = [str(expand_user(role).absolute()) for role in provision.roles]
    return workspace.write(
        "playbook.yml", json.dumps([{"hosts": GROUP, "become": True, "roles": roles}])
    )


def _inventory(
    target: SshTarget, workspace: PlaybookWorkspace, record: TemplateRecord
) -> dict[str, Any]:
    """Return an inventory with the template only. Neither the user's SSH configuration nor the
    user's SSH agent affects the connection.
    """
    known_hosts = workspace.write(
        "known_hosts",
        f"{known_host(target.host_key, (target.address, target.port))}\n"
        if target.host_key
        else "",
    )
    options = {
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "UpdateHostKeys": "no",
        "ConnectTimeout": "60",
    }
    connection = {
        "ansible_connection": "ssh",
        "ansible_host": target.address or "none.invalid",
        "ansible_port": target.port or 22,
        "ansible_user": target.user,
        "ansible_ssh_private_key_file": str(workspace.key),
        "ansible_ssh_common_args": shlex.join(
            ["-F", "/dev/null", *(f"-o{option}={value}" for option, value in options.items())]
        ),
        "ansible_ssh_args": "-o ControlMaster=auto -o ControlPersist=60s",
        "ansible_control_path": str(workspace.folder / "master"),
        "ansible_pipelining": True,
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    return {GROUP: {"hosts": {record.name: connection}}}


def _run(
    command: list[str], folder: Path, record: TemplateRecord, deadline: Deadline
) -> tuple[int, str]:
    """Run a program; return its exit status and its output. When the time is up, the program is
    killed with its children.
    """
    environment = (
        DEFAULTS
        | {key: value for key, value in os.environ.items() if key not in DROPPED}
        | SETTINGS
    )
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        text=True,
        errors="replace",
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        output, _stderr = process.communicate(timeout=max(deadline.left(), 1.0))
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise DeadlineExceeded(
                f"{PROGRAM} did not end within {deadline.seconds:g} s.",
                name=record.title,
                cause=str(error.stdout or "")[-TAIL:],
                remedy="raise timeout, or find the task that waits",
            ) from error
        raise
    return process.returncode, output.strip()
