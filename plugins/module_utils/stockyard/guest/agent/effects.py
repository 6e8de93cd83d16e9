# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent's effects on the running kernel and on other processes, except for files.

They are behind a port, so that tests can run the whole agent in a directory, without a guest.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import glob
import os
import random
import signal
import socket
import ssl
import stat
import struct
import subprocess
import time
from collections.abc import Iterator
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
# linux/fs.h: struct fstrim_range has start, length and the least length of a free extent.
FITRIM = 0xC0185879
IFF_UP = 0x1
RTF_UP_GATEWAY = 0x3
RTENTRY_SIZE = 120
ARPHRD_ETHER = 1
PATIENCE = 600.0
# The file that a front reads, the name of its unit without the type: a pipe while the front must
# wait, then a copy of its configuration. The first front that has such a gate is in use. In a child
# of a branch that is the spare, which waits at its gate since the template was frozen; a child of
# the child has no spare, and systemd starts its front again.
GATE = "/run/stockyard/{}.conf"
CONFIGURATION = "/etc/stockyard/stunnel.conf"
FRONT_USER = "stockyard-tls"
# Seconds to wait for a front that is about to open the pipe, and for one that systemd starts again.
PIPE_PAUSES = (0.05, 0.0)
START_PAUSES = (0.02,) * 50
# Only the front's processes: a container can also run stunnel.
UNITS = "/sys/fs/cgroup/system.slice"
FRONT_PROCESSES = f"{UNITS}/{{}}/cgroup.procs"
FRONT_KILL = f"{UNITS}/{{}}/cgroup.kill"
# After a front has ended by this signal, which stunnel does not handle, systemd does not start it
# again (RestartPreventExitStatus=).
RETIRE = signal.SIGALRM
PRIORITIZED = ("stockyard-agent.service", *units.FRONTS)
# OpenSSH's connections by systemd's socket, and the session scopes that logind creates if it runs.
WAY_OUT_UNIT = "stockyard-way-out.service"
SESSIONS = ("ssh.service", "ssh@*.service", "sshd@*.service", "session-*.scope")
# Debian's ssh.service has KillMode=process: a stop ends only the listener. The kernel's
# cgroup-v2.rst describes this file.
SSH_KILL = f"{UNITS}/ssh.service/cgroup.kill"
SSH_INSTANCES = tuple(f"{UNITS}/system-{name}.slice/cgroup.kill" for name in ("ssh", "sshd"))
USERS = "/sys/fs/cgroup/user.slice"
# The kernel's tables of TCP sockets. Their lines begin with a number, the local address and port,
# the remote ones, and the state: proc(5), net/tcp_states.h.
TCP_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
SSH_PORT, LISTENING = ":0016", "0A"
# Seconds that sshd gets to listen again, and between two looks.
SSH_PATIENCE, SSH_PAUSE = 60.0, 0.1
ANY = "0.0.0.0"  # noqa: S104  # no socket: the default route's destination


class Effects(Protocol):
    """The running system."""

    def reseed(self, entropy: bytes) -> None:
        """Add entropy to the kernel's generator and reseed it at once; then reseed the generators
        of this process: OpenSSL's and Python's.
        """

    def draw(self) -> dict[str, str]:
        """Return new random bytes from the kernel's generator and from each generator of this
        process, in hex.
        """

    def random(self, count: int) -> bytes:
        """Return random bytes directly from the kernel."""

    def set_clock(self, seconds: float) -> None:
        """Set the wall clock."""

    def set_hostname(self, name: str) -> None:
        """Set the kernel's host name."""

    def set_mac(self, interface: str, mac: str) -> str:
        """Set an interface's MAC address; return the address that the kernel then reports."""

    def set_address(self, interface: str, address: str, netmask: str, gateway: str) -> None:
        """Set the interface's IPv4 address and default route, and bring the interface up."""

    def own(self, path: str, user: str) -> None:
        """Change the owner of a file or directory to a user and the user's group."""

    def prioritize(self, on: bool) -> None:
        """Raise the scheduling priority of the agent and the TLS front above all other processes,
        or restore the normal priority.
        """

    def open_gate(self) -> None:
        """Open the gate at which the TLS front waits."""

    def reload_front(self, cut: bool) -> None:
        """Reload the files of the running TLS front.

        :param cut: whether to restart the front, which closes all connections.
        """

    def replace_front(self) -> None:
        """End the TLS front at once with all connections. Another one waits at its gate."""

    def kill_logins(self, user: str) -> None:
        """End sshd and all logins of a user at once, with all their processes."""

    def accepts_ssh(self) -> bool:
        """Return whether a program listens on the port of SSH."""

    def wait_for_ssh(self) -> None:
        """Wait until a program listens on the port of SSH.

        :raises RuntimeError: if none does, with the last messages of sshd.
        """

    def sync(self) -> None:
        """Write all file data to disk."""

    def trim(self) -> None:
        """Return all free blocks of the root file system to the hypervisor."""

    def restart_journal(self) -> None:
        """Restart journald, so that it uses the current machine ID."""

    def restart_engine(self) -> None:
        """Restart dockerd with a new engine ID."""

    def set_way_out(self, on: bool) -> None:
        """Start or stop the way to the proxy; return when it serves."""

    def take_down(self, interface: str) -> None:
        """Remove the interface's address and set the interface down."""

    def end_sessions(self, user: str, interface: str) -> None:
        """End all logins of a user with all their processes; remove the interface's address and set
        the interface down.
        """


