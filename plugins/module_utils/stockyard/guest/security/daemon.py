# Copyright: (c) 2026, the stockyard authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of dockerd: ``daemon.json``, seccomp and subordinate ids."""

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
# The settings of all hosts, for any profile.
BASE = {
    "log-driver": "json-file",
    "log-opts": {"max-size": "10m", "max-file": "3"},
    **addresses.KEYS,
}
NOFILE = {"Name": "nofile", "Soft": 1024, "Hard": 65536}
# The first id that root of a remapped container has on the host; one range is 65536 wide.
REMAP_USER, REMAP_FIRST, REMAP_COUNT = "dockremap", 100000, 65536


def keys(settings: Settings) -> dict[str, Any]:
    """Return the keys of ``daemon.json`` that a profile sets."""
    profile_keys: dict[str, Any] = {}
    if settings.user_namespaces == "remap":
        profile_keys["userns-remap"] = REMAP_USER
    if settings.no_new_privileges:
        profile_keys["no-new-privileges"] = True
    if not settings.icc:
        # A proxy in user space would forward packets around the rules that isolate containers.
        profile_keys |= {"icc": False, "userland-proxy": False}
    if settings.seccomp:
        profile_keys["seccomp-profile"] = SECCOMP
    if settings.policy is not None:
        profile_keys["authorization-plugins"] = [authorization.NAME]
    if settings.user_namespaces != "rootless":
        profile_keys |= _as_root(settings)
    return (
        {**BASE, "default-ulimits": {"nofile": NOFILE}, **profile_keys}
        if profile_keys
        else dict(BASE)
    )


def _as_root(settings: Settings) -> dict[str, Any]:
    engine_keys: dict[str, Any] = (
        {"cgroup-parent": limits.SLICE} if limits.for_all(settings.limits) else {}
    )
    return engine_keys if settings.profile == "trusted" else {**engine_keys, "live-restore": True}


def part(settings: Settings) -> Part:
    """Return the files for a dockerd that runs as root. If the profile changes no setting, the
    image's own ``daemon.json`` stays.
    """
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
    """Return the files for a dockerd that runs as an ordinary user, which reads another file."""
    return Part(files={**_seccomp(settings), ROOTLESS: GuestFile(text(settings))})


def text(settings: Settings) -> str:
    """Return the text of ``daemon.json``."""
    # A rootless dockerd sees the group of its user as root. Any other group in its name space has
    # no members outside.
    group = {"group": "root"} if settings.user_namespaces == "rootless" else {}
    return json.dumps({**keys(settings), **group}, indent=2, sort_keys=True) + "\n"


def _seccomp(settings: Settings) -> dict[str, GuestFile]:
    return {SECCOMP: GuestFile(settings.seccomp)} if settings.seccomp else {}
