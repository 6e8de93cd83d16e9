# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of ansible-playbook against one machine, with an inventory and keys that live as long as
the run.
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

PROGRAM = "ansible-playbook"
GROUP = "template"
TAIL = 3000
# No setting of the user's leads the play elsewhere, lets a stranger's key pass, or skips a play
# that matches nothing.
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
    """How the machine is reached.

    :param host_key: the one that it has to show.
    """

    user: str
    address: str = ""
    port: int = 0
    host_key: str = ""


class PlaybookWorkspace:
    """A directory for what one run needs; nobody else reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = folder / "key"

    def public_key(self) -> str:
        """The public half of a new key, for :func:`play` to log in with."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519

        made = ed25519.Ed25519PrivateKey.generate()
        private = made.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        with open(os.open(self.key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
            handle.write(private)
        return (
            made.public_key()
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
    """A new one; gone afterwards, whatever happens."""
    # Under the system's own directory: the path of a socket in it may not be long.
    with tempfile.TemporaryDirectory(prefix="stockyard-") as folder:
        yield PlaybookWorkspace(Path(folder))


def find_program() -> str:
    """The program that does it: the user's, or the one beside the Python that runs this.

    :raises MissingDependency: when there is none.
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
    way: SshTarget,
    work: PlaybookWorkspace,
    record: TemplateRecord,
    deadline: Deadline,
    *,
    dry: bool = False,
) -> None:
    """Run it to its end.

    :param dry: look at it alone, and at no machine.
    :raises GuestError: when it fails.
    """
    program = find_program()
    playbook = (
        Path(provision.playbook).expanduser().absolute()
        if provision.playbook
        else _of_roles(provision, work)
    )
    inventory = work.write("inventory.json", json.dumps(_inventory(way, work, record)))
    variables = work.write("variables.json", json.dumps(provision.variables or {}))
    line = [program, "--inventory", str(inventory), "--extra-vars", f"@{variables}", str(playbook)]
    code, said = _run(
        [*line, *(["--syntax-check"] if dry else [])], playbook.parent, record, deadline
    )
    if code:
        raise GuestError(
            f"the {provision.title} failed ({code}): nothing is frozen.",
            name=record.title,
            cause=said[-TAIL:],
            remedy="mend it, and run again",
        )


def _of_roles(provision: Provision, work: PlaybookWorkspace) -> Path:
    roles = [str(Path(role).expanduser().absolute()) for role in provision.roles]
    return work.write(
        "playbook.yml", json.dumps([{"hosts": GROUP, "become": True, "roles": roles}])
    )


def _inventory(way: SshTarget, work: PlaybookWorkspace, record: TemplateRecord) -> dict[str, Any]:
    """The template alone. Neither the user's SSH configuration nor his agent has a say."""
    known = work.write(
        "known_hosts",
        f"{known_host(way.address, way.port, way.host_key)}\n" if way.host_key else "",
    )
    options = {
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(known),
        "GlobalKnownHostsFile": "/dev/null",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "UpdateHostKeys": "no",
        "ConnectTimeout": "60",
    }
    reached = {
        "ansible_connection": "ssh",
        "ansible_host": way.address or "none.invalid",
        "ansible_port": way.port or 22,
        "ansible_user": way.user,
        "ansible_ssh_private_key_file": str(work.key),
        "ansible_ssh_common_args": shlex.join(
            ["-F", "/dev/null", *(f"-o{k}={v}" for k, v in options.items())]
        ),
        "ansible_ssh_args": "-o ControlMaster=auto -o ControlPersist=60s",
        "ansible_control_path": str(work.folder / "master"),
        "ansible_pipelining": True,
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    return {GROUP: {"hosts": {record.name: reached}}}


def _run(
    line: list[str], folder: Path, record: TemplateRecord, deadline: Deadline
) -> tuple[int, str]:
    """The exit status of a program, and all that it said. It is ended, with its children, when the
    time is up.
    """
    environment = DEFAULTS | {k: v for k, v in os.environ.items() if k not in DROPPED} | SETTINGS
    process = subprocess.Popen(
        line,
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
        said, _nothing = process.communicate(timeout=max(deadline.left(), 1.0))
    except BaseException as stopped:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(stopped, subprocess.TimeoutExpired):
            raise DeadlineExceeded(
                f"{PROGRAM} did not end within {deadline.seconds:g} s.",
                name=record.title,
                cause=str(stopped.stdout or "")[-TAIL:],
                remedy="raise timeout, or see what it waits for",
            ) from stopped
        raise
    return process.returncode, said.strip()