class LinuxEffects:
    """The effects in a Linux guest, by ioctls and signals. Only a restart of dockerd and the end of
    sessions start other processes.
    """

    def reseed(self, entropy: bytes) -> None:
        request = struct.pack("ii", len(entropy) * 8, len(entropy)) + entropy
        with open("/dev/random", "wb", buffering=0) as device:
            fcntl.ioctl(device, RNDADDENTROPY, request)
            fcntl.ioctl(device, RNDRESEEDCRNG)
        ssl.RAND_add(os.urandom(64), 64.0)
        random.seed(os.urandom(64))

    def draw(self) -> dict[str, str]:
        python = random.randbytes(32)  # noqa: S311  # for comparison only, never a secret
        samples = {"kernel": os.urandom(32), "openssl": ssl.RAND_bytes(32), "python": python}
        return {name: value.hex() for name, value in samples.items()}

    def random(self, count: int) -> bytes:
        return os.urandom(count)

    def set_clock(self, seconds: float) -> None:
        time.clock_settime(time.CLOCK_REALTIME, seconds)

    def set_hostname(self, name: str) -> None:
        socket.sethostname(name)

    def set_mac(self, interface: str, mac: str) -> str:
        wait_for_path(f"/sys/class/net/{interface}")
        hardware_address = bytes.fromhex(mac.replace(":", ""))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            fcntl.ioctl(
                sock,
                SIOCSIFHWADDR,
                struct.pack("16sH14s8x", interface.encode(), ARPHRD_ETHER, hardware_address),
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
        """Set the default route, by struct rtentry of net/route.h on a 64-bit machine."""
        entry = struct.pack("8x16s16s16sH", _inet(ANY), _inet(gateway), _inet(ANY), RTF_UP_GATEWAY)
        with contextlib.suppress(FileExistsError):
            fcntl.ioctl(sock, SIOCADDRT, entry.ljust(RTENTRY_SIZE, b"\0"))

    def own(self, path: str, user: str) -> None:
        os.chown(path, *_ids(user))

    def open_gate(self) -> None:
        front = _front()
        gate = _gate(front)
        pipe = f"{gate}.pipe"
        with open(CONFIGURATION, "rb") as handle:
            text = handle.read()
        if stat.S_ISFIFO(os.stat(gate).st_mode):
            # The link already exists if an earlier agent was killed at this point.
            with contextlib.suppress(FileExistsError):
                os.link(gate, pipe)
            # A front that starts from now on reads the file; a waiting front reads the pipe.
            _replace(gate, text)
        if os.sched_getscheduler(0) != os.SCHED_OTHER:
            self._prioritize_front(front)
        if not os.path.exists(pipe):
            return
        for pause in PIPE_PAUSES:
            try:
                descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                time.sleep(pause)
                continue
            os.write(descriptor, text)
            os.close(descriptor)
            break
        os.unlink(pipe)

    def _prioritize_front(self, front: str) -> None:
        """Give a front the priority of the agent as soon as its process exists: systemd may be
        starting it.
        """
        for pause in START_PAUSES:
            if _words(FRONT_PROCESSES.format(front)):
                self.prioritize(True)
                break
            time.sleep(pause)

    def close_gate(self, front: str) -> None:
        """Close the gate of a front, which waits at it after its next start."""
        gate = _gate(front)
        os.mkfifo(f"{gate}.new", 0o600)
        self.own(f"{gate}.new", FRONT_USER)
        os.replace(f"{gate}.new", gate)

    def reload_front(self, cut: bool) -> None:
        # stunnel(8): SIGHUP reloads the configuration with all its files, for new connections;
        # existing connections stay open. After SIGTERM systemd starts the front again. Either
        # signal ends a front that is still starting, and the next front reads the new files.
        self._signal_front(_front(), signal.SIGTERM if cut else signal.SIGHUP)

    @staticmethod
    def _signal_front(front: str, number: signal.Signals) -> None:
        for pid in _words(FRONT_PROCESSES.format(front)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), number)

    def replace_front(self) -> None:
        front = _front()
        if front != units.SPARE_FRONT and os.path.exists(_gate(units.SPARE_FRONT)):
            # From now on the spare is in use.
            os.unlink(_gate(front))
            self._signal_front(front, RETIRE)
        else:
            # systemd starts a killed front again (RestartSec=), while the identity is created.
            self.close_gate(front)
        _kill(FRONT_KILL.format(front))

    def kill_logins(self, user: str) -> None:
        uid = _ids(user)[0]
        for pattern in (SSH_KILL, *SSH_INSTANCES, f"{USERS}/user-{uid}.slice/cgroup.kill"):
            for path in glob.glob(pattern):
                _kill(path)

    def prioritize(self, on: bool) -> None:
        # A nice value counts only within a unit's cgroup. If the kernel does not permit real-time
        # scheduling, the identity only takes longer.
        policy, priority = (os.SCHED_RR, 1) if on else (os.SCHED_OTHER, 0)
        for unit in PRIORITIZED:
            for thread in _words(f"{UNITS}/{unit}/cgroup.threads"):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.sched_setscheduler(int(thread), policy, os.sched_param(priority))

    def accepts_ssh(self) -> bool:
        return any(_listens(path, SSH_PORT) for path in TCP_TABLES)

    def wait_for_ssh(self) -> None:
        end = time.monotonic() + SSH_PATIENCE
        while not self.accepts_ssh():
            if time.monotonic() > end:
                raise RuntimeError(
                    f"no program listens on port 22: {units.last_words('ssh.service')}"
                )
            time.sleep(SSH_PAUSE)

    def sync(self) -> None:
        os.sync()

    def trim(self) -> None:
        os.sync()
        root = os.open("/", os.O_RDONLY | os.O_CLOEXEC)
        try:
            # ext4 skips groups of blocks that it has trimmed before, unless the least length of the
            # last request was greater. The greatest is a group: as many blocks as a block has bits.
            for least_length in (8 * os.fstatvfs(root).f_bsize ** 2, 0):
                fcntl.ioctl(root, FITRIM, struct.pack("=QQQ", 0, (1 << 64) - 1, least_length))
        finally:
            os.close(root)

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

    def set_way_out(self, on: bool) -> None:
        command = ["systemctl", "restart" if on else "stop", WAY_OUT_UNIT]
        if subprocess.run(command, check=False, timeout=120).returncode:
            raise RuntimeError(f"{WAY_OUT_UNIT} failed: {units.last_words(WAY_OUT_UNIT)}")

    def end_sessions(self, user: str, interface: str) -> None:
        import pwd

        # Only the manager of this user: a rootless dockerd has a manager too.
        user_manager = f"user@{pwd.getpwnam(user).pw_uid}.service"
        subprocess.run(["systemctl", "stop", *SESSIONS, user_manager], check=True, timeout=120)
        _kill(SSH_KILL)
        self.take_down(interface)

    def take_down(self, interface: str) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            name = interface.encode()
            fcntl.ioctl(sock, SIOCSIFADDR, struct.pack("16s16s8x", name, _inet(ANY)))
            flags = struct.unpack(
                "16sH22x", fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("16s24x", name))
            )[1]
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH22x", name, flags & ~IFF_UP))


