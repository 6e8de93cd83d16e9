# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of the HTTP reader in a host. The reader serves Docker's usual socket; dockerd listens
on a separate socket, which only the reader can use.
"""

from __future__ import annotations

from ...model.recipe import GuestFile
from ...model.security import Settings
from . import reader
from .authorization import _source
from .part import NOTHING, UNITS, Part
from .reader import exchange, grammar, server, streams

NAME = "stockyard-reader"
UNIT = f"{NAME}.service"
SOCKET_UNIT = f"{NAME}.socket"
# dockerd's own socket.
FOLDER = "/run/stockyard-docker"
DOCKER = f"{FOLDER}/docker.sock"
PROGRAM = "/usr/lib/stockyard/stockyard_reader"
PACKAGES = ("python3-h11",)
# systemd owns both sockets: the reader and dockerd can start in any order, and a restart refuses no
# connection.
SOCKET = """\
[Unit]
Description=Docker's socket, in front of the HTTP reader

[Socket]
ListenStream=/run/docker.sock
SocketMode=0660
SocketUser=root
SocketGroup=docker
Backlog=4096

[Install]
WantedBy=sockets.target
"""
DOCKER_SOCKET = f"""\
[Socket]
ListenStream=
ListenStream={DOCKER}
SocketGroup={NAME}
Backlog=4096
"""
SERVICE = f"""\
[Unit]
Description=HTTP reader in front of dockerd
Requires={SOCKET_UNIT}
After={SOCKET_UNIT}
StartLimitIntervalSec=0

[Service]
User={NAME}
Environment=PYTHONPATH=/usr/lib/stockyard
ExecStart=/usr/bin/python3 -m stockyard_reader.server {DOCKER}
Restart=always
RestartSec=1
LimitNOFILE=10000
OOMScoreAdjust=-900
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=yes
TemporaryFileSystem=/run
BindPaths={FOLDER}
PrivateTmp=yes
PrivateDevices=yes
PrivateNetwork=yes
RestrictAddressFamilies=AF_UNIX
MemoryDenyWriteExecute=yes
SystemCallFilter=@system-service

[Install]
WantedBy=multi-user.target
"""


def part(settings: Settings) -> Part:
    """Return the reader's files if the settings contain a policy. Without a policy strict reading
    serves no purpose.
    """
    if settings.policy is None:
        return NOTHING
    files = {
        f"{UNITS}/{UNIT}": GuestFile(SERVICE),
        f"{UNITS}/{SOCKET_UNIT}": GuestFile(SOCKET),
        f"{UNITS}/docker.socket.d/reader.conf": GuestFile(DOCKER_SOCKET),
        "/etc/sysusers.d/stockyard-reader.conf": GuestFile(f'u {NAME} - "HTTP reader"\n'),
        "/etc/tmpfiles.d/stockyard-reader.conf": GuestFile(f"d {FOLDER} 0755 root root\n"),
    }
    modules = {
        "__init__": reader,
        "exchange": exchange,
        "grammar": grammar,
        "server": server,
        "streams": streams,
    }
    files |= {
        f"{PROGRAM}/{name}.py": GuestFile(_source(module)) for name, module in modules.items()
    }
    return Part(packages=PACKAGES, files=files, enable=(SOCKET_UNIT, UNIT))
