# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the agent does to the running kernel and to other processes, apart from what it writes to
files.

A port of its own, so that the whole of the agent can be run in a directory, without a guest.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import random
import signal
import socket
import ssl
import stat
import struct
import subprocess
import time
from typing import Protocol

from . import units

# linux/random.h and linux/sockios.h
RNDADDENTROPY = 0x40085203
RNDRESEEDCRNG = 0x5207
SIOCADDRT = 0x890B
SIOCGIFHWADDR = 0x8927
SIOCSIFHWADDR = 0x8924
SIOCSIFADDR = 0x8916
SIOCSIFNETMASK = 0x891C
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1
RTF_UP_GATEWAY = 0x3
RTENTRY_SIZE = 120
ARPHRD_ETHER = 1
PATIENCE = 600.0
# What the front reads: a pipe while it is to wait, then a copy of its configuration.
GATE = "/run/stockyard/stunnel.conf"
CONFIGURATION = "/etc/stockyard/stunnel.conf"
FRONT_USER = "stockyard-tls"
# Seconds to wait for a front that was about to open the pipe.
LATECOMERS = (0.05, 0.0)
# The front's processes and no others: a container may run a stunnel of its own.
UNITS = "/sys/fs/cgroup/system.slice"
FRONT_PROCESSES = f"{UNITS}/stockyard-tls.service/cgroup.procs"
HURRIED = ("stockyard-agent.service", "stockyard-tls.service")
# OpenSSH's connections by systemd's socket, and what logind makes of them where it is there.
SESSIONS = ("ssh.service", "ssh@*.service", "sshd@*.service", "session-*.scope")
# Debian's ssh.service has KillMode=process: stopping it ends the listener alone. The file: the
# kernel's cgroup-v2.rst.
LEFT_BEHIND = f"{UNITS}/ssh.service/cgroup.kill"
ANY = "0.0.0.0"  # noqa: S104  # no socket: the default route's destination


class Effects(Protocol):
    """What the agent asks of the running system."""

    def reseed(self, entropy: bytes) -> None:
        """Feed the kernel's generator and make it reseed now; then those of this process: OpenSSL's
        and Python's.
        """

    def draw(self) -> dict[str, str]:
        """A fresh draw from every generator that lives in this process, and from the kernel's, in
        hex.
        """

    def random(self, count: int) -> bytes:
        """Random bytes straight from the kernel."""

    def set_clock(self, seconds: float) -> None:
        """Set the wall clock."""

    def set_hostname(self, name: str) -> None:
        """Set the kernel's host name."""

    def set_mac(self, interface: str, mac: str) -> str:
        """Set an interface's MAC address; return what the kernel says afterwards."""

    def set_address(self, interface: str, address: str, netmask: str, gateway: str) -> None:
        """Give the interface its IPv4 address and bring it up."""

    def own(self, path: str, user: str) -> None:
        """Make a file or directory belong to a user and its group."""

    def hurry(self, on: bool) -> None:
        """Have this agent and the TLS front come before all else in the guest, or no more."""

    def open_gate(self) -> None:
        """Let the TLS front, which waits at its gate, go on."""

    def reload_front(self, cut: bool) -> None:
        """Make the TLS front, which runs, take up the files on disk.

        :param cut: hang up on everybody who is connected, and start anew.
        """

    def sync(self) -> None:
        """Make everything written durable."""

    def restart_journal(self) -> None:
        """Make journald start anew, with the machine ID of now."""

    def restart_engine(self) -> None:
        """Restart dockerd with an engine ID of its own."""

    def end_sessions(self, user: str, interface: str) -> None:
        """End all logins of a user and what was started from them; the interface goes down and has
        no address.
        """