def _front() -> str:
    """Return the front that is in use."""
    fronts = (front for front in units.FRONTS if os.path.exists(_gate(front)))
    return next(fronts, units.FRONT)


def _gate(front: str) -> str:
    return GATE.format(front.removesuffix(".service"))


def _kill(path: str) -> None:
    """Kill all processes of a control group by its file. Without the file there is no process."""
    with _removable(), open(path, "w", encoding="ascii") as handle:
        handle.write("1")


def _listens(table: str, port: str) -> bool:
    """Return whether a table of TCP sockets contains one that listens on a port. A kernel without
    IPv6 does not have the second table.
    """
    with contextlib.suppress(FileNotFoundError), open(table, encoding="ascii") as handle:
        for line in handle:
            fields = line.split()
            if fields[1].endswith(port) and fields[3] == LISTENING:
                return True
    return False


def _words(path: str) -> list[str]:
    """Return the words in a file; an empty list if the file does not exist."""
    text = ""
    with _removable(), open(path, encoding="ascii") as handle:
        text = handle.read()
    return text.split()


@contextlib.contextmanager
def _removable() -> Iterator[None]:
    """Ignore that a file of a control group does not exist. If systemd removes the group while the
    file is open, the kernel answers that there is no such device.
    """
    try:
        yield
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


@functools.cache
def _ids(user: str) -> tuple[int, int]:
    """Return the ids of a user and its group. The rehearsal before the freeze fills the cache."""
    import pwd

    entry = pwd.getpwnam(user)
    return entry.pw_uid, entry.pw_gid


def _replace(path: str, content: bytes) -> None:
    """Replace a path with a world-readable file, atomically."""
    temporary = f"{path}.new"
    with open(temporary, "wb") as handle:
        os.fchmod(handle.fileno(), 0o644)
        handle.write(content)
    os.replace(temporary, path)


def wait_for_path(path: str) -> None:
    """Wait for a path that udev creates. On a busy machine that takes longer than systemd waits for
    a device.

    :raises TimeoutError: if the path does not appear.
    """
    end = time.monotonic() + PATIENCE
    while not os.path.exists(path):
        if time.monotonic() > end:
            raise TimeoutError(f"{path} did not appear within {PATIENCE:g} s")
        time.sleep(0.5)


def _inet(address: str) -> bytes:
    """Return an address as struct sockaddr_in."""
    return struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))


def _pids_of(comm: str) -> list[int]:
    """Return the ids of the processes with a short name of the kernel's (comm)."""
    pids = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/comm", encoding="utf-8") as handle:
                    if handle.read().strip() == comm:
                        pids.append(int(entry))
            except OSError:
                continue
    return pids
