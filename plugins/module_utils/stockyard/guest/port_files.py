# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files in a guest with which the hypervisor forwards the ports of containers."""

from __future__ import annotations

import json
from dataclasses import replace

from ..model import daemon_json
from ..model.recipe import GuestFile
from ..model.security import Settings
from . import ports
from .ports import proxy, publications, relay
from .security import daemon
from .security.authorization import _source

PROXY = "/usr/lib/stockyard/docker-proxy"
PACKAGE = "/usr/lib/stockyard/stockyard_ports"
# dockerd starts this program for each published port. A host without a relay uses docker-proxy at
# once: a shell starts much sooner than Python.
SCRIPT = """\
#!/bin/sh
# Ask for a forward of the hypervisor, if this host has a relay, and become docker-proxy.
PATH="$PATH:/usr/sbin:/usr/libexec/docker"
read -r machine </etc/machine-id
[ -e "/run/stockyard/container-ports.$machine" ] || exec docker-proxy "$@"
PYTHONPATH=/usr/lib/stockyard exec /usr/bin/python3 -S -m stockyard_ports.proxy "$@"
"""


def with_proxy(files: dict[str, GuestFile], settings: Settings) -> dict[str, GuestFile]:
    """Return the files of an image whose dockerd starts stockyard's program for published ports. A
    program in the declared ``daemon.json`` stays.
    """
    if not settings.starts_proxies or daemon.PATH not in files:
        return files
    declared_keys = daemon_json.parse(files[daemon.PATH].text, daemon.PATH)
    keys = {"userland-proxy-path": PROXY, **declared_keys}
    text = json.dumps(keys, indent=2, sort_keys=True) + "\n"
    modules = {"__init__": ports, "proxy": proxy, "publications": publications, "relay": relay}
    return {
        **files,
        **{f"{PACKAGE}/{name}.py": GuestFile(_source(module)) for name, module in modules.items()},
        PROXY: GuestFile(SCRIPT, 0o755),
        daemon.PATH: replace(files[daemon.PATH], text=text),
    }
