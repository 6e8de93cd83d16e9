# SPDX-FileCopyrightText: stockyard contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Helpers of the tests of branched hosts: a container that counts, the traffic of clients during a
branch, and a search for the keys of a parent.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from stockyard import HostInfo, Yard
from stockyard.providers.libvirt import disk_layers
from stockyard.providers.libvirt.provider import LibvirtProvider
from stockyard.providers.libvirt.xml.element import parse
from tests.helpers.values import present

from .conftest import WORK, Docker, ssh
from .test_identity import DISTINCT, inside
from .test_randomness import trusting

# A container that writes a number into a file and prints it, many times a second.
COUNT = "n=0; while true; do n=$((n+1)); echo $n >>/numbers; echo $n; sleep 0.02; done"
# Seconds between two requests of a client.
INTERVAL = 0.02
# Lines of base64 that hold the secret itself are long; the first line of a key in OpenSSH's format
# is the same for all keys.
SAME_IN_ALL_KEYS = ("-", "b3BlbnNzaC")
# Directories in which keys can be.
KEY_DIRECTORIES = ("/etc", "/root", "/home", "/run", "/var/lib/stockyard")
SEARCH = r"""
import os, sys
# They arrive backwards: processes that pass them on do not contain them then.
needles = [line[::-1].encode() for line in sys.stdin.read().split()]
found = []
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) in (os.getpid(), os.getppid()):
        continue
    try:
        maps = open(f"/proc/{pid}/maps").read().splitlines()
        memory = open(f"/proc/{pid}/mem", "rb", buffering=0)
    except OSError:
        continue
    name = open(f"/proc/{pid}/comm").read().strip()
    for area in maps:
        words = area.split()
        begin, end = (int(part, 16) for part in words[0].split("-"))
        if "w" not in words[1] or end - begin > 1 << 27:
            continue
        try:
            memory.seek(begin)
            data = memory.read(end - begin)
        except OSError:
            continue
        found += [name for needle in needles if needle in data]
for top in sys.argv[1:]:
    for folder, folders, files in os.walk(top):
        folders[:] = [each for each in folders if os.path.join(folder, each) not in
                      ("/proc", "/sys", "/dev")]
        for file in files:
            path = os.path.join(folder, file)
            if os.path.isfile(path) and not os.path.islink(path):
                try:
                    data = open(path, "rb").read()
                except OSError:
                    continue
                found += [path for needle in needles if needle in data]
print(*found)
"""


def libvirt_of(yard: Yard) -> LibvirtProvider:
    provider = yard.context.provider
    assert isinstance(provider, LibvirtProvider)
    return provider


def leftovers(yard: Yard) -> set[str]:
    """Everything that is left of branches."""
    store = libvirt_of(yard).store
    folders = (store.branches, store.disk_layers)
    return {path.name for folder in folders if folder.is_dir() for path in folder.iterdir()}


def chain_of(yard: Yard, host: HostInfo) -> list[Path]:
    """The files under a running host's disk."""
    domain = libvirt_of(yard).connection.lookupByUUIDString(host.uuid)
    return list(disk_layers.chain(disk_layers.top(parse(domain.XMLDesc(0)))))


def start_counter(docker: Docker, host: HostInfo, busybox: bytes) -> None:
    docker(host, "import", "-", "busybox:latest", stdin=busybox)
    docker(host, "run", "-d", "--name", "counter", "busybox", "/bin/sh", "-c", COUNT)


def numbers(docker: Docker, host: HostInfo) -> list[int]:
    """The numbers in the file of the counter."""
    return [int(line) for line in docker(host, "exec", "counter", "cat", "/numbers").stdout.split()]


def check_counter(docker: Docker, host: HostInfo) -> None:
    """Check that the counter of a host continues, and that no number is missing."""
    before = numbers(docker, host)
    time.sleep(1)
    after = numbers(docker, host)
    assert len(after) > len(before), host.name
    assert after == list(range(1, len(after) + 1)), host.name


def check_identities(hosts: Sequence[HostInfo]) -> None:
    """Check that no two hosts share what makes a host itself, and that each has what its record
    says.
    """
    with ThreadPoolExecutor(max_workers=2) as pool:
        guests = list(pool.map(inside, hosts))
    for item in DISTINCT:
        assert len({guest[item] for guest in guests}) == len(hosts), item
    assert len({host.address for host in hosts}) == len(hosts)
    for host, guest in zip(hosts, guests, strict=True):
        identity = present(host.identity)
        assert (guest["hostname"], guest["mac"]) == (host.name, host.mac)
        assert identity.machine_id == guest["machine_id"] == guest["dbus_id"]
        assert identity.machine_id == guest["_MACHINE_ID"]
        assert " ".join(guest["ssh_key"].split()[:2]) == identity.ssh_host_key
        assert int(guest["serial"], 16) == int(identity.certificate, 16)
        assert float(guest["asked"]) - 1 < float(guest["clock"]) < float(guest["answered"]) + 1


