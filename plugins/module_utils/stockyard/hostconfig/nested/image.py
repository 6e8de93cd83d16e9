# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Image of a nested Docker: a few files, because all programs are the host's own, mounted into it.
Pure.
"""

from __future__ import annotations

import io
import json
import struct
import tarfile
from dataclasses import dataclass
from typing import Any

from ...guest.texts import CONTAINERD_CONFIG

FOLDER = "/opt/stockyard"
STORAGE = "/storage"
SOCKET = f"{STORAGE}/run/docker.sock"
WORK = f"{STORAGE}/work"
DIRECTORIES = (
    "dev",
    "etc",
    "etc/alternatives",
    "etc/ssl",
    "etc/ssl/certs",
    "opt",
    FOLDER[1:],
    "proc",
    "root",
    STORAGE[1:],
    "sys",
    "usr",
    "var",
)
LINKS = {
    "bin": "usr/bin",
    "sbin": "usr/sbin",
    "lib": "usr/lib",
    "lib64": "usr/lib64",
    "var/run": "../run",
    "var/tmp": "../tmp",
    # dockerd writes a key into this directory. The key is worthless.
    "etc/docker": "/run/etc-docker",
}
# Programs that map users need these file capabilities. Set-uid root is not sufficient: the kernel
# lets a program write the map of a user name space only if it runs as the owner of that name space
# or has SYS_ADMIN, which no container has.
MAPPERS = {"newuidmap": 7, "newgidmap": 6}
START = """\
#!/bin/sh
# The host hands this container's cgroup over to its user.
until [ -O /sys/fs/cgroup/cgroup.procs ]; do sleep 0.2; done
exec rootlesskit --state-dir=/run/rootlesskit --net=slirp4netns --mtu=65520 \\
  --slirp4netns-sandbox=false --slirp4netns-seccomp=false --disable-host-loopback \\
  --port-driver=none --copy-up=/etc --copy-up=/run --cgroupns \\
  /opt/stockyard/daemons
"""
DAEMONS = """\
#!/bin/sh
set -e
rm -rf /run/docker /run/containerd /run/xtables.lock /storage/run
mkdir -p /run/etc-docker /storage/docker /storage/containerd /storage/run /storage/work
# A rootless one has a name space of cgroups that is its own, and may mount them in it.
if [ ! -w /sys/fs/cgroup/cgroup.procs ]; then
  umount /sys/fs/cgroup
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
# A cgroup with processes delegates no controllers: the processes move to a cgroup of their own.
mkdir -p /sys/fs/cgroup/init
until
  while read -r pid; do
    echo "$pid" >/sys/fs/cgroup/init/cgroup.procs || :
  done </sys/fs/cgroup/cgroup.procs
  sed 's/^/+/; s/ / +/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
do sleep 0.2; done 2>/dev/null
# dockerd runs as root in a container: if it called itself rootless, it would keep no limits.
unset ROOTLESSKIT_STATE_DIR ROOTLESSKIT_PARENT_EUID ROOTLESSKIT_PARENT_EGID
# dockerd gives its own containerd 15 seconds, which is not enough on a busy hypervisor.
containerd --config /opt/stockyard/containerd.toml --root /storage/containerd &
until [ -S /run/containerd/containerd.sock ]; do
  kill -0 $!
  sleep 0.2
done
exec dockerd --config-file /opt/stockyard/daemon.json
"""
DAEMON = {
    "containerd": "/run/containerd/containerd.sock", "data-root": f"{STORAGE}/docker", "exec-root":
    "/run/docker", "exec-opts": ["native.cgroupdriver=cgroupfs"], "hosts": [f"unix://{SOCKET}"],
    "pidfile": "/run/docker.pid", "storage-driver": "overlay2", "log-driver": "json-file",
    "log-opts": {"max-size": "10m", "max-file": "3"},
}  # fmt: skip


@dataclass(frozen=True)
class Users:
    """Users of a nested Docker.

    :param user: the ID of the job's user inside the container.
    :param ranges: the IDs inside the container that this user may map: first and count of each.
    :param root: the ID on the host of the container's root.
    """

    user: int
    ranges: tuple[tuple[int, int], ...] = ()
    root: int = 0

    @property
    def outside(self) -> int:
        """Return the ID on the host of the job's user."""
        return self.root + self.user


def image(users: Users, config: dict[str, Any], programs: dict[str, bytes]) -> bytes:
    """Return a tar archive for ``docker import``. Equal parameters give equal bytes.

    :param config: keys of ``daemon.json``, which override the defaults.
    :param programs: the host's programs that map users.
    """
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8"
    ) as archive:
        for name in sorted(DIRECTORIES):
            _add(archive, name, tarfile.DIRTYPE, 0o755)
        for name in ("run", "tmp"):
            # A file system that is mounted at this directory gets the directory's mode.
            _add(archive, name, tarfile.DIRTYPE, 0o1777)
        for name, target in LINKS.items():
            _add(archive, name, tarfile.SYMTYPE, 0o777, target=target)
        for name, text in _texts(users, config).items():
            _add(
                archive,
                name,
                tarfile.REGTYPE,
                0o755 if text.startswith("#!") else 0o644,
                text.encode(),
            )
        for name, content in sorted(programs.items()):
            capability = _may(MAPPERS[name], users)
            _add(
                archive,
                f"{FOLDER[1:]}/{name}",
                tarfile.REGTYPE,
                0o755,
                content,
                capability=capability,
            )
    return buffer.getvalue()


def _texts(users: Users, config: dict[str, Any]) -> dict[str, str]:
    number = users.user
    login, group = (
        (f"job:x:{number}:{number}::{WORK}:/bin/sh\n", f"job:x:{number}:\n") if number else ("", "")
    )
    ranges = "".join(f"job:{first}:{count}\n" for first, count in users.ranges)
    return {
        "etc/passwd": f"root:x:0:0::{WORK}:/bin/sh\n{login}"
        "nobody:x:65534:65534::/:/usr/sbin/nologin\n",
        "etc/group": f"root:x:0:\n{group}nogroup:x:65534:\n",
        "etc/subuid": ranges,
        "etc/subgid": ranges,
        f"{FOLDER[1:]}/start": START,
        f"{FOLDER[1:]}/daemons": DAEMONS,
        f"{FOLDER[1:]}/containerd.toml": CONTAINERD_CONFIG,
        f"{FOLDER[1:]}/daemon.json": json.dumps({**DAEMON, **config}, indent=1, sort_keys=True)
        + "\n",
    }


def _may(bit: int, users: Users) -> bytes:
    """Return an extended attribute security.capability, effective from the start:
    linux/capability.h, vfs_cap_data.

    Under a dockerd that remaps users it contains the ID of root of that user name space.
    """
    if not users.root:
        return struct.pack("<5I", 0x02000001, 1 << bit, 0, 0, 0)
    return struct.pack("<6I", 0x03000001, 1 << bit, 0, 0, 0, users.root)


def _add(
    archive: tarfile.TarFile,
    name: str,
    kind: bytes,
    mode: int,
    content: bytes = b"",
    *,
    target: str = "",
    capability: bytes = b"",
) -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname, entry.size = kind, mode, target, len(content)
    if capability:
        # The attribute can have any bytes: those that are not UTF-8 pass unchanged.
        entry.pax_headers = {
            "SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape")
        }
    archive.addfile(entry, io.BytesIO(content))
