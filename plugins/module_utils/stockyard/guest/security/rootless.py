# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dockerd as an ordinary user: a unit of that user's lingering systemd, and a link at the usual
path of the socket.
"""

from __future__ import annotations

from ...model.recipe import GuestFile
from ..docker_packages import DockerPackages
from ..rendering import render
from .part import UNITS, Part

USER, UID, HOME = "stockyard-docker", 64100, "/var/lib/stockyard-docker"
# A path on disk: the daemon's mount name space hides /run.
SOCKET = f"{HOME}/run/docker.sock"
FOLDER = "/usr/lib/stockyard/rootless"
FIRST, COUNT = 165536, 65536
LINK = 0o120777
PACKAGES = (
    "uidmap",
    "slirp4netns",
    "dbus-user-session",
    "libpam-systemd",
    "fuse-overlayfs",
)

USER_UNIT = """\
[Unit]
Description=Docker of an ordinary user
ConditionUser={{ user }}

[Service]
Type=notify
NotifyAccess=all
Environment=PATH={{ folder }}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart={{ program }} --config-file /etc/docker/rootless.json -H unix://{{ socket }}
ExecReload=/bin/kill -s HUP $MAINPID
TimeoutStartSec=0
Restart=always
RestartSec=2
LimitNOFILE=infinity
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
Delegate=yes
KillMode=mixed
"""
# The script above finds this program first, by its PATH.
DOCKERD = """\
#!/bin/sh
# dockerd gives its own containerd 15 seconds, which is not enough on a busy hypervisor.
state=$XDG_RUNTIME_DIR/stockyard-containerd
mkdir -p "$state"
rm -f "$state/containerd.sock"
while :; do
  env -u NOTIFY_SOCKET containerd --config /etc/containerd/config.toml \\
    --root "$HOME/.local/share/containerd" \\
    --state "$state/state" --address "$state/containerd.sock"
  sleep 1
done &
until [ -S "$state/containerd.sock" ]; do sleep 0.2; done
exec {{ dockerd }} --containerd "$state/containerd.sock" "$@"
"""
# This unit has the usual name, so that other units and users can start, stop and await
# docker.service.
SYSTEM_UNIT = """\
[Unit]
Description=Docker of the user {{ user }}
Requires=user@{{ uid }}.service
After=user@{{ uid }}.service

[Service]
Type=oneshot
RemainAfterExit=yes
User={{ user }}
Environment=XDG_RUNTIME_DIR=/run/user/{{ uid }}
ExecStart=/usr/bin/systemctl --user start docker.service
ExecStop=/usr/bin/systemctl --user stop docker.service
Restart=on-failure
RestartSec=2
TimeoutStartSec=0

[Install]
WantedBy=multi-user.target
"""
FRONT_GROUP = "[Service]\nSupplementaryGroups={{ user }}\n"
DELEGATE = "[Service]\nDelegate=cpu cpuset io memory pids\n"
SYSUSERS = """\
u {{ user }} {{ uid }} "rootless Docker" {{ home }} /bin/sh
m stockyard-tls {{ user }}
m {{ login }} {{ user }}
"""
TMPFILES = """\
d {{ home }} 0750 {{ user }} {{ user }}
d {{ home }}/run 0750 {{ user }} {{ user }}
d /var/lib/systemd/linger 0755 root root
f /var/lib/systemd/linger/{{ user }} 0644 root root
L+ /run/docker.sock - - - - {{ socket }}
"""


def part(login: str, docker: DockerPackages) -> Part:
    """Return the packages, files and units of a rootless dockerd.

    :param login: login of the host, which may use Docker.
    :param docker: the packages of Docker.
    """
    values = {
        "user": USER,
        "uid": str(UID),
        "home": HOME,
        "socket": SOCKET,
        "login": login,
        "program": docker.rootless_script,
        "dockerd": docker.dockerd,
        "folder": FOLDER,
    }
    ranges = f"{USER}:{FIRST}:{COUNT}\n"
    templates = {
        "/etc/systemd/user/docker.service": USER_UNIT,
        f"{UNITS}/docker.service": SYSTEM_UNIT,
        f"{UNITS}/user@{UID}.service.d/delegate.conf": DELEGATE,
        "/etc/sysusers.d/stockyard-rootless.conf": SYSUSERS,
        "/etc/tmpfiles.d/stockyard-rootless.conf": TMPFILES,
        f"{UNITS}/stockyard-tls.service.d/rootless.conf": FRONT_GROUP,
        f"{UNITS}/stockyard-tls-spare.service.d/rootless.conf": FRONT_GROUP,
        "/etc/modules-load.d/stockyard-rootless.conf": "tun\nip_tables\nbr_netfilter\n",
        "/etc/subuid": ranges,
        "/etc/subgid": ranges,
    }
    files = {path: GuestFile(render(text, **values)) for path, text in templates.items()}
    files[f"{FOLDER}/dockerd"] = GuestFile(render(DOCKERD, **values), 0o755)
    return Part(
        packages=(*PACKAGES, *docker.rootless),
        files=files,
        enable=("docker.service",),
        masked=("docker.socket", "containerd.service"),
    )
