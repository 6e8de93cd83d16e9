# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of the authorization plugin in a host: its program, its policy, its unit."""

from __future__ import annotations

import json
from typing import Any

from ...model import codec
from ...model.recipe import GuestFile
from ...model.security import Policy, Settings
from . import addresses, authz
from .authz import body, policy, rules, schema, server, tables
from .part import NOTHING, UNITS, Part

NAME = "stockyard-authz"
UNIT = f"{NAME}.service"
POLICY = "/etc/stockyard/authorization.json"
SOCKET = f"/run/{NAME}/plugin.sock"
PROGRAM = "/usr/lib/stockyard/stockyard_authz"
SERVICE = f"""\
[Unit]
Description=Docker authorization plugin
Before=docker.service
StartLimitIntervalSec=0

[Service]
User={NAME}
RuntimeDirectory={NAME}
RuntimeDirectoryMode=0700
Environment=PYTHONPATH=/usr/lib/stockyard
ExecStart=/usr/bin/python3 -m stockyard_authz.server {SOCKET} {POLICY}
Restart=always
RestartSec=1
OOMScoreAdjust=-900
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
PrivateNetwork=yes
RestrictAddressFamilies=AF_UNIX
MemoryDenyWriteExecute=yes
SystemCallFilter=@system-service

[Install]
WantedBy=multi-user.target
"""
# dockerd asks the plugin about each request, and refuses all requests while the plugin is down.
ORDER = f"[Unit]\nWants={UNIT}\nAfter={UNIT}\n"


def part(settings: Settings) -> Part:
    """Return the plugin's files if the settings contain a policy."""
    if settings.policy is None:
        return NOTHING
    files = {
        f"{UNITS}/{UNIT}": GuestFile(SERVICE),
        f"{UNITS}/docker.service.d/authorization.conf": GuestFile(ORDER),
        f"/etc/docker/plugins/{NAME}.spec": GuestFile(f"unix://{SOCKET}\n"),
        "/etc/sysusers.d/stockyard-authz.conf": GuestFile(
            f'u {NAME} - "Docker authorization plugin"\n'
        ),
        POLICY: GuestFile(text(settings)),
    }
    modules = (body, policy, rules, schema, server, tables)
    files[f"{PROGRAM}/__init__.py"] = GuestFile(_source(authz))
    files |= {
        f"{PROGRAM}/{module.__name__.rpartition('.')[2]}.py": GuestFile(_source(module))
        for module in modules
    }
    return Part(files=files, enable=(UNIT,))


def text(settings: Settings) -> str:
    """Return the policy in the plugin's format."""
    user_policy = settings.policy or Policy()
    # A build request can select the host's network in a part that no plugin sees. With remap
    # dockerd itself refuses that.
    build = user_policy.build and settings.user_namespaces == "remap"
    pools = [base for base, _size in addresses.POOLS]
    return (
        json.dumps({**codec.to_dict(user_policy), "build": build, "pools": pools}, sort_keys=True)
        + "\n"
    )


def _source(module: Any) -> str:
    """Return a module's text, also from the zip file that Ansible transfers modules in, or through
    Ansible's loader of collections.
    """
    source = module.__loader__.get_source(module.__name__)
    return source.decode() if isinstance(source, bytes) else str(source)
