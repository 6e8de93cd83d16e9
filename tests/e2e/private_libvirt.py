# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A libvirt of a test's own, where disks are small and everything can be killed.

It runs in name spaces of its own: processes (all of them end with it), and mounts, so that the
hosts' directory can be a file system of a size that the test chooses. The template's definition is
copied from the user's own session; what is defined inside stays inside.

With ``system`` it is the machine's libvirt, as far as a user can be root in a name space of users:
qemu:///system, with networks, in a name space of networks that holds nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

from .conftest import CHECKOUT, OWNER, WORK

APART = ("--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
# A shell that waits is an init that reaps: libvirt waits for what it killed until it is reaped.
INIT = ("sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c")
SESSION = ("unshare", "--user", "--map-current-user", "--keep-caps", *APART, *INIT)
ROOTED = ("unshare", "--user", "--map-root-user", "--map-auto", *APART, *INIT)
APART_NETWORK = (
    *("unshare", "--user", "--map-current-user", "--keep-caps", "--net"),
    *APART,
    *INIT,
)
SYSTEM = ("unshare", "--user", "--map-root-user", "--map-auto", "--net", *APART, *INIT)
PRELUDE = f"""
import json, os, signal, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
sys.path[:0] = [{str(CHECKOUT / "plugins" / "module_utils")!r}, {str(CHECKOUT)!r}]
from stockyard import FleetSpec, HostSpec, SingleSpec, StockyardError, Yard
from tests.e2e.conftest import TEMPLATE, ssh
from tests.e2e.private_libvirt import bind, kill, limit, network, qemus
from tests.e2e.private_libvirt import subordinate_ids, system_daemon

STORE = Path({str(WORK / "store")!r})

# The storage is recorded as that of the user's own libvirt: here it is the private libvirt's.
if (STORE / "session.json").exists():
    bind(Path(os.environ["PRIVATE_HOME"], "session.json"), STORE / "session.json")

def open_yard(uri="qemu:///session"):
    return Yard(uri, owner={OWNER!r}, storage=str(STORE), pki_dir=os.environ["PRIVATE_PKI"])
"""
QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
dynamic_ownership = 0
stdio_handler = "file"
"""
SUBORDINATE = "root:1:65534\n"
ACCOUNTS = {"passwd": "libvirt-qemu:x:0:0::/:/bin/false\n", "group": "libvirt-qemu:x:0:\n"}


def run(
    tmp_path: Path,
    script: str,
    *,
    system: bool = False,
    rooted: bool = False,
    own_network: bool = False,
    timeout: float = 600,
) -> Any:
    """Run a script there; returns what it printed last, which is JSON.

    :param rooted: as root of a name space of users, on the network that all share.
    :param own_network: as the user, in a name space of networks that holds nothing else.
    """
    # A socket's path has at most 107 letters.
    home = Path("/tmp") / f"libvrt-{os.getpid()}"  # noqa: S108  # made here, for this user alone
    home.mkdir(mode=0o700)
    try:
        environment = {
            **os.environ,
            **_session(home),
            "PRIVATE_PKI": str(tmp_path / "pki"),
            "PRIVATE_HOME": str(home),
        }
        record = {"runtime": str(home / "run"), "config": str(home / "config")}
        (home / "session.json").write_text(json.dumps(record))
        way = SYSTEM if system else ROOTED if rooted else SESSION
        if own_network:
            way = APART_NETWORK
        line = [*way, PRELUDE + textwrap.dedent(script)]
        result = subprocess.run(
            line, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return json.loads(result.stdout.splitlines()[-1])
    finally:
        shutil.rmtree(home)


def _session(home: Path) -> dict[str, str]:
    """The environment of a session that has the template's definition."""
    variables = {
        "XDG_RUNTIME_DIR": home / "run",
        "XDG_CONFIG_HOME": home / "config",
        "XDG_CACHE_HOME": home / "cache",
    }
    for path in variables.values():
        path.mkdir(mode=0o700)
    own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "libvirt" / "qemu"
    definitions = home / "config" / "libvirt" / "qemu"
    definitions.mkdir(parents=True)
    for path in own.glob(f"{OWNER}.default.template.*.xml"):
        shutil.copy(path, definitions)
    return {name: str(path) for name, path in variables.items()}


def bind(source: Path, target: Path) -> None:
    """Show one file in the place of another. Runs inside."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    bound = 4096  # MS_BIND of mount(2)
    if libc.mount(str(source).encode(), str(target).encode(), None, bound, None):
        raise OSError(ctypes.get_errno(), f"mount {target}")


def limit(folder: Path, size: str, *, remount: bool = False) -> None:
    """Put a file system of this size over a directory, or change the size of the one that is there.
    Runs inside.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    flags = 32 if remount else 0  # MS_REMOUNT of mount(2)
    options = f"size={size},mode=0700".encode()
    if libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", flags, options):
        raise OSError(ctypes.get_errno(), f"mount {folder}")


def qemus() -> dict[int, str]:
    """Return the private libvirt's QEMU processes: their arguments. Runs inside."""
    facts = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            line = (entry / "cmdline").read_bytes().decode(errors="replace")
            if "qemu-system" in line.split("\0")[0]:
                facts[int(entry.name)] = line
    return facts


def kill(name: str) -> None:
    """Kill every process of a name. Runs inside."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (entry / "comm").read_text().strip() == name:
            os.kill(int(entry.name), signal.SIGKILL)


def system_daemon() -> subprocess.Popen[bytes]:
    """Start the machine's libvirt, with the template defined. Runs inside, with ``system``."""
    for folder in ("/run", "/etc/libvirt", "/var/lib", "/var/cache", "/var/log"):
        if os.path.isdir(folder):
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", folder], check=True)
    subprocess.run(["mount", "-t", "sysfs", "sysfs", "/sys"], check=True)
    for name, line in ACCOUNTS.items():
        _put_over(Path("/etc", name), Path("/etc", name).read_text() + line)
    for folder in (
        "lib/libvirt/dnsmasq",
        "lib/libvirt/qemu",
        "log/libvirt/qemu",
        "cache/libvirt/qemu",
    ):
        Path("/var", folder).mkdir(parents=True)
    shutil.copytree(Path(os.environ["XDG_CONFIG_HOME"]) / "libvirt" / "qemu", "/etc/libvirt/qemu")
    Path("/etc/libvirt/qemu.conf").write_text(QEMU_CONF)
    Path("/etc/libvirt/libvirtd.conf").write_text('auth_unix_rw = "none"\n')
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with Path(os.environ["PRIVATE_HOME"], "libvirtd.log").open("wb") as log:
        daemon = subprocess.Popen(["libvirtd"], stdout=log, stderr=log)
    end = time.monotonic() + 60
    while not Path("/run/libvirt/libvirt-sock").exists():
        if daemon.poll() is not None or time.monotonic() > end:
            raise AssertionError(Path(log.name).read_text()[-2000:])
        time.sleep(0.1)
    return daemon


def subordinate_ids() -> None:
    """Give root the subordinate ids that it can hand on. Runs inside, with ``rooted``."""
    for name in ("subuid", "subgid"):
        _put_over(Path("/etc", name), SUBORDINATE)


def _put_over(path: Path, text: str) -> None:
    whole = Path(os.environ["PRIVATE_HOME"]) / path.name
    whole.write_text(text)
    subprocess.run(["mount", "--bind", whole, path], check=True)


def network(name: str, gateway: str, forward: str = "") -> None:
    """Start one of libvirt's networks, without DHCP and names. Runs inside, with ``system``."""
    mode = f"<forward mode='{forward}'/>" if forward else ""
    text = (
        f"<network><name>{name}</name>{mode}<bridge name='{name}'/><dns enable='no'/>"
        f"<ip address='{gateway}' netmask='255.255.255.0'/></network>"
    )
    path = Path("/run") / f"{name}.xml"
    path.write_text(text)
    subprocess.run(
        ["virsh", "-q", "-c", "qemu:///system", "net-create", path], check=True, capture_output=True
    )
