# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A libvirt session of a test's own, where disks are small and everything can be killed.

It runs in name spaces of its own: processes (all of them end with it), and mounts, so that the hosts' directory can be
a file system of a size that the test chooses. Definitions are copied from the user's own session, so that the template
is at hand; what is defined on the island stays there.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from .conftest import CHECKOUT, OWNER, WORK

UNSHARE = (
    "unshare", "--user", "--map-current-user", "--keep-caps", "--mount", "--pid", "--fork", "--mount-proc",
    "--kill-child",
)  # fmt: skip
PRELUDE = f"""
import json, os, signal, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
sys.path[:0] = [{str(CHECKOUT / "plugins" / "module_utils")!r}, {str(CHECKOUT)!r}]
from stockyard import FleetSpec, SingleSpec, StockyardError, TemplateSpec, ImageSpec, Yard
from tests.e2e.conftest import TEMPLATE, ssh
from tests.e2e.island import limit, qemus

STORE = Path({str(WORK / "store")!r})

def open_yard():
    return Yard("qemu:///session", owner={OWNER!r}, storage=str(STORE), pki_dir=os.environ["ISLAND_PKI"])
"""


def run(tmp_path: Path, script: str, timeout: float = 400) -> Any:
    """Run a script there; returns what it printed last, which is JSON.

    :param tmp_path: where the session keeps its sockets and definitions.
    """
    # A socket's path has at most 107 letters.
    home = Path("/tmp") / f"island-{os.getpid()}"  # noqa: S108  # made here, for this user alone
    home.mkdir(mode=0o700)
    try:
        environment = {**os.environ, **_session(home), "ISLAND_PKI": str(tmp_path / "pki")}
        line = [*UNSHARE, sys.executable, "-c", PRELUDE + textwrap.dedent(script)]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])
    finally:
        shutil.rmtree(home)


def _session(home: Path) -> dict[str, str]:
    """The environment of a session whose definitions are those of the user's own."""
    wanted = {"XDG_RUNTIME_DIR": home / "run", "XDG_CONFIG_HOME": home / "config", "XDG_CACHE_HOME": home / "cache"}
    for path in wanted.values():
        path.mkdir(mode=0o700)
    own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "libvirt" / "qemu"
    shutil.copytree(own, home / "config" / "libvirt" / "qemu", symlinks=True)
    return {name: str(path) for name, path in wanted.items()}


def limit(folder: Path, size: str, *, again: bool = False) -> None:
    """Put a file system of this size over a directory, or change the size of the one that is there. On the island."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    remount = 32  # MS_REMOUNT of mount(2)
    options = f"size={size},mode=0700".encode()
    if libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", remount if again else 0, options):
        raise OSError(ctypes.get_errno(), f"mount {folder}")


def qemus() -> dict[int, str]:
    """The island's QEMU processes: their arguments. On the island."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            line = (entry / "cmdline").read_bytes().decode(errors="replace")
            if "qemu-system" in line.split("\0")[0]:
                found[int(entry.name)] = line
    return found


def kill(name: str) -> None:
    """Kill every process of a name. On the island."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (entry / "comm").read_text().strip() == name:
            os.kill(int(entry.name), signal.SIGKILL)