class LinuxEffects:
    """The real thing: ioctls and signals; spawns nothing unless dockerd has to be restarted."""

    def reseed(self, entropy: bytes) -> None:
        request = struct.pack("ii", len(entropy) * 8, len(entropy)) + entropy
        with open("/dev/random", "wb", buffering=0) as device:
            fcntl.ioctl(device, RNDADDENTROPY, request)
            fcntl.ioctl(device, RNDRESEEDCRNG)
        ssl.RAND_add(os.urandom(64), 64.0)
        random.seed(os.urandom(64))

    def draw(self) -> dict[str, str]:
        python = random.randbytes(32)  # noqa: S311  # what is drawn here is looked at, not used
        drawn = {"kernel": os.urandom(32), "openssl": ssl.RAND_bytes(32), "python": python}
        return {name: value.hex() for name, value in drawn.items()}

    def random(self, count: int) -> bytes:
        return os.urandom(count)

    def set_clock(self, seconds: float) -> None:
        time.clock_settime(time.CLOCK_REALTIME, seconds)

    def set_hostname(self, name: str) -> None:
        socket.sethostname(name)

    def set_mac(self, interface: str, mac: str) -> str:
        wait_for_path(f"/sys/class/net/{interface}")
        wanted = bytes.fromhex(mac.replace(":", ""))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(
                sock,
                SIOCSIFHWADDR,
                struct.pack("16sH14s8x", interface.encode(), ARPHRD_ETHER, wanted),
            )
            answer = fcntl.ioctl(sock, SIOCGIFHWADDR, struct.pack("16s24x", interface.encode()))
        return ":".join(f"{byte:02x}" for byte in answer[18:24])

    def set_address(self, interface: str, address: str, netmask: str, gateway: str) -> None:
        name = interface.encode()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(sock, SIOCSIFADDR, struct.pack("16s16s8x", name, _inet(address)))
            fcntl.ioctl(sock, SIOCSIFNETMASK, struct.pack("16s16s8x", name, _inet(netmask)))
            flags = struct.unpack(
                "16sH22x", fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("16s24x", name))
            )[1]
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH22x", name, flags | IFF_UP))
            if gateway:
                self._default_route(sock, gateway)

    @staticmethod
    def _default_route(sock: socket.socket, gateway: str) -> None:
        """struct rtentry of net/route.h on a 64-bit machine."""
        entry = struct.pack("8x16s16s16sH", _inet(ANY), _inet(gateway), _inet(ANY), RTF_UP_GATEWAY)
        with contextlib.suppress(FileExistsError):
            fcntl.ioctl(sock, SIOCADDRT, entry.ljust(RTENTRY_SIZE, b"\0"))

    def own(self, path: str, user: str) -> None:
        os.chown(path, *_ids(user))

    def open_gate(self) -> None:
        pipe = f"{GATE}.pipe"
        with open(CONFIGURATION, "rb") as handle:
            text = handle.read()
        if stat.S_ISFIFO(os.stat(GATE).st_mode):
            # It is there already when an agent was ended on its way.
            with contextlib.suppress(FileExistsError):
                os.link(GATE, pipe)
            # A front that is started from here on reads the file; one that waits reads the pipe.
            _replace(GATE, text)
        if not os.path.exists(pipe):
            return
        for pause in LATECOMERS:
            try:
                waiting = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                time.sleep(pause)
                continue
            os.write(waiting, text)
            os.close(waiting)
            break
        os.unlink(pipe)

    def shut_gate(self) -> None:
        """Have the next front wait at its gate."""
        os.mkfifo(f"{GATE}.new", 0o600)
        self.own(f"{GATE}.new", FRONT_USER)
        os.replace(f"{GATE}.new", GATE)

    def reload_front(self, cut: bool) -> None:
        # stunnel(8): SIGHUP reloads the configuration with all its files, for new connections; what
        # is connected stays. When it ends, systemd starts it again. One that is only being started
        # ends by either, and reads the new files.
        for pid in _words(FRONT_PROCESSES):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGTERM if cut else signal.SIGHUP)

    def hurry(self, on: bool) -> None:
        # A nice value counts within a unit's cgroup alone. Where the kernel allows no such thing,
        # it only takes longer.
        policy, priority = (os.SCHED_RR, 1) if on else (os.SCHED_OTHER, 0)
        for unit in HURRIED:
            for thread in _words(f"{UNITS}/{unit}/cgroup.threads"):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.sched_setscheduler(int(thread), policy, os.sched_param(priority))

    def sync(self) -> None:
        os.sync()

    def restart_journal(self) -> None:
        for pid in _pids_of("systemd-journal"):
            os.kill(pid, signal.SIGTERM)

    def restart_engine(self) -> None:
        subprocess.run(["systemctl", "stop", "docker.service"], check=True, timeout=120)
        for path in ("/etc/docker/key.json", "/var/lib/docker/engine-id"):
            if os.path.exists(path):
                os.unlink(path)
        if subprocess.run(
            ["systemctl", "start", "docker.service"], check=False, timeout=120
        ).returncode:
            raise RuntimeError(f"docker.service failed: {units.last_words('docker.service')}")

    def end_sessions(self, user: str, interface: str) -> None:
        import pwd

        # The manager of this user alone: a rootless dockerd has one, too.
        own = f"user@{pwd.getpwnam(user).pw_uid}.service"
        subprocess.run(["systemctl", "stop", *SESSIONS, own], check=True, timeout=120)
        # No file: nothing was left.
        with (
            contextlib.suppress(FileNotFoundError),
            open(LEFT_BEHIND, "w", encoding="ascii") as handle,
        ):
            handle.write("1")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            name = interface.encode()
            fcntl.ioctl(sock, SIOCSIFADDR, struct.pack("16s16s8x", name, _inet(ANY)))
            flags = struct.unpack(
                "16sH22x", fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("16s24x", name))
            )[1]
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH22x", name, flags & ~IFF_UP))


def _words(path: str) -> list[str]:
    """What is in a file; nothing where it is not there."""
    try:
        with open(path, encoding="ascii") as handle:
            return handle.read().split()
    except FileNotFoundError:
        return []


@functools.cache
def _ids(user: str) -> tuple[int, int]:
    """Read once: by the rehearsal before the freeze."""
    import pwd

    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid


def _replace(path: str, content: bytes) -> None:
    """Put a file that everybody may read in the place of whatever is there."""
    beside = f"{path}.new"
    with open(beside, "wb") as handle:
        os.fchmod(handle.fileno(), 0o644)
        handle.write(content)
    os.replace(beside, path)


def wait_for_path(path: str) -> None:
    """Wait for something that udev makes; on a busy machine that takes longer than systemd waits
    for a device.

    :raises TimeoutError: when it never comes.
    """
    end = time.monotonic() + PATIENCE
    while not os.path.exists(path):
        if time.monotonic() > end:
            raise TimeoutError(f"{path} did not appear within {PATIENCE:g} s")
        time.sleep(0.5)


def _inet(address: str) -> bytes:
    """struct sockaddr_in."""
    return struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))


def _pids_of(comm: str) -> list[int]:
    """Processes by the kernel's short name for them."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/comm", encoding="utf-8") as handle:
                    if handle.read().strip() == comm:
                        found.append(int(entry))
            except OSError:
                continue
    return found
