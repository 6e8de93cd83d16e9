# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The choice of the user's libvirt daemon that has the machines of a storage directory.

``qemu:///session`` names no daemon: libvirt connects to the socket under XDG_RUNTIME_DIR, or under
the cache directory without it, and starts a daemon there if none listens. A login, cron and ``su``
differ in that, so each has its own daemon, and each daemon shows the machines of the others as off.
The directories are recorded in the storage when the first machine is created, and every later
connection uses the record, regardless of the environment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from ...errors import ConnectionFailed, OperationRefused
from ...files import write_atomic
from . import processes
from .domains import Domains
from .store import Store

RECORD = "session.json"
# The modular daemon's socket, then the socket of libvirtd.
SOCKETS = ("virtqemud-sock", "libvirt-sock")
# The daemons, and the directories in which distributions install them.
DAEMONS = ("virtqemud", "libvirtd")
PROGRAMS = "/usr/sbin:/usr/local/sbin:/usr/bin"
START_WAIT = 30.0
# In a separate process: GLib reads the directories once in a process. libvirt starts the daemon.
START = "import libvirt; libvirt.open('qemu:///session').close()"


@dataclass(frozen=True)
class Session:
    """The directories that decide which daemon of a user answers, and which definitions it reads.

    :param runtime: directory of its socket, as XDG_RUNTIME_DIR.
    :param config: directory of its definitions, as XDG_CONFIG_HOME.
    """

    runtime: str
    config: str

    @classmethod
    def of_environment(cls) -> Session:
        """Return the session that libvirt would choose by itself (g_get_user_runtime_dir and its
        like).
        """
        home = os.environ.get("HOME") or str(Path.home())
        cache = os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache"
        config = os.environ.get("XDG_CONFIG_HOME") or f"{home}/.config"
        return cls(os.environ.get("XDG_RUNTIME_DIR") or cache, config)

    def uris(self) -> list[str]:
        """Return the URIs that can lead to its daemon, the likeliest first."""
        folder = Path(self.runtime, "libvirt")
        socket_names = [name for name in SOCKETS if (folder / name).exists()]
        return [f"qemu:///session?socket={quote(str(folder / name))}" for name in socket_names]

    def start(self) -> None:
        """Start its daemon through libvirt.

        :raises ConnectionFailed: if that fails.
        """
        environment = {
            **os.environ,
            "XDG_RUNTIME_DIR": self.runtime,
            "XDG_CONFIG_HOME": self.config,
        }
        command = [sys.executable, "-c", START]
        try:
            process = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=START_WAIT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self.unreachable(str(error)) from error
        if process.returncode:
            raise self.unreachable(process.stderr.strip()[-500:])

    def unreachable(self, cause: str) -> ConnectionFailed:
        """Return the error about a daemon that cannot be reached."""
        return ConnectionFailed(
            f"libvirt cannot be reached in {self.runtime}.",
            name="qemu:///session",
            cause=cause,
            remedy=f"{advice()}check that this user can write to {self.runtime} (XDG_RUNTIME_DIR)",
        )


def advice() -> str:
    """Return the part of a remedy that fits this machine: libvirt can be missing, and root has no
    session.
    """
    if not any(shutil.which(program, path=PROGRAMS) for program in DAEMONS):
        return "install libvirt-daemon and libvirt-daemon-driver-qemu, and "
    if os.geteuid() == 0:
        return "run as an ordinary user, or use qemu:///system; as root, "
    return ""


def recorded(store: Store) -> Session | None:
    """Return the session that has the machines of a storage directory, if it is on record."""
    try:
        fields = json.loads((store.root / RECORD).read_text(encoding="utf-8"))
        return Session(str(fields["runtime"]), str(fields["config"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OperationRefused(
            "the record of libvirt's session cannot be read.",
            name=str(store.root / RECORD),
            cause=str(error),
            remedy="remove the file while no host runs, and run again",
        ) from error


def record(store: Store, session: Session, domains: Domains) -> None:
    """Record the session that has the machines of a storage directory.

    Call it under the registry's lock.

    :raises OperationRefused: if machines of the storage run under another session.
    """
    if recorded(store) == session:
        return
    for uuid in machines(store):
        processes.refuse_if_running(
            uuid, store.disk_of(uuid), f"machine {uuid}", partial(domains.is_active, uuid)
        )
    write_atomic(store.root / RECORD, json.dumps(asdict(session)))


def successor(store: Store, recorded_session: Session, error: ConnectionFailed) -> Session:
    """Return the session that replaces a session whose daemon cannot be reached, as after a reboot.

    :raises ConnectionFailed: if machines of the storage run: they belong to that daemon.
    """
    machine_pids = machines(store)
    if machine_pids:
        pids = ", ".join(str(pid) for pid in sorted(machine_pids.values())[:10])
        raise ConnectionFailed(
            f"libvirt cannot be reached in {recorded_session.runtime}, and machines in "
            f"{store.root} run (QEMU process {pids}).",
            name="qemu:///session",
            cause=error.cause,
            remedy=f"make {recorded_session.runtime} available again (log in; loginctl "
            f"enable-linger keeps it); if libvirt then "
            "reports the hosts as off, shut their guests down or end these processes, and run "
            "again",
        ) from error
    environment_session = Session.of_environment()
    return Session(
        environment_session.runtime,
        recorded_session.config
        if Path(recorded_session.config).is_dir()
        else environment_session.config,
    )


def machines(store: Store) -> dict[str, int]:
    """Return the running machines whose files are in a storage directory: uuid to process ID."""
    own_uuids = set(store.machines())
    return (
        {uuid: pid for uuid, pid in processes.running().items() if uuid in own_uuids}
        if own_uuids
        else {}
    )