def private_keys(host: HostInfo) -> list[str]:
    """The secret lines of a host's TLS key and SSH host key."""
    script = "cat /var/lib/stockyard/tls/key.pem /etc/ssh/ssh_host_ed25519_key"
    lines = ssh(host, f"sudo sh -c '{script}'").stdout.splitlines()
    keys = [line for line in lines if len(line) > 40 and not line.startswith(SAME_IN_ALL_KEYS)]
    assert len(keys) >= 3
    return keys


def places_of(
    keys: Iterable[str], host: HostInfo, directories: Iterable[str] = KEY_DIRECTORIES
) -> str:
    """The processes and files of a host that hold keys, in one line."""
    search = f"sudo python3 -c '{SEARCH}' {' '.join(directories)}"
    result = ssh(host, search, stdin="\n".join(key[::-1] for key in keys), timeout=1200)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@dataclass
class Replies:
    """The moments at which a client received something."""

    times: list[float] = field(default_factory=list)

    def gap_ms(self, begin: float, end: float) -> float:
        """The longest silence in a span of time, in milliseconds."""
        times = [moment for moment in self.times if begin <= moment <= end]
        return max((later - earlier for earlier, later in pairwise(times)), default=0.0) * 1000


class Client:
    """A client of a host's Docker that runs in the background, for a ``with`` statement."""

    def __init__(self) -> None:
        self.replies = Replies()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self) -> Replies:
        self.thread.start()
        return self.replies

    def __exit__(self, *_error: object) -> None:
        self.stopping.set()
        self.close()
        self.thread.join(60)
        assert not self.thread.is_alive()

    def run(self) -> None:
        """Receive until the end."""
        raise NotImplementedError

    def close(self) -> None:
        """End what waits for the host."""


def docker_process(
    docker: Docker, host: HostInfo, *arguments: str, stdin: int | None = None
) -> subprocess.Popen[bytes]:
    """Start Docker's own client for a host."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(WORK / "docker-home")}
    environment |= host.docker.environment
    return subprocess.Popen(
        [docker.client, *arguments], env=environment, stdin=stdin, stdout=subprocess.PIPE
    )


class LogFollower(Client):
    """Follows the output of the counter, as `docker logs` shows it."""

    def __init__(self, docker: Docker, host: HostInfo) -> None:
        super().__init__()
        self.process = docker_process(docker, host, "logs", "--follow", "--tail", "1", "counter")

    def run(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for _line in lines:
                self.replies.times.append(time.monotonic())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class Pings(Client):
    """Pings Docker every 20 ms over one connection."""

    def __init__(self, host: HostInfo) -> None:
        super().__init__()
        self.connection = http.client.HTTPSConnection(
            host.address, 2376, timeout=60, context=trusting(host)
        )
        self.connection.connect()

    def run(self) -> None:
        while not self.stopping.is_set():
            begin = time.monotonic()
            self.connection.request("GET", "/_ping")
            response = self.connection.getresponse()
            assert response.read() == b"OK"
            self.replies.times.append(time.monotonic())
            time.sleep(max(0.0, begin + INTERVAL - time.monotonic()))
        self.connection.close()


class ExecSession(Client):
    """Sends numbers through an open `docker exec` session, which returns each."""

    def __init__(self, docker: Docker, host: HostInfo) -> None:
        super().__init__()
        self.sent: list[int] = []
        self.received: list[int] = []
        self.process = docker_process(
            docker, host, "exec", "-i", "counter", "cat", stdin=subprocess.PIPE
        )

    def run(self) -> None:
        sender = threading.Thread(target=self._send, daemon=True)
        sender.start()
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.received.append(int(line))
                self.replies.times.append(time.monotonic())
        sender.join(60)
        assert self.process.wait(60) == 0

    def _send(self) -> None:
        assert self.process.stdin is not None
        with self.process.stdin as stdin:
            while not self.stopping.is_set():
                self.sent.append(len(self.sent))
                stdin.write(b"%d\n" % self.sent[-1])
                stdin.flush()
                time.sleep(INTERVAL)
