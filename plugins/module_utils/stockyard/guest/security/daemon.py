# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker's own settings."""

from __future__ import annotations

import json
from typing import Any

from ...model.recipe import GuestFile
from ...model.security import Settings
from . import addresses, authorization, limits
from .part import NOTHING, Part

PATH = "/etc/docker/daemon.json"
ROOTLESS = "/etc/docker/rootless.json"
SECCOMP = "/etc/docker/seccomp.json"
# In every host, whatever its profile.
BASE = {
    "log-driver": "json-file",
    "log-opts": {"max-size": "10m", "max-file": "3"},
    **addresses.KEYS,
}
NOFILE = {"Name": "nofile", "Soft": 1024, "Hard": 65536}
# The first id that root of a remapped container has on the host; one range is 65536 wide.
REMAP_USER, REMAP_FIRST, REMAP_COUNT = "dockremap", 100000, 65536


def keys(settings: Settings) -> dict[str, Any]:
    """The keys of ``daemon.json`` that a profile sets."""
    found: dict[str, Any] = {}
    if settings.user_namespaces == "remap":
        found["userns-remap"] = REMAP_USER
    if settings.no_new_privileges:
        found["no-new-privileges"] = True
    if not settings.icc:
        # A proxy in user space would carry packets past the rules that keep containers apart.
        found |= {"icc": False, "userland-proxy": False}
    if settings.seccomp:
        found["seccomp-profile"] = SECCOMP
    if settings.policy is not None:
        found["authorization-plugins"] = [authorization.NAME]
    if settings.user_namespaces != "rootless":
        found |= _as_root(settings)
    return {**BASE, "default-ulimits": {"nofile": NOFILE}, **found} if found else dict(BASE)


def _as_root(settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = (
        {"cgroup-parent": limits.SLICE} if limits.for_all(settings.limits) else {}
    )
    return found if settings.profile == "trusted" else {**found, "live-restore": True}


def part(settings: Settings) -> Part:
    """dockerd as root. A profile that changes nothing leaves the file to the image."""
    files = _seccomp(settings)
    if settings.user_namespaces == "remap":
        line = f"{REMAP_USER}:{REMAP_FIRST}:{REMAP_COUNT}\n"
        files |= {
            "/etc/subuid": GuestFile(line),
            "/etc/subgid": GuestFile(line),
            "/etc/sysusers.d/stockyard-remap.conf": GuestFile(
                f'u {REMAP_USER} - "root of containers"\n'
            ),
        }
    if keys(settings) != BASE:
        files[PATH] = GuestFile(text(settings))
    return Part(files=files) if files else NOTHING


def rootless(settings: Settings) -> Part:
    """dockerd as an ordinary user: it reads another file."""
    return Part(files={**_seccomp(settings), ROOTLESS: GuestFile(text(settings))})


def text(settings: Settings) -> str:
    """``daemon.json`` as it is written."""
    # To a rootless dockerd the group of its user is root's; any other is one that nobody outside is
    # in.
    group = {"group": "root"} if settings.user_namespaces == "rootless" else {}
    return json.dumps({**keys(settings), **group}, indent=2, sort_keys=True) + "\n"


def _seccomp(settings: Settings) -> dict[str, GuestFile]:
    return {SECCOMP: GuestFile(settings.seccomp)} if settings.seccomp else {}
